//! What the state knows of one row's dirty pages. Sizes are bytes, sums are since attach; `None` is "not known here".

use std::sync::Arc;

use crate::{
    aggregator::{row::How, stream::Process},
    resolve::{Container, stream::Node},
};

/// A process that made pages of the row dirty.
#[derive(Debug, Clone, PartialEq)]
pub struct Writer {
    pub process: Process,
    pub dirtied: u64,
    /// What it had made dirty before attach, as far as its own counters tell.
    pub before_attach: Option<u64>,
}

/// A file of which pages became dirty.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// As the container sees it.
    pub path: Option<Arc<str>>,
    pub node: Node,
    pub dirtied: u64,
    /// It is behind a loop device: what is written to the file system on that is written to it once more.
    pub backing: bool,
    /// Of it before attach, where the only file that its writer has open tells.
    pub before_attach: Option<u64>,
    /// A writer had it open before attach.
    pub open_before: bool,
}

/// Who made how much of what dirty in the last minute.
#[derive(Debug, Clone, PartialEq)]
pub struct Recent {
    pub process: Process,
    pub path: Option<Arc<str>>,
    pub node: Node,
    pub backing: bool,
    pub dirtied: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct DirtyRow {
    /// Its memory cgroup's id.
    pub row: u64,
    pub container: Arc<Container>,
    /// Its cgroup is gone.
    pub removed: bool,
    /// Of files, made dirty when they were clean.
    pub dirtied: Option<u64>,
    pub dirtied_how: Option<How>,
    pub written: Option<u64>,
    pub written_how: Option<How>,
    /// Dropped unwritten, by truncation.
    pub cleaned: Option<u64>,
    pub dirtied_per_s: Option<f64>,
    pub written_per_s: Option<f64>,
    /// Outstanding now, by `memory.stat`.
    pub dirty: Option<u64>,
    pub writeback: Option<u64>,
    pub throttled_s: Option<f64>,
    /// Seconds that writers slept, per second of the last interval: several may at once.
    pub throttled_per_s: Option<f64>,
    /// The most first; those who had before attach, too.
    pub processes: Vec<Writer>,
    pub files: Vec<File>,
    /// The most first.
    pub recent: Vec<Recent>,
    /// Of all processes that are alive, before attach.
    pub before_attach: Option<u64>,
}

impl DirtyRow {
    /// Whether there is anything to be said of it.
    pub fn is_idle(&self) -> bool {
        let none = |bytes: Option<u64>| bytes.unwrap_or(0) == 0;
        none(self.dirtied)
            && none(self.dirty)
            && none(self.writeback)
            && none(self.before_attach)
            && self.throttled_s.unwrap_or(0.0) == 0.0
    }
}

/// All rows, by path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dirty {
    pub rows: Vec<Arc<DirtyRow>>,
}

/// What a process that was there at attach had done until then.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    pub pid: u32,
    pub comm: String,
    /// Bytes that its writes made dirty, less what was dropped unwritten.
    pub dirtied: u64,
    /// Files that it has open for writing, with their paths and what they take on disk.
    pub files: Vec<((Node, String), u64)>,
}
