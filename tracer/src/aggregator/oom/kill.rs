//! What is told of one kill. Sizes are bytes; `None` is not known.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;

use crate::{
    aggregator::row::{How, Memory},
    event::{Stat, oom::Resident},
    resolve::Container,
};

/// Who was killed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Victim {
    /// The thread group.
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_how: Option<How>,
    pub tid: Option<u32>,
    pub comm: Option<String>,
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub shmem: Option<u64>,
}

impl Victim {
    pub fn resident(&mut self, resident: Resident) {
        self.anon = resident.anon.or(self.anon);
        self.file = resident.file.or(self.file);
        self.shmem = resident.shmem.or(self.shmem);
    }
}

/// Who asked for the memory that was not there.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub comm: Option<String>,
    pub container: Option<Arc<Container>>,
}

/// The cgroup at its limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LimitCgroup {
    pub id: Option<u64>,
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_how: Option<How>,
}

/// What the cgroup at its limit was made of, with all below it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Composition {
    pub limit: Option<u64>,
    pub current: Option<u64>,
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub dirty: Option<u64>,
    pub writeback: Option<u64>,
    pub slab: Option<u64>,
    pub kernel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_how: Option<How>,
    pub sock: Option<u64>,
}

impl Composition {
    /// From the kernel's report. 5.10 does not name kernel memory on v2: it is the rest.
    pub fn reported(limit: Option<u64>, current: Option<u64>, stat: &Stat) -> Composition {
        let rest = || Some(current?.saturating_sub(stat.anon? + stat.file? + stat.sock?));
        let inferred = if stat.kernel.is_none() { rest() } else { None };
        Composition {
            limit,
            current,
            anon: stat.anon,
            file: stat.file,
            shmem: stat.shmem,
            dirty: stat.dirty,
            writeback: stat.writeback,
            slab: stat.slab,
            kernel: stat.kernel.or(inferred),
            kernel_how: inferred.map(|_| How::Inferred),
            sock: stat.sock,
        }
    }

    /// From a row that has no others in it.
    pub fn sampled(memory: &Memory) -> Composition {
        Composition {
            limit: memory.limit,
            current: memory.current,
            anon: memory.anon,
            file: memory.file,
            shmem: memory.shmem,
            dirty: memory.dirty,
            writeback: memory.writeback,
            slab: memory.slab,
            kernel: memory.kernel,
            kernel_how: memory.kernel_how,
            sock: memory.sock,
        }
    }
}

/// Where the composition came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Limit and usage from the kernel's own counter, at the kill; no more is known.
    Probe,
    /// The kernel's report.
    Kmsg,
    /// The last look before the kill.
    Sample,
}

/// A process and what it held at the kill, by the kernel's report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holder {
    pub pid: u32,
    pub comm: String,
    pub rss: u64,
    pub anon: Option<u64>,
}

/// Who made pages of a file dirty in the minute before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dirtier {
    pub pid: u32,
    pub comm: String,
    pub path: Option<String>,
    pub dirtied: u64,
}

/// By how much the victim's row grew in the minute before, as far as it was watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Grown {
    pub over_s: f64,
    pub current: Option<i64>,
    pub anon: Option<i64>,
    pub file: Option<i64>,
    pub shmem: Option<i64>,
    pub dirty: Option<i64>,
    pub writeback: Option<i64>,
    pub slab: Option<i64>,
    pub kernel: Option<i64>,
    pub sock: Option<i64>,
}

/// How many kills the container had, this one too, and since when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InRow {
    pub count: u64,
    pub since: SystemTime,
}

/// One kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    /// Counts kills from 1.
    pub number: u64,
    pub at: SystemTime,
    pub before_attach: bool,
    /// The victim's. Its cgroup's id is 0 where that was gone before it could be asked.
    pub container: Option<Arc<Container>>,
    pub victim: Victim,
    pub trigger: Option<Trigger>,
    /// `None`: not known whether the host or a cgroup had no more.
    pub global: Option<bool>,
    /// `None` with a cgroup's kill: not known which.
    pub limit_cgroup: Option<LimitCgroup>,
    pub memory: Composition,
    pub source: Option<Source>,
    pub grown: Option<Grown>,
    /// Bytes a second that write-back wrote meanwhile.
    pub written_per_s: Option<f64>,
    pub processes: Vec<Holder>,
    pub top_dirtiers: Vec<Dirtier>,
    pub in_row: Option<InRow>,
    pub cause: String,
}
