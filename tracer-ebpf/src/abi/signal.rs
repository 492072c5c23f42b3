//! Signals that end a process, as counted in the kernel: by whom, of whom, whatever became of them.

/// How many of a sender's ancestors are kept, the sender itself first.
pub const CHAIN: usize = 6;

/// The sender of what the kernel itself generates: the OOM killer, the end of a pid namespace.
pub const KERNEL: u32 = 0;

/// Who sends which signal to whom.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalKey {
    /// When the target's group leader began, boot time in ns: tells it from a later bearer of its number. 0: not known.
    pub target_start: u64,
    /// The target's thread group; where `of_thread` is not 0 only this thread of it is known.
    pub target: u32,
    pub of_thread: u32,
    /// The sender's thread group, or [`KERNEL`].
    pub sender: u32,
    pub signal: u32,
}

/// A process as it was when it was seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kin {
    /// Boot time, ns; 0: not known.
    pub start: u64,
    /// 0: nobody.
    pub pid: u32,
    /// The group leader's.
    pub comm: [u8; 16],
    /// No bytes between fields are left to chance.
    pub pad: u32,
}

/// How many, and of what kin the sender is: a short-lived one is gone before user space looks.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalCount {
    pub count: u64,
    /// kernfs id of the target's memory cgroup; 0: not known.
    pub cgroup: u64,
    /// When the first was generated, boot time or what is nearest to it, ns.
    pub first: u64,
    /// The sender, its parent, and so on.
    pub chain: [Kin; CHAIN],
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, numbers without padding, valid for any bit pattern.
unsafe impl aya::Pod for SignalKey {}

#[cfg(feature = "user")]
// SAFETY: as above; `pad` fills what `comm` leaves.
unsafe impl aya::Pod for SignalCount {}
