//! Every way in which a program in the kernel can lose data: a number, a sentence, a counter.

macro_rules! failures {
    ($($name:ident: $sentence:literal;)+) => {
        /// One way of losing data in the kernel; the index into the `FAILURES` map.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Failure { $($name),+ }

        impl Failure {
            pub const ALL: &'static [Failure] = &[$(Failure::$name),+];
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// What was lost, to follow a count.
            pub const fn sentence(self) -> &'static str {
                match self { $(Failure::$name => $sentence),+ }
            }
        }
    };
}

failures! {
    RingFull: "events for which the ring buffer had no room";
    CountersFull: "counts of cgroups for which the counter map had no room";
    PairLost: "charges whose function entry and return could not be paired";
    PathTruncated: "cgroup paths longer than an event holds";
    SitesFull: "samples of charges for which the map of sites had no room";
    StreamsFull: "writes to pipes and terminals for which the map of streams had no room";
    LengthsFull: "log lines for whose length the map of lengths had no room";
    WriteUnpaired: "writes whose function entry and return could not be paired";
    DirtyFilesFull: "files made dirty for which the map of files had no room: their pages count for the container and the process only";
    DirtyLost: "times that pages became dirty or were written of a cgroup for which the counter map had no room";
    ReclaimLost: "direct reclaims that could not be timed";
    DeadParentsFull: "sums of dead cgroups for which the map of those around them had no room";
    CallsCrossed: "system calls that were not counted because of too many under way at once";
    CallsFull: "system calls for which the map of calls had no room";
    CallTimesFull: "system calls whose duration is in no percentile because the map of durations had no room";
    SignalsFull: "signals that end a process for which the map of signals had no room";
    ArrivalsFull: "connections for which the map of listening ports had no room";
    LivesFull: "ended processes for which the map of times of life had no room";
    StackLost: "kernel stacks of charges that could not be kept";
    BlockedFull: "tasks in uninterruptible sleep for which the map had no room";
    DurationsFull: "sleeps for whose duration the map had no room";
}
