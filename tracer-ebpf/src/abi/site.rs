//! Where in the kernel, and by which process, pages were charged to chosen memory cgroups.

/// One place that charges.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// kernfs id of the memory cgroup that was charged.
    pub cgroup: u64,
    /// Thread group that ran when it was.
    pub pid: u32,
    /// Key of the kernel stack in `STACKS`; [`NO_STACK`] where there was no room for it.
    pub stack: u32,
}

/// What it charged since it was first seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteCount {
    pub pages: u64,
    /// How many stacks that rests on.
    pub samples: u64,
    /// `comm` of the group leader at the last of them.
    pub comm: [u8; 16],
}

/// The stack could not be kept.
pub const NO_STACK: u32 = u32::MAX;

/// Where a hook fires once a page, a stack is taken each time a CPU has charged so many to a cgroup: as often as
/// the kernel's own batches (MEMCG_CHARGE_BATCH was 32 up to 5.19, 64 since).
pub const BATCH: u64 = 32;

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, a `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for SiteKey {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and 16 bytes, no padding, valid for any bit pattern.
unsafe impl aya::Pod for SiteCount {}
