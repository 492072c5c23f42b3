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

/// Two readings right after each other may differ by so much.
const LITTLE: u64 = 1 << 20;

/// What cgroupfs says: a cgroup with all below it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hierarchical {
    values: [Option<u64>; KINDS],
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

    /// What is left after the rows nested in this one. Readings are not simultaneous, so a share may come out
    /// a little below nothing: then it is nothing. Of a kind that comes out far below, in a row that holds something,
    /// the kernel has not gathered yet what it counted ([`crate::event::cgroupfs`]): that is not known.
    pub fn less(&self, nested: &Sum) -> [Option<u64>; KINDS] {
        if nested.members == 0 {
            return self.values;
        }
        let nested = nested.values();
        let current = Kind::Current as usize;
        // Usage is exact at once.
        let own = self.values[current].zip(nested[current]).map(|(all, below)| all.saturating_sub(below));
        std::array::from_fn(|kind| {
            let (all, below) = (self.values[kind]?, nested[kind]?);
            let is_known = below <= all + LITTLE || kind == current || own.is_some_and(|own| own <= LITTLE);
            is_known.then(|| all.saturating_sub(below))
        })
    }

    /// What counts in a sum; nothing where nothing at all is known: then the cgroup is going away, and its memory is
    /// in the sums around it.
    pub fn part(&self) -> Option<Part> {
        let mut values = self.values;
        if values.iter().all(Option::is_none) {
            return None;
        }
        if self.kills_are_local {
            values[Kind::OomKills as usize] = Some(0);
        }
        Some(Part(values))
    }
}

/// One cgroup's part of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part([Option<u64>; KINDS]);

/// Cgroups together, kept up as they change: with a thousand of them nobody wants to add them all up again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    known: [u64; KINDS],
    /// Members of which a kind is not known.
    unknown: [u32; KINDS],
    pub members: u32,
}

impl Sum {
    pub fn add(&mut self, part: &Part) {
        self.members += 1;
        for (kind, value) in part.0.iter().enumerate() {
            match value {
                Some(value) => self.known[kind] += value,
                None => self.unknown[kind] += 1,
            }
        }
    }

    /// Takes out what was added.
    pub fn take(&mut self, part: &Part) {
        self.members -= 1;
        for (kind, value) in part.0.iter().enumerate() {
            match value {
                Some(value) => self.known[kind] -= value,
                None => self.unknown[kind] -= 1,
            }
        }
    }

    /// A sum with an unknown part is unknown, and so is one of nothing.
    pub fn values(&self) -> [Option<u64>; KINDS] {
        std::array::from_fn(|kind| (self.members > 0 && self.unknown[kind] == 0).then_some(self.known[kind]))
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
        swap_limit: None,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes and goes, a sum is that of those who are there.
        #[test]
        fn a_sum_is_that_of_its_members(
            steps in proptest::collection::vec((0usize..6, proptest::option::of(0u64..1 << 40), any::<bool>()), 0..60),
        ) {
            let mut members: [Option<Part>; 6] = [None; 6];
            let mut sum = Sum::default();
            for (member, current, there) in steps {
                if let Some(part) = members[member].take() {
                    sum.take(&part);
                }
                let mut values = [Some(1); KINDS];
                values[Kind::Current as usize] = current;
                members[member] = there.then_some(Part(values));
                if let Some(part) = &members[member] {
                    sum.add(part);
                }
                let mut fresh = Sum::default();
                members.iter().flatten().for_each(|part| fresh.add(part));
                prop_assert_eq!(sum, fresh);
            }
        }
    }

    /// 12 MiB of an outer row, read before the kernel gathered the 20 MiB of an inner one.
    #[test]
    fn what_is_not_gathered_yet_is_not_known() {
        const MIB: u64 = 1 << 20;
        let holds = |current: u64, anon: u64| {
            let mut holds = Hierarchical::default();
            holds.set(Kind::Current, Some(current * MIB));
            holds.set(Kind::Anon, Some(anon * MIB));
            holds
        };
        let mut inner = Sum::default();
        inner.add(&holds(20, 20).part().unwrap());
        let left = |current, anon| {
            let left = holds(current, anon).less(&inner);
            [Kind::Current, Kind::Anon].map(|kind| left[kind as usize].map(|bytes| bytes / MIB))
        };
        assert_eq!(left(32, 32), [Some(12), Some(12)]);
        assert_eq!(left(32, 12), [Some(12), None]);
        assert_eq!(left(32, 19), [Some(12), Some(0)]);
        // It holds nothing itself.
        assert_eq!(left(20, 12), [Some(0), Some(0)]);
        assert_eq!(left(12, 12), [Some(0), Some(0)]);
    }

    #[test]
    fn nothing_known_is_no_part() {
        assert_eq!(Hierarchical::default().part(), None);
        assert_eq!(Sum::default().values(), [None; KINDS]);
        let mut one = Hierarchical::default();
        one.set(Kind::Current, Some(7));
        let mut sum = Sum::default();
        sum.add(&one.part().unwrap());
        assert_eq!(sum.values()[Kind::Current as usize], Some(7));
        assert_eq!(sum.values()[Kind::Anon as usize], None, "a part is not known");
    }
}
