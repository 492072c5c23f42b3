//! STATE. Applies events to rows and turns them into disjoint rows at each tick. Time is an argument; nothing
//! here reads a clock, a file or a map.

pub mod host;
mod kinds;
pub mod row;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::counter::CgroupCount;

use self::{
    host::HostState,
    kinds::{Hierarchical, KINDS, Kind},
    row::{Growth, How, Memory, Removed, Row, Tasks},
};
use crate::{
    event::{Event, More, Stat, page_size},
    resolve::Container,
};

/// Readings of `memory.current` kept for the trend line.
const TREND: usize = 60;
/// Time constant of the smoothed growth.
const EWMA_SECONDS: f64 = 10.0;
/// Below this a smoothed rate is as good as nothing: the row is at rest.
const AT_REST: f64 = 1.0;

/// Which numbers a probe serves now; without one they are unknown, not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub charges: bool,
    pub tasks: bool,
}

/// One row's state.
struct Entry {
    container: Container,
    provenance: Option<String>,
    /// The row around it.
    above: Option<u64>,
    /// Made while memtrace watched: what it held before was nothing.
    born: Option<Duration>,
    /// With all below it, as read.
    now: Hierarchical,
    limit: Option<u64>,
    kernel_inferred: bool,
    tasks: Option<u64>,
    oom_kills: Option<u64>,
    oom_before: Option<u64>,
    throttled: Option<(u64, u64)>,
    throttled_before: Option<(u64, u64)>,
    /// Own share at the last tick.
    before: Option<[Option<u64>; KINDS]>,
    ewma: [Option<f64>; KINDS],
    count: CgroupCount,
    count_before: CgroupCount,
    trend: Vec<Option<u64>>,
    removed: Option<(Duration, Option<u64>, Option<u64>)>,
    /// It could not be read: its directory is going away, or gone.
    vanished: bool,
    row: Option<Arc<Row>>,
    at_rest: bool,
}

/// All rows, the host, the losses.
#[derive(Default)]
pub struct Aggregator {
    entries: HashMap<u64, Entry>,
    host: HostState,
    losses: HashMap<&'static str, u64>,
    /// Totals by cgroup, which may be below the row that counts them.
    totals: HashMap<u64, CgroupCount>,
    last_tick: Option<Duration>,
    pub served: Served,
}

/// What a tick yields.
pub struct Tick {
    pub interval: Duration,
    pub rows: Vec<Arc<Row>>,
    /// Sum of the rows' shares by kind, for what the host has beyond them.
    pub attributed: [Option<u64>; KINDS],
}

