//! Drives the walk over the kernel's lists of memory cgroups and reads what it found.

use std::{
    io,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use tracer_ebpf::abi::{
    dead::{self, NAME, Phase, Walk},
    offsets::Symbol,
};

use super::page_size;

/// Runs and walks of one look: a list of a million would be found in it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What changes under way is walked anew so many times.
const WALKS: u32 = 4;
/// Memory nodes whose lists are added up: no machine has more, and each takes a step.
const NODES: u32 = 1024;

/// A dead memory cgroup, its sizes with all that are in it, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadCgroup {
    pub id: u64,
    /// The cgroup around it, dead or alive.
    pub above: u64,
    /// The first living one around it.
    pub living: u64,
    /// The name of the directory that it had; `None` where the kernel's could not be read.
    pub name: Option<String>,
    /// The name was longer than what is kept of it.
    pub name_is_cut: bool,
    pub pinned: u64,
    pub swap: u64,
}

/// Dead cgroups together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadSum {
    pub count: u64,
    pub pinned: u64,
    pub swap: u64,
    /// Where statistics lag: bytes on the lists of anonymous memory, where tmpfs is too, and on those of files.
    pub listed: Option<Listed>,
}

/// Bytes of pages by the kind of list that they are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    pub anon: u64,
    pub file: u64,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Walked {
    pub live: u64,
    /// All of them, listed or not.
    pub all: DeadSum,
    /// As far as there is room.
    pub listed: Vec<DeadCgroup>,
    /// By the living cgroup around them.
    pub sums: Vec<(u64, DeadSum)>,
    /// Cgroups came or went during each of the walks: the counts may be off by those.
    pub disturbed: bool,
    /// The sizes may hold kernel memory that was handed to the cgroups around (v2 does not tell it apart).
    pub with_kernel: bool,
    pub walks: u32,
    pub took: Duration,
}

/// The maps, taken out of the loaded object.
pub struct Walker {
    state: Array<MapData, Walk>,
    listed: Array<MapData, dead::Dead>,
    sums: HashMap<MapData, u64, dead::Sum>,
    how: Reading,
}

/// What must be known of a kernel whose statistics lag, to count pages on their lists instead.
pub const BY_LISTS: [Symbol; 5] =
    [Symbol::MemcgUnflushed, Symbol::MemcgNodes, Symbol::MemcgNodeLists, Symbol::Zones, Symbol::Lists];

/// What the numbers of a walk are.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub v2: bool,
    /// Statistics lag, so pages are counted on their lists.
    pub by_lists: bool,
}

/// Pages by the kernel's counters.
struct Counters {
    pages: u64,
    swap: u64,
    kmem: u64,
    listed: u64,
}

fn bytes(pages: u64) -> u64 {
    pages.saturating_mul(page_size())
}

/// Sizes in bytes.
fn sum(count: u64, of: &Counters, how: Reading) -> DeadSum {
    // Kernel memory was handed to the cgroup around it when it died, but the dead one's counters keep it.
    let pages = if how.by_lists { of.listed } else { of.pages.saturating_sub(of.kmem) };
    // On v1 the counter has memory and swap.
    let swap = if how.v2 { of.swap } else { of.swap.saturating_sub(of.pages) };
    DeadSum { count, pinned: bytes(pages), swap: bytes(swap), listed: None }
}

