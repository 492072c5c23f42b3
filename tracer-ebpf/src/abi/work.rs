//! Work that comes and ends, as counted in the kernel: connections that arrive, processes that end.

/// A port that is listened on, in its network namespace: the inode number of that, as `/proc/PID/ns/net` shows it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    pub net: u32,
    pub port: u32,
}

/// Processes of a memory cgroup that ended, by name and by how long they lived.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LifeKey {
    /// kernfs id of the memory cgroup.
    pub cgroup: u64,
    /// At the end.
    pub comm: [u8; 16],
    /// See [`bucket`].
    pub bucket: u64,
}

/// Of those of a key: how many, their times together and the longest, ns.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LifeCount {
    pub count: u64,
    pub total: u64,
    pub max: u64,
}

/// Times of life below this, ns, are not told apart.
const LEAST: u32 = 16;

/// Four buckets for each doubling: what lies in one differs by a quarter at most, and its mean is known.
#[inline(always)]
pub const fn bucket(time: u64) -> u64 {
    let units = time >> LEAST;
    if units < 4 {
        return units;
    }
    let octave = 63 - units.leading_zeros() as u64;
    octave * 4 + ((units >> (octave - 2)) & 3)
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for Listener {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, two `u64` and 16 bytes, no padding, valid for any bit pattern.
unsafe impl aya::Pod for LifeKey {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, three `u64`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for LifeCount {}
