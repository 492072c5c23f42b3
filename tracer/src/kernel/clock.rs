//! The kernel's clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since boot, with the time of suspends: what processes are born by.
pub fn boottime() -> Duration {
    of(ClockId::Boottime)
}

/// Since boot, without them: the clock of `bpf_ktime_get_ns`.
pub fn monotonic() -> Duration {
    of(ClockId::Monotonic)
}

/// What this thread took of a CPU so far: what others take meanwhile is no reason to do less.
pub fn thread_cpu() -> Duration {
    of(ClockId::ThreadCPUTime)
}

/// None of them is ever before its beginning.
fn of(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
