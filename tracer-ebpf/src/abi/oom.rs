//! Want of memory: one record a task that the OOM killer marks, and what reclaim cost each memory cgroup.

use super::event::Header;

/// Where the limit's cgroup of an [`OomRecord`] stands: the whole host.
pub const GLOBAL: u64 = 0;

/// A task was marked as a victim. Numbers that could not be read are `UNKNOWN`; sizes are pages.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OomRecord {
    /// `cgroup` is the victim's memory cgroup (0: not known), `a` its thread group and thread, `b` those of the task that
    /// asked for memory: as `bpf_get_current_pid_tgid` has them, the thread group 0 where only the thread is known.
    pub header: Header,
    /// Memory cgroup of the task that asked for memory.
    pub trigger_cgroup: u64,
    /// Memory cgroup at its limit, or [`GLOBAL`].
    pub limit_cgroup: u64,
    /// Its counter and its limit.
    pub usage: u64,
    pub limit: u64,
    /// The victim's resident memory, in KiB.
    pub anon_kib: u64,
    pub file_kib: u64,
    pub shmem_kib: u64,
    /// Group leaders', where they could be read.
    pub comm: [u8; 16],
    pub trigger_comm: [u8; 16],
}

/// Bytes of an [`OomRecord`].
pub const OOM_RECORD: usize = size_of::<OomRecord>();

/// Direct reclaim by the tasks of one memory cgroup on one CPU since attach.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReclaimCount {
    /// Passes that ended.
    pub passes: u64,
    /// Time that tasks spent in them, ns; several tasks at once count each.
    pub time: u64,
    /// Pages got back.
    pub pages: u64,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, three `u64`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for ReclaimCount {}
