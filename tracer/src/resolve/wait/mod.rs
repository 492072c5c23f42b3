//! What one task that sleeps waits on, as /proc tells: where in the kernel, in which system call, on which file, and one phrase
//! that sums it up.

mod call;
mod cause;
mod function;
mod mount;
mod parse;
mod path;
mod phrase;
#[cfg(test)]
mod tests;
mod told;

pub use self::{
    cause::Kind,
    told::{Told, comm, fuse_waits, look, state},
};

/// `mmap_lock`, of which a task's own process is most of the users.
pub const ADDRESS_SPACE: &str = "address space lock (rwsem)";

/// The lock that the kernel says a task waits for, and who owns it (`task_struct.blocker`, 6.16 and later).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// `mutex`, `semaphore` or `rwsem`; `lock` where that is not known.
    pub kind: &'static str,
    /// Process, thread, name.
    pub owner: Option<(u32, u32, String)>,
}

/// What a probe knows of a sleep beside what /proc tells.
#[derive(Debug, Clone, Default)]
pub struct Hint {
    pub blocker: Option<Blocker>,
    /// The freezer has it.
    pub frozen: bool,
    /// It waits for a device, as the kernel counts that.
    pub io: bool,
}