impl Aggregator {
    /// A cgroup is a row from now on. `born`: it was made while memtrace watched.
    pub fn place(&mut self, id: u64, container: Container, above: Option<u64>, born: Option<Duration>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.above = above;
            entry.container = container;
            return;
        }
        let entry = Entry {
            container,
            provenance: None,
            above,
            born,
            now: Hierarchical::default(),
            limit: None,
            kernel_inferred: false,
            tasks: None,
            oom_kills: None,
            oom_before: born.map(|_| 0),
            throttled: None,
            throttled_before: None,
            before: born.map(|_| [Some(0); KINDS]),
            ewma: [None; KINDS],
            count: CgroupCount::default(),
            count_before: CgroupCount::default(),
            trend: Vec::new(),
            removed: None,
            vanished: false,
            row: None,
            at_rest: false,
        };
        self.entries.insert(id, entry);
    }

    /// Another name, or the first one, for a row.
    pub fn name(&mut self, id: u64, container: Container, provenance: Option<String>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.at_rest &= entry.container == container;
            entry.container = container;
            entry.provenance = provenance;
        }
    }

    pub fn container(&self, id: u64) -> Option<&Container> {
        self.entries.get(&id).map(|entry| &entry.container)
    }

    /// The row's directory is gone without an event that told what it held.
    pub fn gone(&mut self, id: u64, at: Duration) {
        self.remove(id, at, None, None);
    }

    fn remove(&mut self, id: u64, at: Duration, left: Option<u64>, peak: Option<u64>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let (at, old_left, old_peak) = entry.removed.unwrap_or((at, None, None));
            entry.removed = Some((at, left.or(old_left), peak.or(old_peak)));
            entry.at_rest = false;
        }
    }

    /// Applies one event that concerns state. `row` is the row that counts the event's cgroup.
    pub fn apply(&mut self, event: &Event, row: Option<u64>, at: Duration) {
        match event {
            Event::Sampled { id, usage, stat } => self.sampled(*id, *usage, stat.as_deref()),
            Event::Counted { id, count } => self.counted(*id, *count, row),
            Event::CgroupRemoved { id, usage, peak } => self.remove(*id, at, *usage, *peak),
            Event::Host(memory) => self.host.memory = memory.clone(),
            Event::Lost { what, count } => {
                self.losses.insert(what, *count);
            }
            // These concern the tree and the names.
            Event::CgroupMade { .. }
            | Event::CgroupRenamed { .. }
            | Event::CgroupReleased { .. }
            | Event::TaskMoved { .. } => {}
        }
    }

    fn sampled(&mut self, id: u64, usage: Option<u64>, stat: Option<&Stat>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.at_rest = false;
        entry.vanished = usage.is_none();
        if usage.is_some() {
            entry.now.set(Kind::Current, usage);
        }
        let Some(stat) = stat else { return };
        entry.now.read(stat);
        entry.kernel_inferred = stat.kernel_inferred;
        if let Some(More { limit, tasks, oom_kills, throttled }) = stat.more {
            entry.limit = limit;
            entry.tasks = tasks;
            entry.oom_kills = oom_kills;
            entry.oom_before = entry.oom_before.or(oom_kills);
            entry.throttled = throttled;
        }
    }

    fn counted(&mut self, id: u64, count: CgroupCount, row: Option<u64>) {
        let before = self.totals.insert(id, count).unwrap_or_default();
        let Some(entry) = row.and_then(|row| self.entries.get_mut(&row)) else { return };
        entry.at_rest = false;
        entry.count.charged += count.charged.saturating_sub(before.charged);
        entry.count.uncharged += count.uncharged.saturating_sub(before.uncharged);
        entry.count.execs += count.execs.saturating_sub(before.execs);
        entry.count.exits += count.exits.saturating_sub(before.exits);
    }

    /// Forgets totals of cgroups whose counters were dropped.
    pub fn retain_totals(&mut self, known: impl Fn(u64) -> bool) {
        self.totals.retain(|id, _| known(*id));
    }

    /// Losses since attach, largest first.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let mut losses: Vec<_> = self.losses.iter().map(|(what, count)| (*what, *count)).collect();
        losses.sort_by_key(|(what, count)| (std::cmp::Reverse(*count), *what));
        losses
    }

    pub fn host(&self) -> &HostState {
        &self.host
    }

    /// Closes the interval: every row's own share, its growth, and what became of it.
    pub fn tick(&mut self, at: Duration) -> Tick {
        let interval = at.saturating_sub(self.last_tick.unwrap_or_default());
        let first = self.last_tick.is_none();
        self.last_tick = Some(at);
        let nested = self.nested();
        let limits = self.limits();
        let mut attributed = Hierarchical::default();
        let mut rows = Vec::with_capacity(self.entries.len());
        let root = self.entries.iter().find(|(_, entry)| entry.above.is_none()).map(|(id, _)| *id);
        let mut disturbed = HashSet::new();
        for entry in self.entries.values() {
            if !entry.at_rest
                && let Some(above) = entry.above
            {
                disturbed.insert(above);
            }
            if entry.above.is_some() && entry.above == root && entry.alive() {
                attributed.add(&entry.now);
            }
        }
        for (id, entry) in &mut self.entries {
            let quiet = entry.at_rest && !disturbed.contains(id) && entry.removed.is_none();
            let row = match &entry.row {
                Some(row) if quiet => Arc::clone(row),
                _ => {
                    let share = entry.share(Some(*id) == root, nested.get(id));
                    let limit = limits.get(id).copied().unwrap_or_default();
                    entry.close(at, interval, first, share, limit, self.served)
                }
            };
            entry.row = Some(Arc::clone(&row));
            rows.push(row);
        }
        self.entries.retain(|_, entry| entry.removed.is_none());
        rows.sort_by(|a, b| a.container.cgroup.path.cmp(&b.container.cgroup.path));
        Tick { interval, rows, attributed: attributed.into_inner() }
    }

    /// For each row, what the live rows directly in it hold.
    fn nested(&self) -> HashMap<u64, Hierarchical> {
        let mut nested: HashMap<u64, Hierarchical> = HashMap::new();
        for entry in self.entries.values().filter(|entry| entry.alive()) {
            if let Some(above) = entry.above {
                nested.entry(above).or_default().add(&entry.now);
            }
        }
        nested
    }

    /// The least limit of each row and those around it, and the least room below any of them.
    fn limits(&self) -> HashMap<u64, Limits> {
        let mut limits = HashMap::with_capacity(self.entries.len());
        for id in self.entries.keys() {
            let mut found = Limits::default();
            let mut at = Some(*id);
            // Bounded by the depth of the tree; a loop cannot arise from paths.
            while let Some(entry) = at.and_then(|id| self.entries.get(&id)) {
                if let Some(limit) = entry.limit {
                    found.effective = Some(found.effective.map_or(limit, |least| least.min(limit)));
                    if let Some(current) = entry.now.get(Kind::Current) {
                        let room = limit.saturating_sub(current);
                        found.room = Some(found.room.map_or(room, |least| least.min(room)));
                    }
                }
                at = entry.above;
            }
            if found.effective.is_some() {
                limits.insert(*id, found);
            }
        }
        limits
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    effective: Option<u64>,
    room: Option<u64>,
}

impl Entry {
    fn alive(&self) -> bool {
        self.removed.is_none() && !self.vanished
    }