impl Walker {
    pub fn take(ebpf: &mut Ebpf, how: Reading) -> Result<Walker, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(Walker {
            state: Array::try_from(map("DEAD_WALK")?)?,
            listed: Array::try_from(map("DEAD")?)?,
            sums: HashMap::try_from(map("DEAD_SUMS")?)?,
            how,
        })
    }

    /// Walks from the root to the end. `run` has the program run, by whoever bears `token` as its name.
    pub fn walk(&mut self, token: u64, run: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Walked> {
        let start = Instant::now();
        let walked = self.walk_until_quiet(token, run, start);
        // Nobody else's rename may go on with it.
        let _ = self.state.set(0, Walk::default(), 0);
        walked
    }

    fn walk_until_quiet(
        &mut self,
        token: u64,
        run: &mut dyn FnMut() -> io::Result<()>,
        start: Instant,
    ) -> io::Result<Walked> {
        let mut lost = false;
        for walks in 1..=WALKS {
            self.begin(token)?;
            let end = loop {
                let before = self.state.get(&0, 0).map_err(io::Error::other)?;
                run()?;
                let now = self.state.get(&0, 0).map_err(io::Error::other)?;
                if now.phase >= Phase::Done as u32 {
                    break now;
                }
                if now.steps == before.steps {
                    return Err(io::Error::other("the walk over memory cgroups does not go on"));
                }
                if start.elapsed() > PATIENCE {
                    return Err(io::Error::other("the walk over memory cgroups takes too long"));
                }
            };
            lost = end.phase == Phase::Lost as u32;
            let disturbed = lost || end.began != end.ended;
            if !disturbed || (walks == WALKS && !lost) {
                return self.read(end, walks, disturbed, start.elapsed());
            }
        }
        debug_assert!(lost);
        Err(io::Error::other("memory cgroups come and go faster than they can be walked over"))
    }

    fn begin(&mut self, token: u64) -> io::Result<()> {
        let old: Vec<u64> = self.sums.keys().filter_map(Result::ok).collect();
        for id in old {
            let _ = self.sums.remove(&id);
        }
        let nodes = if self.how.by_lists { memory_nodes() } else { 0 };
        let fresh = Walk { phase: Phase::Start as u32, token, nodes, ..Walk::default() };
        self.state.set(0, fresh, 0).map_err(io::Error::other)
    }

    fn read(&self, end: Walk, walks: u32, disturbed: bool, took: Duration) -> io::Result<Walked> {
        let how = self.how;
        let listed = (0..end.written).map(|index| Ok(cgroup(&self.listed.get(&index, 0)?, how)));
        let mut listed = listed.collect::<Result<Vec<DeadCgroup>, MapError>>().map_err(io::Error::other)?;
        if how.by_lists {
            with_inner(&mut listed);
        }
        let sums = self.sums.iter().filter_map(Result::ok).map(|(id, of)| {
            let dead::Sum { count, pages, swap, kmem, listed, anon, file } = of;
            let lists = how.by_lists.then(|| Listed { anon: bytes(anon), file: bytes(file) });
            (id, DeadSum { listed: lists, ..sum(count, &Counters { pages, swap, kmem, listed }, how) })
        });
        let Walk { dead, pages, swap, kmem, listed: on_lists, .. } = end;
        Ok(Walked {
            live: end.live,
            all: sum(dead, &Counters { pages, swap, kmem, listed: on_lists }, how),
            listed,
            sums: sums.collect(),
            disturbed,
            with_kernel: how.v2 && !how.by_lists,
            walks,
            took,
        })
    }
}

/// Lists are each cgroup's own, counters are with all below: makes of the first the second.
fn with_inner(listed: &mut [DeadCgroup]) {
    let place: std::collections::HashMap<u64, usize> =
        listed.iter().enumerate().map(|(place, dead)| (dead.id, place)).collect();
    // The walk comes to what is around before what is in it.
    for inner in (0..listed.len()).rev() {
        if let Some(&outer) = place.get(&listed[inner].above).filter(|outer| **outer < inner) {
            listed[outer].pinned += listed[inner].pinned;
        }
    }
}

/// How many there may be; what cannot be read has one.
fn memory_nodes() -> u32 {
    let possible = std::fs::read_to_string("/sys/devices/system/node/possible").unwrap_or_default();
    let last = possible.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map_or(1, |last| last.saturating_add(1).min(NODES))
}

fn cgroup(dead: &dead::Dead, how: Reading) -> DeadCgroup {
    let dead::Dead { pages, swap, kmem, listed, .. } = *dead;
    let sizes = sum(1, &Counters { pages, swap, kmem, listed }, how);
    let name = dead.name.get(..dead.name_len as usize).unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    DeadCgroup {
        id: dead.id,
        above: dead.above,
        living: dead.living,
        name_is_cut: name.len() >= NAME - 1,
        name: (!name.is_empty()).then_some(name),
        pinned: sizes.pinned,
        swap: sizes.swap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_on_is_not_pinned() {
        let page = page_size();
        let of = |pages, swap, kmem, v2, by_lists| {
            let told = sum(1, &Counters { pages, swap, kmem, listed: 5 }, Reading { v2, by_lists });
            (told.pinned / page, told.swap / page)
        };
        assert_eq!(of(10, 12, 3, false, false), (7, 2));
        assert_eq!(of(10, 12, 0, true, false), (10, 12));
        assert_eq!(of(1, 0, 3, false, false).0, 0, "never below nothing");
        assert_eq!(of(10, 12, 3, false, true), (5, 2));
    }

    #[test]
    fn those_within_count_with_those_around() {
        let dead = |id, above, pinned| DeadCgroup { id, above, living: 1, pinned, ..DeadCgroup::default() };
        let mut listed = vec![dead(10, 1, 1), dead(11, 10, 2), dead(12, 11, 4), dead(20, 1, 8)];
        with_inner(&mut listed);
        assert_eq!(listed.iter().map(|dead| dead.pinned).collect::<Vec<_>>(), [7, 6, 4, 8]);
    }

    proptest::proptest! {
        /// The kernel's bytes are untrusted in length and content.
        #[test]
        fn any_name_is_no_panic(length in proptest::prelude::any::<u32>(), byte in proptest::prelude::any::<u8>()) {
            let dead = dead::Dead {
                id: 1, above: 2, living: 3, pages: 4, swap: 5, kmem: 6, listed: 7,
                name_len: length, padding: 0, name: [byte; NAME],
            };
            cgroup(&dead, Reading { v2: true, by_lists: false });
        }
    }
}
