//! Uninterruptible sleep: tasks that are in it now, and how long those that left it were.

use super::line::octave;

/// States of a task (include/linux/sched.h): macros, which BTF does not show; the same in every kernel since 4.2.
pub const UNINTERRUPTIBLE: u32 = 0x2;
/// Woken by a fatal signal.
pub const WAKEKILL: u32 = 0x100;
/// Is no load: idle kernel threads.
pub const NOLOAD: u32 = 0x400;

/// Whether a task in this state is blocked.
#[inline(always)]
pub const fn is_blocked(state: u32) -> bool {
    state & UNINTERRUPTIBLE != 0 && state & NOLOAD == 0
}

/// A task that is blocked now, by its number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocked {
    /// When it began, by `bpf_ktime_get_ns`.
    pub since: u64,
    /// kernfs id of its memory cgroup.
    pub cgroup: u64,
    pub tgid: u32,
    pub state: u32,
    /// `Flag`s.
    pub flags: u32,
    /// The task that has the lock it waits for, where the kernel keeps that, or 0.
    pub owner: u32,
    /// Where its address is counted, see [`place`].
    pub place: u32,
    /// Always 0: the kernel copies whole values.
    pub padding: u32,
}

/// It waits for a device, as the kernel counts that (`in_iowait`).
pub const IN_IO: u32 = 1;
/// It is held by the freezer.
pub const FROZEN: u32 = 2;
/// It was blocked before attach: `since` is when it last got a processor,
pub const BEFORE: u32 = 4;
/// or, where the kernel does not keep that, when it was found.
pub const FOUND: u32 = 8;

/// Those that left it, of one memory cgroup on one CPU since attach; times in ns.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockedCount {
    pub count: u64,
    pub time: u64,
    pub max: u64,
    /// Of these, for a device.
    pub io_count: u64,
    pub io_time: u64,
    /// Of the others, those that a fatal signal ends: parents of vfork, waits for a server.
    pub killable_count: u64,
    pub killable_time: u64,
}

/// Durations of one octave of one memory cgroup.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DurationKey {
    pub cgroup: u64,
    pub octave: u32,
    /// Always 0: the kernel compares keys byte by byte.
    pub padding: u32,
}

/// Buckets of an octave: none is wider than 1/32 of its lower bound.
pub const STEPS: usize = 32;
const STEP_BITS: u32 = 5;
pub type Durations = [u64; STEPS];

/// Octave and step of a duration in microseconds.
#[inline(always)]
pub fn bucket(us: u64) -> (u32, u32) {
    if us < STEPS as u64 {
        return (0, us as u32);
    }
    let octave = octave(us);
    (octave - (STEP_BITS - 1), (us >> (octave - STEP_BITS)) as u32 & (STEPS as u32 - 1))
}

/// The greatest duration that a bucket takes.
pub const fn upper(octave: u32, step: u32) -> u64 {
    if octave == 0 {
        return step as u64;
    }
    let width = 1_u64 << (octave - 1);
    (STEPS as u64 + step as u64) * width + (width - 1)
}

/// Counts of tasks that are told of, by their address, and by the lowest bits of their number: an ordinary switch looks no
/// further.
pub const SLOTS: usize = 4096;

/// Where a task's address is counted: a switch passes it, and no helper has to read anything.
#[inline(always)]
pub fn place(task: u64) -> u32 {
    (task.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS.trailing_zeros())) as u32
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and six `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for Blocked {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, `u64` only, valid for any bit pattern.
unsafe impl aya::Pod for BlockedCount {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, one `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for DurationKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = None;
        for us in (0..100_000).chain((0..40).map(|shift| (1_u64 << shift) + 7)) {
            let (octave, step) = bucket(us);
            let upper = upper(octave, step);
            assert!(upper >= us && (upper - us) * 32 <= us, "{us}: {upper}");
            if us < 100_000 {
                assert!(last <= Some((octave, step)));
                last = Some((octave, step));
            }
        }
    }

    #[test]
    fn idle_threads_are_not_blocked() {
        assert!(is_blocked(0x2) && is_blocked(0x102) && is_blocked(0x2102));
        assert!(!is_blocked(0x402) && !is_blocked(0x1) && !is_blocked(0x8000));
    }
}
