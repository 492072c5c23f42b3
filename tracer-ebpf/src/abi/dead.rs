//! Removed memory cgroups that the kernel keeps, as the walk of the kernel's own lists finds them.

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Nothing is wanted.
    Idle = 0,
    /// It begins with the cgroup of whoever runs,
    Start = 1,
    /// climbs to the root,
    Climb = 2,
    /// looks at a cgroup and then at those in it,
    Visit = 3,
    /// then at the one beside it, or goes up again.
    Next = 4,
    /// Of a dead one it adds up the lists of pages, one memory node after the other.
    Size = 5,
    Done = 6,
    /// Where it stood is gone: it has to begin anew.
    Lost = 7,
}

/// Lists of a memory node: five of each zone, of which there are up to six.
pub const LISTS: usize = 32;

/// The state of a walk, kept between the runs of its program.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walk {
    /// A [`Phase`].
    pub phase: u32,
    /// Length of the list that was written to.
    pub written: u32,
    /// Memory nodes there are, and the one whose lists come next.
    pub nodes: u32,
    pub node: u32,
    /// What whoever drives it has as its name, where others may run the program, too; 0 where nobody else can.
    pub token: u64,
    /// `struct cgroup_subsys_state` it stands at, and its number, which no other ever bears: before a run goes on from
    /// there it looks whether that is still so.
    pub css: u64,
    pub serial: u64,
    /// kernfs id of the living cgroup around the dead ones it is among.
    pub living: u64,
    pub steps: u64,
    pub live: u64,
    pub dead: u64,
    /// Pages of the dead ones that are in a living one: their counters hold those nested in them.
    pub pages: u64,
    pub swap: u64,
    pub kmem: u64,
    /// Pages on lists, of all.
    pub listed: u64,
    /// The lists of a node as they were read: those of each zone.
    pub lists: [u64; LISTS],
    /// Cgroups and dead cgroups of the hierarchy by the kernel's own count, at the beginning and at the end.
    pub began: u64,
    pub ended: u64,
}

/// Longest name that is kept, with its closing NUL: a container's scope takes 87.
pub const NAME: usize = 128;

/// One dead memory cgroup.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// kernfs id.
    pub id: u64,
    /// Of the cgroup directly around it, dead or alive,
    pub above: u64,
    /// and of the first one around it that lives.
    pub living: u64,
    /// Pages by its counters, with all below it: memory, swap (v1: memory and swap), kernel memory (v1 only).
    pub pages: u64,
    pub swap: u64,
    pub kmem: u64,
    /// Pages on its own lists, where the kernel's statistics lag; else 0.
    pub listed: u64,
    pub name_len: u32,
    /// Always 0.
    pub padding: u32,
    pub name: [u8; NAME],
}

/// The dead ones directly in one living cgroup, together.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// With those nested in them.
    pub count: u64,
    pub pages: u64,
    pub swap: u64,
    pub kmem: u64,
    /// Pages on the lists of each of them, and of these on those of anonymous memory, where tmpfs is too, and of files.
    pub listed: u64,
    pub anon: u64,
    pub file: u64,
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, four `u32` and `u64`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for Walk {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, seven `u64`, two `u32` and bytes that fill words, no padding, valid for any bit pattern.
unsafe impl aya::Pod for Dead {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, seven `u64`, valid for any bit pattern.
unsafe impl aya::Pod for Sum {}
