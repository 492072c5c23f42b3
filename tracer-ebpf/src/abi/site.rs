//! Where in the kernel, and by which process, pages were charged to chosen memory cgroups.

/// Functions of a kernel stack that are kept, the innermost first: a write through overlayfs to ext4 takes about 30.
pub const FRAMES: usize = 36;

/// Return addresses; 0 beyond the last.
pub type Frames = [u64; FRAMES];

/// One place that charges.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// kernfs id of the memory cgroup that was charged.
    pub cgroup: u64,
    /// Key of the kernel stack in `STACKS`, a hash of it; [`NO_STACK`] where there was no room for it.
    pub stack: u64,
    /// Thread group that ran when it was.
    pub pid: u32,
    /// Always 0: the kernel compares keys byte by byte.
    pub padding: u32,
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
pub const NO_STACK: u64 = 0;

/// Where a hook fires once a page, a stack is taken each time a CPU has charged so many to a cgroup: as often as
/// the kernel's own batches (MEMCG_CHARGE_BATCH was 32 up to 5.19, 64 since).
pub const BATCH: u64 = 32;

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for SiteKey {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and 16 bytes, no padding, valid for any bit pattern.
unsafe impl aya::Pod for SiteCount {}
