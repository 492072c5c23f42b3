//! What a row holds and grows of. The kinds of `memory.stat` overlap (`file` has `dirty` in it, `kernel` has
//! `slab`); here they are split into disjoint ones, so that they add up and one word names the greatest.

use crate::aggregator::row::{Growth, Memory};

/// Less than this is not growth worth a word.
const WORTH_NAMING: f64 = 1024.0;

/// A disjoint part of a row's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Anon,
    /// Page cache that the kernel can drop at once.
    Cache,
    Shmem,
    /// Page cache that must be written first.
    Dirty,
    Slab,
    /// Kernel memory outside the slab.
    Kernel,
    Sock,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Anon => "anon",
            Kind::Cache => "file",
            Kind::Shmem => "shmem",
            Kind::Dirty => "dirty",
            Kind::Slab => "slab",
            Kind::Kernel => "kernel",
            Kind::Sock => "sock",
        }
    }
}

/// Size by disjoint kind. A part that is not known stays in what it is a part of.
pub fn sizes(memory: &Memory) -> [(Kind, Option<u64>); 7] {
    let dirty = match (memory.dirty, memory.writeback) {
        (None, None) => None,
        (dirty, writeback) => Some(dirty.unwrap_or(0) + writeback.unwrap_or(0)),
    };
    let parts = memory.shmem.unwrap_or(0) + dirty.unwrap_or(0);
    [
        (Kind::Anon, memory.anon),
        (Kind::Cache, memory.file.map(|file| file.saturating_sub(parts))),
        (Kind::Shmem, memory.shmem),
        (Kind::Dirty, dirty),
        (Kind::Slab, memory.slab),
        (Kind::Kernel, memory.kernel.map(|kernel| kernel.saturating_sub(memory.slab.unwrap_or(0)))),
        (Kind::Sock, memory.sock),
    ]
}

/// Growth by disjoint kind.
fn parts(growth: &Growth) -> [(Kind, Option<f64>); 7] {
    let dirty = match (growth.dirty, growth.writeback) {
        (None, None) => None,
        (dirty, writeback) => Some(dirty.unwrap_or(0.0) + writeback.unwrap_or(0.0)),
    };
    [
        (Kind::Anon, growth.anon),
        (Kind::Cache, growth.file.map(|file| file - growth.shmem.unwrap_or(0.0) - dirty.unwrap_or(0.0))),
        (Kind::Shmem, growth.shmem),
        (Kind::Dirty, dirty),
        (Kind::Slab, growth.slab),
        (Kind::Kernel, growth.kernel.map(|kernel| kernel - growth.slab.unwrap_or(0.0))),
        (Kind::Sock, growth.sock),
    ]
}

/// The kind that a growing row grows most of, or that a shrinking one gives back most of.
pub fn mostly(growth: &Growth) -> Option<Kind> {
    let total = growth.current.filter(|total| total.abs() >= WORTH_NAMING)?;
    parts(growth)
        .into_iter()
        .filter_map(|(kind, part)| Some((kind, part? * total.signum())))
        .filter(|(_, part)| *part >= WORTH_NAMING)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(kind, _)| kind)
}

/// Whether more than half of the growth is cache that the kernel drops when it needs the room: reading a big
/// file fills a limit without harm.
pub fn is_droppable(growth: &Growth) -> bool {
    let [_, (_, cache), ..] = parts(growth);
    matches!((cache, growth.current), (Some(cache), Some(total)) if total > 0.0 && cache > total / 2.0)
}

/// `current` without the cache that can be dropped at once, where that is known.
pub fn held(memory: &Memory) -> Option<u64> {
    let current = memory.current?;
    let bound = [memory.shmem, memory.dirty, memory.writeback].into_iter().flatten().sum();
    Some(current.saturating_sub(memory.file.unwrap_or(0).saturating_sub(bound)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_disjoint_part_has_the_word() {
        let tmpfs = Growth { current: Some(9e6), file: Some(9e6), shmem: Some(9e6), ..Growth::default() };
        assert_eq!(mostly(&tmpfs), Some(Kind::Shmem));
        let writer = Growth { current: Some(9e6), file: Some(9e6), dirty: Some(6e6), ..Growth::default() };
        assert_eq!(mostly(&writer), Some(Kind::Dirty));
        assert!(!is_droppable(&writer));
        let reader = Growth { current: Some(9e6), file: Some(9e6), anon: Some(1e3), ..Growth::default() };
        assert_eq!(mostly(&reader), Some(Kind::Cache));
        assert!(is_droppable(&reader));
        let freeing = Growth { current: Some(-9e6), anon: Some(-8e6), file: Some(2e6), ..Growth::default() };
        assert_eq!(mostly(&freeing), Some(Kind::Anon));
        let idle = Growth { current: Some(3.0), anon: Some(3.0), ..Growth::default() };
        assert_eq!(mostly(&idle), None);
        assert_eq!(mostly(&Growth::default()), None);
    }

    #[test]
    fn sizes_add_up() {
        let memory = Memory {
            current: Some(100),
            anon: Some(10),
            file: Some(60),
            shmem: Some(20),
            dirty: Some(5),
            kernel: Some(30),
            ..Memory::default()
        };
        let known: u64 = sizes(&memory).into_iter().filter_map(|(_, size)| size).sum();
        assert_eq!(known, 100);
        assert_eq!(sizes(&memory)[1], (Kind::Cache, Some(35)));
        assert_eq!(sizes(&memory)[5], (Kind::Kernel, Some(30)), "with the slab, which v1 does not tell");
        assert!(sizes(&Memory::default()).iter().all(|(_, size)| size.is_none()));
    }

    #[test]
    fn clean_cache_is_not_held() {
        let memory = Memory {
            current: Some(100),
            file: Some(80),
            shmem: Some(10),
            dirty: Some(5),
            ..Memory::default()
        };
        assert_eq!(held(&memory), Some(35));
        assert_eq!(held(&Memory { current: Some(100), ..Memory::default() }), Some(100));
        assert_eq!(held(&Memory::default()), None);
    }
}
