//! The kinds of memory as indices, so that shares, sums and rates are loops and not eleven lines each.

use super::row::{Growth, Memory};
use crate::event::Stat;

/// One kind; the index into every array of [`KINDS`].
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub enum Kind {
    Current,
    Anon,
    File,
    Shmem,
    Dirty,
    Writeback,
    Slab,
    Kernel,
    Sock,
    Swap,
    // Only for what the host has beyond the rows:
    Percpu,
    Vmalloc,
    PageTables,
    KernelStack,
    // No sizes, but counts that are hierarchical just the same:
    Tasks,
    OomKills,
}

pub const KINDS: usize = Kind::OomKills as usize + 1;

/// What cgroupfs says: a cgroup with all below it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hierarchical {
    values: [Option<u64>; KINDS],
    /// Something was added (an empty sum is 0, not unknown).
    any: bool,
    /// `OomKills` are the cgroup's own alone (v1).
    kills_are_local: bool,
}

impl Hierarchical {
    pub fn get(&self, kind: Kind) -> Option<u64> {
        self.values[kind as usize]
    }

    pub fn set(&mut self, kind: Kind, value: Option<u64>) {
        self.values[kind as usize] = value;
    }

    pub fn into_inner(self) -> [Option<u64>; KINDS] {
        self.values
    }

    pub fn read(&mut self, stat: &Stat) {
        for (kind, value) in [
            (Kind::Anon, stat.anon),
            (Kind::File, stat.file),
            (Kind::Shmem, stat.shmem),
            (Kind::Dirty, stat.dirty),
            (Kind::Writeback, stat.writeback),
            (Kind::Slab, stat.slab),
            (Kind::Kernel, stat.kernel),
            (Kind::Sock, stat.sock),
            (Kind::Swap, stat.swap),
            (Kind::Percpu, stat.percpu),
            (Kind::Vmalloc, stat.vmalloc),
            (Kind::PageTables, stat.page_tables),
            (Kind::KernelStack, stat.kernel_stack),
        ] {
            self.set(kind, value);
        }
        if let Some(more) = &stat.more {
            self.kills_are_local = more.kills_are_local;
        }
    }

    /// Adds another cgroup. A sum with an unknown part is unknown, unless nothing at all is known of the other:
    /// then it is going away, and its memory is in the sums around it.
    pub fn add(&mut self, other: &Hierarchical) {
        if other.values.iter().all(Option::is_none) {
            return;
        }
        for kind in 0..KINDS {
            self.values[kind] = match (self.any, self.values[kind], other.values[kind]) {
                (false, _, value) => value,
                (true, Some(sum), Some(value)) => Some(sum + value),
                _ => None,
            };
        }
        if other.kills_are_local {
            self.values[Kind::OomKills as usize] = Some(0);
        }
        self.any = true;
    }

    /// What is left after the rows nested in this one. Readings are not simultaneous, so a share may come out
    /// a little below nothing: then it is nothing.
    pub fn less(&self, nested: &Hierarchical) -> [Option<u64>; KINDS] {
        if !nested.any {
            return self.values;
        }
        std::array::from_fn(|kind| Some(self.values[kind]?.saturating_sub(nested.values[kind]?)))
    }
}

pub fn memory(share: &[Option<u64>; KINDS]) -> Memory {
    let get = |kind: Kind| share[kind as usize];
    Memory {
        current: get(Kind::Current),
        limit: None,
        effective_limit: None,
        anon: get(Kind::Anon),
        file: get(Kind::File),
        shmem: get(Kind::Shmem),
        dirty: get(Kind::Dirty),
        writeback: get(Kind::Writeback),
        slab: get(Kind::Slab),
        kernel: get(Kind::Kernel),
        kernel_how: None,
        sock: get(Kind::Sock),
        swap: get(Kind::Swap),
    }
}

pub fn growth(rates: &[Option<f64>; KINDS]) -> Growth {
    let get = |kind: Kind| rates[kind as usize];
    Growth {
        current: get(Kind::Current),
        anon: get(Kind::Anon),
        file: get(Kind::File),
        shmem: get(Kind::Shmem),
        dirty: get(Kind::Dirty),
        writeback: get(Kind::Writeback),
        slab: get(Kind::Slab),
        kernel: get(Kind::Kernel),
        sock: get(Kind::Sock),
        swap: get(Kind::Swap),
    }
}
