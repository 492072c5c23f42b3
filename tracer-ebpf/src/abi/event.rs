//! Rare transitions, sent through the ring buffer: a fixed header, then what the kind says.

/// Longest path that an event carries. The kernel formats paths into 1024 bytes; a longer one than this is
/// cut, counted and found again by its id.
pub const PATH_LEN: usize = 512;

/// The kernel could not say.
pub const UNKNOWN: u64 = u64::MAX;

macro_rules! kinds {
    ($($name:ident = $number:literal, $doc:literal;)+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Kind { $(#[doc = $doc] $name = $number),+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];
        }
    };
}

kinds! {
    CgroupMade = 1, "`cgroup_mkdir`: path follows.";
    CgroupRenamed = 2, "`cgroup_rename`: the new path follows.";
    CgroupRemoved = 3, "`cgroup_rmdir`: `a` is the usage, `b` the peak, in pages.";
    CgroupReleased = 4, "`cgroup_release`: the kernel let go of a removed cgroup.";
    StreamWritten = 6, "A stream was written to, for the first time since user space last looked: `a` is its key, `b` the thread group.";
    OomKill = 7, "`mark_victim`: an `OomRecord`.";
    TaskMoved = 5, "`cgroup_attach_task`: `a` is the thread group that moved into the cgroup.";
}

/// What every event starts with.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub kind: u32,
    /// Bytes of path that follow, without the closing NUL.
    pub path_len: u32,
    /// `CLOCK_BOOTTIME` would need 5.8's helper in every program type; this is `CLOCK_MONOTONIC`, ns.
    pub at: u64,
    /// kernfs id of the cgroup.
    pub cgroup: u64,
    pub a: u64,
    pub b: u64,
}

/// An event with a path.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PathEvent {
    pub header: Header,
    pub path: [u8; PATH_LEN],
}
