//! How large the maps are made: as large as this host and what is asked for need.

use tracer_ebpf::abi::call::{Block, Bucket, STARTS};

use crate::kernel::Facts;

/// How large the maps are made.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Memory cgroups that can be counted at once.
    pub cgroups: u32,
    /// Tasks that can be between a function's entry and its return.
    pub in_flight: u32,
    /// Memory cgroups, sites and stacks of charges.
    pub sites: [u32; 3],
    /// Streams of log lines, and groups of lengths of their lines.
    pub streams: u32,
    pub lengths: u32,
    /// Files whose pages became dirty.
    pub dirty: u32,
    /// Who signals whom.
    pub signals: u32,
    /// Dead cgroups that are told one by one, and living ones around them.
    pub dead: [u32; 2],
    pub calls: CallRoom,
    /// Listening ports, and times of life of processes.
    pub work: [u32; 2],
    /// Tasks that can be in uninterruptible sleep at once.
    pub blocked: u32,
}

/// Room for system calls.
#[derive(Debug, Clone, Copy)]
pub struct CallRoom {
    /// Those of every memory cgroup, not of chosen ones.
    pub every: bool,
    /// Of each CPU, powers of two: for four calls of a cgroup each, and for a group of durations of one call.
    pub buckets: u32,
    pub blocks: u32,
}

const NO_CALLS: CallRoom = CallRoom { every: false, buckets: 1, blocks: 1 };

impl Sizes {
    /// Room for as many cgroups again as there are, and for a thousand beyond; what is not used is one entry.
    pub fn new(cgroups: usize, facts: &Facts) -> Sizes {
        let room = (cgroups * 2 + 1024).next_power_of_two().clamp(2048, 32768);
        Sizes {
            cgroups: room as u32,
            in_flight: in_flight(facts),
            sites: [1; 3],
            streams: 1,
            lengths: 1,
            dirty: 1,
            signals: 1,
            dead: [1, 1024],
            calls: NO_CALLS,
            work: [1; 2],
            blocked: 1,
        }
    }

    /// For an object that only follows charges to their sites: a stack takes 300 bytes.
    pub fn of_sites(facts: &Facts) -> Sizes {
        let sites = [TARGETS, 4096, 2048];
        Sizes {
            cgroups: 1,
            in_flight: in_flight(facts),
            sites,
            streams: 1,
            lengths: 1,
            dirty: 1,
            signals: 1,
            dead: [1; 2],
            calls: NO_CALLS,
            work: [1; 2],
            blocked: 1,
        }
    }

    /// For an object that only counts system calls, of so many memory cgroups, or of each there is: a call of a cgroup takes
    /// 168 bytes of each CPU, and 264 for each octave of its durations, of which an ordinary call has six.
    pub fn of_calls(facts: &Facts, cgroups: usize, every: bool) -> Sizes {
        let cgroups = if every { cgroups + 32 } else { cgroups };
        let cpus = aya::util::nr_cpus().unwrap_or(1);
        // What each CPU may take; a container makes some fifty different calls, few of them on each CPU.
        let most = CALLS_MOST / cpus;
        let within = |wanted: usize, size: usize, least: usize, greatest: usize| {
            let bound = (most / size).max(1).ilog2();
            wanted.next_power_of_two().clamp(least, greatest).min(1 << bound).max(16) as u32
        };
        let buckets = within(cgroups * 16, size_of::<Bucket>(), 64, 4096);
        let blocks = within(cgroups * 128, size_of::<Block>(), 2048, 32768);
        Sizes { calls: CallRoom { every, buckets, blocks }, ..Sizes::of_sites(facts) }.without_sites()
    }

    fn without_sites(self) -> Sizes {
        Sizes { sites: [1; 3], in_flight: 1, ..self }
    }

    /// With dead cgroups one by one: each takes 184 bytes.
    pub fn with_dead(mut self) -> Sizes {
        self.dead[0] = 8192;
        self
    }

