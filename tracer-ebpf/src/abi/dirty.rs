//! Pages made dirty and written back, as counted in the kernel.

/// Who made pages of which file dirty, and who is charged for them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// kernfs id of the memory cgroup that the pages are charged to.
    pub cgroup: u64,
    /// 0: pages of files for which there was no room.
    pub ino: u64,
    /// Thread group that ran when they became dirty.
    pub pid: u32,
    /// As the kernel writes it, `major << 20 | minor`; [`NO_DEVICE`] where the hook does not tell.
    pub dev: u32,
}

/// No file system has it.
pub const NO_DEVICE: u32 = u32::MAX;

/// What it made dirty since it was first seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileCount {
    pub pages: u64,
    /// `comm` of the group leader when it was first seen.
    pub comm: [u8; 16],
}

/// Pages of one memory cgroup on one CPU since attach; user space sums over CPUs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirtyCount {
    /// Made dirty, of files for which the map of files had no room.
    pub beyond: u64,
    /// Whose write-back ended.
    pub written: u64,
    /// Whose write-back began; only statistics tell.
    pub started: u64,
    /// That were dirty and are not any more, for whatever reason; only statistics tell.
    pub undirtied: u64,
    /// That were dirty and were dropped unwritten; only functions tell.
    pub cleaned: u64,
    /// Milliseconds that its tasks were made to sleep for having dirtied too much.
    pub throttled_ms: u64,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for FileKey {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, one `u64` and 16 bytes, no padding, valid for any bit pattern.
unsafe impl aya::Pod for FileCount {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, six `u64`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for DirtyCount {}
