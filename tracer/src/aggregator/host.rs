//! The host's memory beside the rows: what is used and which part of it no row accounts for.

use std::time::Duration;

use super::{
    KINDS,
    forecast::{Forecast, History},
    kinds::Kind,
    row::How,
};
use crate::event::HostMemory;

/// The last reading.
#[derive(Debug, Clone, Default)]
pub struct HostState {
    pub memory: HostMemory,
    /// What is not available.
    taken: History,
}

/// One part of the host's memory that no row accounts for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Part {
    pub bytes: Option<i64>,
    pub how: Option<How>,
}

/// Host memory outside every row, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Remainder {
    pub root_anon: Option<i64>,
    pub root_file: Option<i64>,
    /// Of that tmpfs and shared memory.
    pub root_shmem: Option<i64>,
    pub slab: Part,
    pub percpu: Part,
    pub vmalloc: Part,
    pub page_tables: Part,
    pub kernel_stack: Part,
    pub hugetlb: Option<i64>,
}

impl Remainder {
    /// What the kernel holds for itself.
    pub fn kernel(&self) -> [Part; 5] {
        [self.slab, self.percpu, self.vmalloc, self.page_tables, self.kernel_stack]
    }
}

impl HostState {
    pub fn foresee(&mut self, at: Duration) {
        if let (Some(total), Some(available)) = (self.memory.total, self.memory.available) {
            self.taken.push(at, total.saturating_sub(available));
        }
    }

    /// Until nothing is available.
    pub fn exhaustion(&self) -> Option<Forecast> {
        self.taken.until(self.memory.total?)
    }

    /// What is left of the host's sums after those of the rows.
    pub fn remainder(&self, attributed: &[Option<u64>; KINDS]) -> Remainder {
        let rows = |kind: Kind| attributed[kind as usize];
        let less = |all: Option<u64>, part: Option<u64>| Some(all? as i64 - part? as i64);
        let kernel = rows(Kind::Kernel);
        // Where cgroups do not split their kernel memory (v1), all of it might be of this part: a lower bound.
        let part = |all: Option<u64>, kind: Kind| match rows(kind) {
            Some(known) => Part { bytes: less(all, Some(known)), how: None },
            None => {
                let bytes = less(all, kernel).map(|bytes| bytes.max(0));
                Part { bytes, how: bytes.map(|_| How::AtLeast) }
            }
        };
        let host = &self.memory;
        Remainder {
            root_anon: less(host.anon, rows(Kind::Anon)),
            root_file: less(host.cached, rows(Kind::File)),
            root_shmem: less(host.shmem, rows(Kind::Shmem)),
            slab: part(host.slab, Kind::Slab),
            percpu: part(host.percpu, Kind::Percpu),
            vmalloc: part(host.vmalloc, Kind::Vmalloc),
            page_tables: part(host.page_tables, Kind::PageTables),
            kernel_stack: part(host.kernel_stack, Kind::KernelStack),
            hugetlb: host.hugetlb.map(|bytes| bytes as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_does_not_split_is_a_lower_bound() {
        let host = HostState {
            memory: HostMemory { slab: Some(100), percpu: Some(10), anon: Some(50), ..HostMemory::default() },
            ..HostState::default()
        };
        let mut attributed = [None; KINDS];
        attributed[Kind::Kernel as usize] = Some(30);
        attributed[Kind::Anon as usize] = Some(60);
        let left = host.remainder(&attributed);
        assert_eq!(left.slab, Part { bytes: Some(70), how: Some(How::AtLeast) });
        assert_eq!(left.percpu, Part { bytes: Some(0), how: Some(How::AtLeast) });
        assert_eq!(left.root_anon, Some(-10), "not clamped");
        assert_eq!(left.hugetlb, None);
        attributed[Kind::Slab as usize] = Some(20);
        assert_eq!(host.remainder(&attributed).slab, Part { bytes: Some(80), how: None }, "v2 tells");
    }
}
