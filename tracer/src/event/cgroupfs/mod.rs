//! Reads the memory files of the cgroups that are rows, and of those only what may have moved: usage is one
//! `pread` on a kept descriptor, `memory.stat` is read when there is a reason, the rest is swept.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Event, More, Stalls, Stat};

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
        let mut buffer = vec![0; FILE_LIMIT];
        let text = read(dir, "cgroup.procs", &mut buffer).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).take(limit).collect()
    }

    /// The same of one that need not be watched.
    pub fn processes_at(&self, path: &str, limit: usize) -> Vec<u32> {
        let Ok(dir) = open_dir(&self.mounts.memory, below(path)) else { return Vec::new() };
        let mut buffer = vec![0; FILE_LIMIT];
        let text = read(&dir, "cgroup.procs", &mut buffer).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).take(limit).collect()
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
        let due = age(self.stat_at) >= sweep && (self.stat_at.is_none() || budget.sweeps > 0);
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

fn open(dir: &OwnedFd, name: &str) -> Option<fs::File> {
    openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .ok()
        .map(fs::File::from)
}

/// A file that the kernel prints in one piece: one read has all of it, if there is room.
fn read<'a>(dir: &OwnedFd, name: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut file = open(dir, name)?;
    loop {
        match file.read(buffer) {
            Ok(count) => return std::str::from_utf8(&buffer[..count]).ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // ENODEV: the cgroup was removed while it was read.
            Err(_) => return None,
        }
    }
}

fn pread_number(file: &fs::File) -> Option<u64> {
    let mut buffer = [0; 32];
    let count = file.read_at(&mut buffer, 0).ok()?;
    number(std::str::from_utf8(&buffer[..count]).ok()?)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A v2 limit is a number or `max`; a v1 limit is "unlimited" from the page counter's maximum on.
fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < (i64::MAX as u64) / 4096 * 4096)
}

fn read_stat(dir: &OwnedFd, v2: bool, usage: Option<u64>, buffer: &mut [u8]) -> Option<Stat> {
    let mut stat = parse_stat(read(dir, "memory.stat", buffer)?, v2);
    if v2 {
        stat.swap = read(dir, "memory.swap.current", buffer).and_then(number);
        if stat.kernel.is_none()
            && let (Some(usage), Some(anon), Some(file), Some(sock)) =
                (usage, stat.anon, stat.file, stat.sock)
        {
            stat.kernel = Some(usage.saturating_sub(anon + file + sock));
            stat.kernel_inferred = true;
        }
    } else {
        stat.kernel = read(dir, "memory.kmem.usage_in_bytes", buffer).and_then(number);
    }
    Some(stat)
}

/// `memory.stat`: v2 is hierarchical, on v1 the `total_` keys are.
fn parse_stat(text: &str, v2: bool) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let slot = match (v2, key) {
            (true, "anon") | (false, "total_rss") => &mut stat.anon,
            (true, "file") | (false, "total_cache") => &mut stat.file,
            (true, "shmem") | (false, "total_shmem") => &mut stat.shmem,
            (true, "file_dirty") | (false, "total_dirty") => &mut stat.dirty,
            (true, "file_writeback") | (false, "total_writeback") => &mut stat.writeback,
            (false, "total_swap") => &mut stat.swap,
            (true, "kernel") => &mut stat.kernel,
            (true, "slab") => &mut stat.slab,
            (true, "sock") => &mut stat.sock,
            (true, "percpu") => &mut stat.percpu,
            (true, "vmalloc") => &mut stat.vmalloc,
            (true, "pagetables") => &mut stat.page_tables,
            (true, "kernel_stack") => &mut stat.kernel_stack,
            (true, "pgmajfault") | (false, "total_pgmajfault") => &mut stat.faults.pgmajfault,
            (true, "workingset_refault_anon") | (false, "total_workingset_refault_anon") => {
                &mut stat.faults.refault_anon
            }
            (true, "workingset_refault_file") | (false, "total_workingset_refault_file") => {
                &mut stat.faults.refault_file
            }
            (true, "pswpin") | (false, "total_pswpin") => &mut stat.faults.pswpin,
            (true, "pswpout") | (false, "total_pswpout") => &mut stat.faults.pswpout,
            _ => continue,
        };
        *slot = number(value);
    }
    stat
}

fn read_more(dir: &OwnedFd, mounts: &Mounts, path: &str, buffer: &mut [u8]) -> More {
    let v2 = mounts.v2;
    let own_limit = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
    let (events, key) = if v2 { ("memory.events", "oom_kill ") } else { ("memory.oom_control", "oom_kill ") };
    More {
        limit: read(dir, own_limit, buffer).and_then(limit),
        oom_kills: read(dir, events, buffer)
            .and_then(|text| text.lines().find_map(|line| number(line.strip_prefix(key)?))),
        kills_are_local: !v2,
        tasks: read_controller(dir, v2, path, mounts.pids.as_ref(), "pids.current", buffer).and_then(number),
        throttled: read_controller(dir, v2, path, mounts.cpu.as_ref(), "cpu.stat", buffer)
            .and_then(throttled),
        stalls: if v2 { read(dir, "memory.pressure", buffer).and_then(stalls) } else { None },
    }
}

/// A file of the same cgroup in another controller's hierarchy, which on v2 is the same directory.
fn read_controller<'a>(
    dir: &OwnedFd,
    v2: bool,
    path: &str,
    mount: Option<&OwnedFd>,
    name: &str,
    buffer: &'a mut [u8],
) -> Option<&'a str> {
    if v2 { read(dir, name, buffer) } else { read(mount?, &format!("{path}/{name}"), buffer) }
}

/// `some avg10=... total=N`, and `full ...`.
fn stalls(text: &str) -> Option<Stalls> {
    let total = |word: &str| {
        let line = text.lines().find(|line| line.starts_with(word))?;
        number(line.rsplit_once("total=")?.1)
    };
    Some(Stalls { some_us: total("some ")?, full_us: total("full ")? })
}

/// Periods and throttled periods; without a quota the kernel counts no periods.
fn throttled(text: &str) -> Option<(u64, u64)> {
    let get = |key: &str| text.lines().find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?));
    let periods = get("nr_periods")?;
    (periods > 0).then_some((periods, get("nr_throttled")?))
}

#[cfg(test)]
mod tests;
