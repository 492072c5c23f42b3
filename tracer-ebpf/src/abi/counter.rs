//! High-rate signals, counted in the kernel per memory cgroup and CPU.

/// Counts of one memory cgroup on one CPU since attach; user space sums over CPUs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupCount {
    /// Pages charged.
    pub charged: u64,
    /// Pages uncharged.
    pub uncharged: u64,
    /// `sched_process_exec` of tasks in it.
    pub execs: u64,
    /// `sched_process_exit` of tasks in it.
    pub exits: u64,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, four `u64`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for CgroupCount {}
