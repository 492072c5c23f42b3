//! Drives the walk over the kernel's lists of memory cgroups and reads what it found.

use std::{
    io,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use tracer_ebpf::abi::dead::{self, NAME, Phase, Walk};

use super::page_size;

/// Runs and walks of one look: a list of a million would be found in it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What changes under way is walked anew so many times.
const WALKS: u32 = 4;

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
    v2: bool,
}

/// Sizes of the kernel's counters, in bytes.
fn sum(count: u64, (pages, swap, kmem): (u64, u64, u64), v2: bool) -> DeadSum {
    let bytes = |pages: u64| pages.saturating_mul(page_size());
    DeadSum {
        count,
        // Kernel memory was handed to the cgroup around it when it died, but the dead one's counters keep it.
        pinned: bytes(pages.saturating_sub(kmem)),
        // On v1 the counter has memory and swap.
        swap: bytes(if v2 { swap } else { swap.saturating_sub(pages) }),
    }
}

impl Walker {
    pub fn take(ebpf: &mut Ebpf, v2: bool) -> Result<Walker, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(Walker {
            state: Array::try_from(map("DEAD_WALK")?)?,
            listed: Array::try_from(map("DEAD")?)?,
            sums: HashMap::try_from(map("DEAD_SUMS")?)?,
            v2,
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
        let fresh = Walk { phase: Phase::Start as u32, token, ..Walk::default() };
        self.state.set(0, fresh, 0).map_err(io::Error::other)
    }

    fn read(&self, end: Walk, walks: u32, disturbed: bool, took: Duration) -> io::Result<Walked> {
        let v2 = self.v2;
        let listed = (0..end.written).map(|index| Ok(cgroup(&self.listed.get(&index, 0)?, v2)));
        let listed = listed.collect::<Result<Vec<DeadCgroup>, MapError>>().map_err(io::Error::other)?;
        let sums = self.sums.iter().filter_map(Result::ok);
        let sums = sums.map(|(id, of)| (id, sum(of.count, (of.pages, of.swap, of.kmem), v2)));
        Ok(Walked {
            live: end.live,
            all: sum(end.dead, (end.pages, end.swap, end.kmem), v2),
            listed,
            sums: sums.collect(),
            disturbed,
            with_kernel: v2,
            walks,
            took,
        })
    }
}

fn cgroup(dead: &dead::Dead, v2: bool) -> DeadCgroup {
    let sizes = sum(1, (dead.pages, dead.swap, dead.kmem), v2);
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
        let v1 = sum(1, (10, 12, 3), false);
        assert_eq!(v1, DeadSum { count: 1, pinned: 7 * page, swap: 2 * page });
        let v2 = sum(1, (10, 12, 0), true);
        assert_eq!(v2, DeadSum { count: 1, pinned: 10 * page, swap: 12 * page });
        assert_eq!(sum(1, (1, 0, 3), false).pinned, 0, "never below nothing");
    }

    proptest::proptest! {
        /// The kernel's bytes are untrusted in length and content.
        #[test]
        fn any_name_is_no_panic(length in proptest::prelude::any::<u32>(), byte in proptest::prelude::any::<u8>()) {
            let dead = dead::Dead {
                id: 1, above: 2, living: 3, pages: 4, swap: 5, kmem: 6,
                name_len: length, padding: 0, name: [byte; NAME],
            };
            cgroup(&dead, true);
        }
    }
}