    /// With tasks in uninterruptible sleep.
    pub fn with_blocked(mut self) -> Sizes {
        self.blocked = BLOCKED;
        self
    }

    /// With streams of log lines: two for each container, and pipes that turn out to be none. A group of lengths takes
    /// a KiB, and an ordinary stream has about four.
    pub fn with_logs(mut self, lengths: bool) -> Sizes {
        self.streams = (self.cgroups * 2).clamp(4096, 32768);
        self.lengths = if lengths { self.streams } else { 1 };
        self
    }

    /// With signals that end a process: each pair takes 250 bytes, and goes with its sender.
    pub fn with_signals(mut self) -> Sizes {
        self.signals = SIGNALS;
        self
    }

    /// With work in flight: a time of life takes 100 bytes.
    pub fn with_work(mut self) -> Sizes {
        self.work = [4096, 4096];
        self
    }

    /// With the files that become dirty.
    pub fn with_dirty(mut self) -> Sizes {
        self.dirty = FILES;
        self
    }

    /// Entries of each map, by its name in `tracer-ebpf/src/maps.rs`; the others are as large as they say there.
    pub(super) fn of_maps(&self, facts: &Facts) -> [(&'static str, u32); 25] {
        let with = |wanted: u32, entries: u32| if wanted > 1 { entries } else { 1 };
        let calls = self.calls.blocks > 1;
        // Each CPU has a stretch of its own.
        let cpus = if calls { aya::util::nr_cpus().unwrap_or(1) as u32 } else { 1 };
        [
            ("CALL_STARTS", if calls { STARTS } else { 1 }),
            ("CALLS", self.calls.buckets * cpus),
            ("CALL_TIMES", self.calls.blocks * cpus),
            ("CGROUPS", self.cgroups),
            ("RECLAIMS", self.cgroups),
            ("IN_FLIGHT", self.in_flight),
            ("SITE_TARGETS", self.sites[0]),
            ("SITES", self.sites[1]),
            ("STACKS", self.sites[2]),
            ("DEAD", self.dead[0]),
            ("DEAD_SUMS", self.dead[1]),
            ("ARRIVALS", self.work[0]),
            ("LIVES", self.work[1]),
            ("STREAMS", self.streams),
            ("STREAM_MODES", self.streams),
            ("LENGTHS", self.lengths),
            ("SEEN", if facts.preemptible { with(self.streams, TASKS) } else { 1 }),
            ("LOG_FLIGHT", with(self.streams, FLIGHTS)),
            ("SIGNALS", self.signals),
            ("BLOCKED", self.blocked),
            ("BLOCKED_TIMES", with(self.blocked, self.cgroups)),
            ("DURATIONS", with(self.blocked, DURATIONS)),
            ("DIRTY_FILES", self.dirty),
            ("DIRTY_BEYOND", with(self.dirty, BEYOND)),
            ("DIRTY_CGROUPS", with(self.dirty, self.cgroups)),
        ]
    }
}

/// What counts of system calls may take for each of their maps, bytes.
const CALLS_MOST: usize = 32 << 20;

/// Memory cgroups whose charges can be followed at once.
pub const TARGETS: u32 = 1024;

/// Files made dirty, by process and memory cgroup; those at rest are taken out before there is no room.
pub const FILES: u32 = 16384;
/// Processes of whose files some had no room.
const BEYOND: u32 = 1024;

/// Pairs of sender and target between two looks.
const SIGNALS: u32 = 2048;

/// Tasks that can be in a write or read at once, where entry and return are paired.
const FLIGHTS: u32 = 16384;

/// Tasks in uninterruptible sleep at once; a host on which so many are is beyond help.
const BLOCKED: u32 = 16384;
/// Octaves of durations of all memory cgroups; one that has a disk to wait for has about six.
const DURATIONS: u32 = 8192;

/// Tasks told apart by the copies of a program.
const TASKS: u32 = 1 << 16;

fn in_flight(facts: &Facts) -> u32 {
    if facts.kprobe { 4096 } else { 1 }
}
