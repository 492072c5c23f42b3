//! Reads the memory files of the cgroups that are rows, and of those only what may have moved: usage is one
//! `pread` on a kept descriptor, `memory.stat` is read when there is a reason, the rest is swept.

mod file;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use self::file::{number, open, pread_number, read, read_more, read_stat};
use super::{Event, More, Stat};

/// The kernel gathers what its processors counted every 2 s (`FLUSH_TIME` in mm/memcontrol.c). A reading before that may
/// be old, and an outer cgroup's older than an inner one's that was read before it: what moved is read once more after
/// this long.
const GATHERED: Duration = Duration::from_secs(3);
/// Every cgroup's `memory.stat` is read at least this often,
const SWEEP: Duration = Duration::from_secs(10);
/// and this often while nothing moves and the last look found nothing new.
const SWEEP_STILL: Duration = Duration::from_secs(30);
/// The files beside it, which are two thirds of a sweep, then wait for every second one.
const BESIDE_STILL: Duration = Duration::from_secs(55);
/// Files beside `memory.stat` are read with it for as many cgroups a tick; for the others they are swept.
const MORE_PER_TICK: usize = 64;
/// Largest file that is read; `memory.stat` is below 4 KiB, of which v1's NUMA part is elsewhere.
const FILE_LIMIT: usize = 16 * 1024;
/// Descriptors kept at most; beyond that a cgroup's files are opened each time.
const KEPT: usize = 16 * 1024;

/// One cgroup that is read. All of them lie side by side and are gone through at each tick: what a quiet one does not
/// need is elsewhere.
struct Watched {
    id: u64,
    path: String,
    usage_file: Option<fs::File>,
    dir: Option<OwnedFd>,
    usage: Option<u64>,
    stat: Option<Box<Stat>>,
    stat_at: Option<Instant>,
    more_at: Option<Instant>,
    more: Option<Box<More>>,
    /// Dirty or under write-back at the last reading, or close to its limit: may move while usage stands.
    in_flux: bool,
    /// It moved, and was not read since the kernel gathered that.
    ungathered: bool,
    /// The last sweep found what was known.
    still: bool,
}

/// Where files are found.
struct Mounts {
    memory: OwnedFd,
    v2: bool,
    cpu: Option<OwnedFd>,
    pids: Option<OwnedFd>,
}

/// What one tick may still read.
struct Budget {
    more: usize,
    sweeps: usize,
}

/// Reads cgroupfs.
pub struct Cgroupfs {
    mounts: Mounts,
    /// Deepest first once `sorted`, so that a parent's reading is never older than its children's.
    watched: Vec<Watched>,
    /// Indices into `watched`.
    places: HashMap<u64, usize>,
    sorted: bool,
    buffer: Vec<u8>,
}

fn open_dir(at: impl std::os::fd::AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A cgroup's path relative to a mount's descriptor.
fn below(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        relative => relative,
    }
}

/// A cgroup's directory: the kept descriptor, or one opened for now.
fn directory<'a>(
    kept: Option<&'a OwnedFd>,
    mount: &OwnedFd,
    path: &str,
    opened: &'a mut Option<OwnedFd>,
) -> Option<&'a OwnedFd> {
    if kept.is_none() {
        *opened = open_dir(mount, below(path)).ok();
    }
    kept.or(opened.as_ref())
}

impl Cgroupfs {
    pub fn open(memory: &Path, v2: bool, cpu: Option<&Path>, pids: Option<&Path>) -> io::Result<Cgroupfs> {
        let dir = |path: &Path| open_dir(CWD, &path.to_string_lossy());
        Ok(Cgroupfs {
            mounts: Mounts {
                memory: dir(memory)?,
                v2,
                cpu: cpu.and_then(|path| dir(path).ok()),
                pids: pids.and_then(|path| dir(path).ok()),
            },
            watched: Vec::new(),
            places: HashMap::new(),
            sorted: true,
            buffer: vec![0; FILE_LIMIT],
        })
    }

    /// Begins to read a cgroup.
    pub fn watch(&mut self, id: u64, path: &str) {
        let keep = self.watched.len() < KEPT;
        let dir = if keep { open_dir(&self.mounts.memory, below(path)).ok() } else { None };
        let watched = Watched {
            id,
            path: path.to_owned(),
            usage_file: dir.as_ref().and_then(|dir| open(dir, self.mounts.usage())),
            dir,
            usage: None,
            stat: None,
            stat_at: None,
            more_at: None,
            more: None,
            in_flux: false,
            ungathered: false,
            still: false,
        };
        match self.places.get(&id) {
            Some(place) => self.watched[*place] = watched,
            None => {
                self.places.insert(id, self.watched.len());
                self.watched.push(watched);
            }
        }
        self.sorted = false;
    }

    pub fn forget(&mut self, id: u64) {
        let Some(place) = self.places.remove(&id) else { return };
        self.watched.swap_remove(place);
        if let Some(moved) = self.watched.get(place) {
            self.places.insert(moved.id, place);
        }
        self.sorted = false;
    }

    fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let depth = |watched: &Watched| watched.path.matches('/').count();
        self.watched.sort_by_cached_key(|watched| std::cmp::Reverse(depth(watched)));
        self.places = self.watched.iter().enumerate().map(|(place, watched)| (watched.id, place)).collect();
        self.sorted = true;
    }

    /// Processes of a cgroup, at most `limit`.
    pub fn processes(&self, id: u64, limit: usize) -> Vec<u32> {
        let Some(watched) = self.places.get(&id).map(|place| &self.watched[*place]) else {
            return Vec::new();
        };
        let mut opened = None;
        let Some(dir) = directory(watched.dir.as_ref(), &self.mounts.memory, &watched.path, &mut opened)
        else {
            return Vec::new();
        };
        file::processes(dir, limit)
    }

    /// The same of one that need not be watched.
    pub fn processes_at(&self, path: &str, limit: usize) -> Vec<u32> {
        let dir = open_dir(&self.mounts.memory, below(path));
        dir.map_or_else(|_| Vec::new(), |dir| file::processes(&dir, limit))
    }

    /// One reading of every cgroup. `moved` are those whose charge counters moved.
    pub fn sample(&mut self, now: Instant, moved: &HashSet<u64>, events: &mut Vec<Event>) {
        self.sort();
        // The sweep is spread out: at most a tenth of what is due by age alone is read in one tick.
        let mut budget = Budget { more: MORE_PER_TICK, sweeps: self.watched.len() / 10 + 8 };
        for watched in &mut self.watched {
            let moved = !moved.is_empty() && moved.contains(&watched.id);
            watched.sample(&self.mounts, now, moved, &mut budget, &mut self.buffer, events);
        }
    }

    /// One reading of one cgroup, `memory.stat` included.
    pub fn sample_now(&mut self, id: u64, now: Instant, events: &mut Vec<Event>) {
        if let Some(place) = self.places.get(&id) {
            let mut budget = Budget { more: 1, sweeps: 1 };
            self.watched[*place].sample(&self.mounts, now, true, &mut budget, &mut self.buffer, events);
        }
    }
}

impl Mounts {
    fn usage(&self) -> &'static str {
        if self.v2 { "memory.current" } else { "memory.usage_in_bytes" }
    }
}

impl Watched {
    fn sample(
        &mut self,
        mounts: &Mounts,
        now: Instant,
        moved: bool,
        budget: &mut Budget,
        buffer: &mut [u8],
        events: &mut Vec<Event>,
    ) {
        let mut opened = None;
        let Some(dir) = directory(self.dir.as_ref(), &mounts.memory, &self.path, &mut opened) else {
            return events.push(Event::Sampled { id: self.id, usage: None, stat: None });
        };
        let usage = match &self.usage_file {
            Some(file) => pread_number(file),
            None => read(dir, mounts.usage(), buffer).and_then(number),
        };
        let age = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let (sweep, beside) = if self.still { (SWEEP_STILL, BESIDE_STILL) } else { (SWEEP, SWEEP) };
        let again = if self.ungathered { GATHERED } else { sweep };
        let due = age(self.stat_at) >= again && (self.stat_at.is_none() || budget.sweeps > 0);
        let moved = moved || self.in_flux || usage != self.usage;
        let mut stat = None;
        if moved || due {
            if due {
                budget.sweeps = budget.sweeps.saturating_sub(1);
            }
            let mut fresh = false;
            if (moved && budget.more > 0) || age(self.more_at) >= beside {
                budget.more = budget.more.saturating_sub(1);
                self.more = Some(Box::new(read_more(dir, mounts, below(&self.path), buffer)));
                self.more_at = Some(now);
                fresh = true;
            }
            stat = read_stat(dir, mounts.v2, usage, buffer).map(Box::new);
            if let Some(stat) = &mut stat {
                stat.more = self.more.as_deref().cloned();
                self.stat_at = Some(now);
                self.ungathered = moved;
                let near = |limit: u64| usage.is_some_and(|usage| usage >= limit / 10 * 8);
                self.in_flux = stat.dirty.unwrap_or(0) + stat.writeback.unwrap_or(0) > 0
                    || stat.more.as_ref().and_then(|more| more.limit).is_some_and(near);
            }
            // Throttling that stood still is news: the share of the time before ends with it.
            let throttled = self.more.as_ref().is_some_and(|more| more.throttled.is_some());
            self.still = !moved && stat.is_some() && stat == self.stat && !throttled;
            if self.still {
                stat = None;
            } else if stat.is_some() {
                self.stat.clone_from(&stat);
            }
            if let Some(stat) = stat.as_mut().filter(|_| !fresh) {
                stat.more = None;
            }
        }
        // A reading that is the same as the last one is no event.
        if usage != self.usage || stat.is_some() || usage.is_none() {
            self.usage = usage;
            events.push(Event::Sampled { id: self.id, usage, stat });
        }
    }
}

#[cfg(test)]
mod tests;