    /// What the row holds itself: what was read, less the rows nested in it.
    fn share(&self, root: bool, nested: Option<&Hierarchical>) -> [Option<u64>; KINDS] {
        match (root, nested) {
            // Row `/`: the kernel keeps no such sums; the host's numbers stand in the header.
            (true, _) => [None; KINDS],
            (false, None) => self.now.into_inner(),
            (false, Some(nested)) => self.now.less(nested),
        }
    }

    fn close(
        &mut self,
        at: Duration,
        interval: Duration,
        first: bool,
        share: [Option<u64>; KINDS],
        limits: Limits,
        served: Served,
    ) -> Arc<Row> {
        let seconds = interval.as_secs_f64();
        let share = if self.alive() { share } else { [None; KINDS] };
        let growth = self.growth(seconds, first, &share);
        self.before = self.alive().then_some(share);
        if self.trend.len() == TREND {
            self.trend.remove(0);
        }
        self.trend.push(share[Kind::Current as usize]);

        let per_second = |now: u64, before: u64, served: bool| {
            (served && !first && seconds > 0.0).then(|| (now - before) as f64 / seconds)
        };
        let (count, before) = (self.count, self.count_before);
        self.count_before = count;
        let page = page_size() as f64;
        let memory = self.memory(&share, limits.effective);
        let ewma = self.ewma[Kind::Current as usize];
        let seconds_to_limit = match (limits.room, ewma) {
            (Some(room), Some(rate)) if rate > AT_REST && share[Kind::Current as usize].is_some() => {
                Some(room as f64 / rate)
            }
            _ => None,
        };
        let row = Arc::new(Row {
            container: self.container.clone(),
            memory,
            growth_per_s: growth,
            growth_ewma_per_s: kinds::growth(&self.ewma),
            seconds_to_limit,
            seconds_to_limit_how: seconds_to_limit.map(|_| How::Inferred),
            charged_per_s: per_second(count.charged, before.charged, served.charges)
                .map(|pages| pages * page),
            uncharged_per_s: per_second(count.uncharged, before.uncharged, served.charges)
                .map(|pages| pages * page),
            log: None,
            tasks: Tasks {
                total: self.tasks.filter(|_| self.removed.is_none()),
                blocked: None,
                stuck: None,
                execs_per_s: per_second(count.execs, before.execs, served.tasks),
                exits_per_s: per_second(count.exits, before.exits, served.tasks),
            },
            oom_kills: self.oom_kills.map(|kills| kills.saturating_sub(self.oom_before.unwrap_or(0))),
            throttled_share: self.throttled_share(),
            removed: self.removed.map(|(removed, left, peak)| Removed {
                lived_s: self.born.map(|born| removed.saturating_sub(born).as_secs_f64()),
                peak,
                left,
                last: self.memory(&self.now.into_inner(), limits.effective),
            }),
            trend: Arc::from(self.trend.as_slice()),
            provenance: self.provenance.clone(),
        });
        let still = |rate: &Option<f64>| rate.is_none_or(|rate| rate.abs() < AT_REST);
        let flat = self.trend.windows(2).all(|pair| pair[0] == pair[1]) && self.trend.len() == TREND;
        self.at_rest =
            flat && self.ewma.iter().all(still) && count == before && at > Duration::ZERO && !first;
        row
    }

    fn memory(&self, share: &[Option<u64>; KINDS], effective_limit: Option<u64>) -> Memory {
        let mut memory = kinds::memory(share);
        memory.limit = self.limit;
        memory.effective_limit = effective_limit;
        memory.kernel_how = (self.kernel_inferred && memory.kernel.is_some()).then_some(How::Inferred);
        memory
    }

    fn growth(&mut self, seconds: f64, first: bool, share: &[Option<u64>; KINDS]) -> Growth {
        let mut rates = [None; KINDS];
        if let Some(before) = self.before.filter(|_| !first && seconds > 0.0) {
            for kind in 0..KINDS {
                rates[kind] = match (share[kind], before[kind]) {
                    (Some(now), Some(before)) => Some((now as f64 - before as f64) / seconds),
                    _ => None,
                };
            }
        }
        let weight = 1.0 - (-seconds / EWMA_SECONDS).exp();
        for kind in 0..KINDS {
            self.ewma[kind] = match (self.ewma[kind], rates[kind]) {
                (Some(smooth), Some(rate)) => Some(smooth + weight * (rate - smooth)),
                (None, Some(rate)) => Some(rate),
                (smooth, None) => smooth.filter(|_| share[kind].is_some()),
            };
        }
        kinds::growth(&rates)
    }

    fn throttled_share(&mut self) -> Option<f64> {
        let now = self.throttled?;
        let before = self.throttled_before.replace(now)?;
        let periods = now.0.checked_sub(before.0)?;
        let throttled = now.1.checked_sub(before.1)?;
        Some(if periods == 0 { 0.0 } else { throttled as f64 / periods as f64 })
    }
}
