//! STATE. Applies events to rows and turns them into disjoint rows at each tick. Time is an argument; nothing
//! here reads a clock, a file or a map.

pub mod call;
pub mod daemon;
pub mod dead;
pub mod dirty;
mod entry;
pub mod forecast;
pub mod host;
mod kinds;
pub mod log;
pub mod oom;
pub mod pressure;
pub mod row;
pub mod signal;
pub mod site;
pub mod stream;
pub mod stuck;
pub mod work;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::{counter::CgroupCount, oom::ReclaimCount};

use self::{
    entry::{Closing, Entry, Limits},
    host::HostState,
    kinds::{KINDS, Sum},
    row::{Log, Row},
    work::flight::Flight,
};
use crate::{event::Event, resolve::Container};

/// Which numbers a probe serves now; without one they are unknown, not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub charges: bool,
    pub tasks: bool,
    pub logs: bool,
    pub reclaims: bool,
    pub arrivals: bool,
}

/// All rows, the host, the losses.
#[derive(Default)]
pub struct Aggregator {
    entries: HashMap<u64, Entry>,
    host: HostState,
    losses: HashMap<&'static str, u64>,
    /// Totals by cgroup, which may be below the row that counts them.
    totals: HashMap<u64, CgroupCount>,
    reclaims: HashMap<u64, ReclaimCount>,
    /// Rows by path once `sorted`: the last of each, and where each is among them.
    order: Vec<u64>,
    rows: Vec<Arc<Row>>,
    places: HashMap<u64, usize>,
    sorted: bool,
    /// Rows that are not at rest: the others are the same as before.
    awake: HashSet<u64>,
    /// For each row, what the live rows directly in it hold.
    nested: HashMap<u64, Sum>,
    root: Option<u64>,
    held: u64,
    /// A limit changed in this interval.
    other_limits: bool,
    last_tick: Option<Duration>,
    ticks: u64,
    pub served: Served,
}

/// What a tick yields.
pub struct Tick {
    pub interval: Duration,
    pub rows: Vec<Arc<Row>>,
    /// Sum of `current` over all rows.
    pub held: Option<u64>,
    /// What the rows hold together, by kind, for what the host has beyond them.
    pub attributed: [Option<u64>; KINDS],
}

impl Aggregator {
    /// A cgroup is a row from now on, in the row `above`. `born`: when it was made, if memtrace saw it.
    pub fn place(&mut self, id: u64, container: Container, above: Option<u64>, born: Option<Duration>) {
        self.awake.insert(id);
        if above.is_none() {
            self.root = Some(id);
        }
        match self.entries.get_mut(&id) {
            Some(entry) => {
                entry.above = above;
                entry.at_rest = false;
            }
            None => {
                self.entries.insert(id, Entry::new(container, above, born));
                self.order.push(id);
                self.sorted = false;
            }
        }
    }

    /// Another name, or the first one, for a row.
    pub fn name(&mut self, id: u64, container: Container, provenance: Option<String>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            // With the name the path may be another.
            self.sorted = false;
            self.awake.insert(id);
            entry.name(container, provenance);
        }
    }

    /// A row's container, to be kept.
    pub fn shared(&self, id: u64) -> Option<Arc<Container>> {
        self.entries.get(&id).map(|entry| Arc::clone(&entry.container))
    }

    /// What a row held itself at the last tick.
    pub fn current(&self, id: u64) -> Option<u64> {
        self.entries.get(&id)?.row.as_ref()?.memory.current
    }

    /// Whether the row was made after attach.
    pub fn born(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(Entry::born)
    }

    /// What the rows logged in this interval; the others logged nothing.
    pub fn logged(&mut self, rows: &HashMap<u64, Log>) {
        for (id, entry) in &mut self.entries {
            let log = rows.get(id).copied().unwrap_or(log::NOTHING);
            if entry.log.replace(log) != Some(log) {
                self.awake.insert(*id);
            }
        }
    }

    /// Work in flight of the rows that were looked at.
    pub fn in_flight(&mut self, mut rows: HashMap<u64, Arc<Flight>>) {
        for (id, entry) in &mut self.entries {
            let flight = rows.remove(id);
            if entry.flight != flight {
                entry.flight = flight;
                entry.at_rest = false;
                self.awake.insert(*id);
            }
        }
    }

    /// Tasks of the rows that are blocked now, and how many of them for long; the others have none.
    pub fn blocked(&mut self, rows: &HashMap<u64, (u64, u64)>) {
        for (id, entry) in &mut self.entries {
            let now = rows.get(id).copied().unwrap_or_default();
            if entry.blocked.replace(now) != Some(now) {
                self.awake.insert(*id);
            }
        }
    }

    /// What was read of a row last, with the rows in it, and its own limit.
    pub fn whole(&self, id: u64) -> Option<row::Memory> {
        self.entries.get(&id).map(Entry::whole)
    }

    pub fn container(&self, id: u64) -> Option<&Container> {
        self.entries.get(&id).map(|entry| &*entry.container)
    }

    /// The row's directory is gone, with or without an event that told what it held.
    pub fn gone(&mut self, id: u64, at: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.remove(at, None, None);
            self.awake.insert(id);
        }
    }

    /// Applies one event that concerns state. `row` is the row that counts the event's cgroup.
    pub fn apply(&mut self, event: &Event, row: Option<u64>, at: Duration) {
        match event {
            Event::Sampled { id, usage, stat } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    self.awake.insert(*id);
                    self.other_limits |= entry.sampled(*usage, stat.as_deref(), at);
                }
            }
            Event::Counted { id, count } => self.counted(*id, *count, row),
            Event::Reclaimed { id, count } => self.reclaimed(*id, *count, row),
            Event::CgroupRemoved { id, usage, peak } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    self.awake.insert(*id);
                    entry.remove(at, *usage, *peak);
                }
            }
            Event::Host(memory) => self.host.memory = memory.clone(),
            Event::Lost { what, count } => {
                self.losses.insert(what, *count);
            }
            // These concern the tree, the names, the sites, the streams and dirty pages.
            Event::Charged { .. }
            | Event::OomMarked(_)
            | Event::CgroupMade { .. }
            | Event::CgroupRenamed { .. }
            | Event::CgroupReleased { .. }
            | Event::StreamWritten { .. }
            | Event::Stream { .. }
            | Event::Dirtied { .. }
            | Event::WrittenBack { .. }
            | Event::Lengths { .. }
            | Event::TaskMoved { .. } => {}
        }
    }

    fn counted(&mut self, id: u64, count: CgroupCount, row: Option<u64>) {
        let before = self.totals.insert(id, count).unwrap_or_default();
        if let Some((row, entry)) = row.and_then(|row| Some((row, self.entries.get_mut(&row)?))) {
            self.awake.insert(row);
            entry.counted(CgroupCount {
                charged: count.charged.saturating_sub(before.charged),
                uncharged: count.uncharged.saturating_sub(before.uncharged),
                execs: count.execs.saturating_sub(before.execs),
                exits: count.exits.saturating_sub(before.exits),
            });
        }
    }

    fn reclaimed(&mut self, id: u64, count: ReclaimCount, row: Option<u64>) {
        let before = self.reclaims.insert(id, count).unwrap_or_default();
        if let Some((row, entry)) = row.and_then(|row| Some((row, self.entries.get_mut(&row)?))) {
            self.awake.insert(row);
            entry.reclaimed(ReclaimCount {
                passes: count.passes.saturating_sub(before.passes),
                time: count.time.saturating_sub(before.time),
                pages: count.pages.saturating_sub(before.pages),
            });
        }
    }

    /// Forgets totals of cgroups whose counters were dropped.
    pub fn retain_totals(&mut self, known: impl Fn(u64) -> bool) {
        self.totals.retain(|id, _| known(*id));
        self.reclaims.retain(|id, _| known(*id));
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
        self.ticks += 1;
        let with = Closing {
            number: self.ticks,
            at,
            leaf: true,
            interval: at.saturating_sub(self.last_tick.unwrap_or_default()),
            first: self.last_tick.is_none(),
            served: self.served,
        };
        self.last_tick = Some(at);
        let mut closing = self.count_in();
        if std::mem::take(&mut self.other_limits) {
            closing.extend(self.entries.keys());
        }
        for id in &closing {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.foresee(at);
            }
        }
        self.host.foresee(at);
        let mut removed = false;
        for id in closing {
            let limits = self.limits(id);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            removed |= entry.removed();
            let share = entry.share(Some(id) == self.root, self.nested.get(&id));
            let leaf = self.nested.get(&id).is_none_or(|sum| sum.members == 0);
            let row = entry.close(Closing { leaf, ..with }, share, limits);
            entry.row = Some(Arc::clone(&row));
            if entry.at_rest {
                self.awake.remove(&id);
            } else {
                self.awake.insert(id);
            }
            if self.sorted
                && let Some(place) = self.places.get(&id).and_then(|place| self.rows.get_mut(*place))
            {
                self.held = self.held + row.memory.current.unwrap_or(0) - place.memory.current.unwrap_or(0);
                *place = row;
            }
        }
        self.sort();
        let rows = self.rows.clone();
        // Where no row's memory is known, the sum is not either.
        let held = self.rows.iter().any(|row| row.memory.current.is_some()).then_some(self.held);
        if removed {
            self.entries.retain(|_, entry| !entry.removed());
            self.order.retain(|id| self.entries.contains_key(id));
            self.awake.retain(|id| self.entries.contains_key(id));
            self.nested.retain(|id, _| self.entries.contains_key(id));
            self.sorted = false;
        }
        let nested = self.root.and_then(|root| self.nested.get(&root)).copied().unwrap_or_default();
        Tick { interval: with.interval, rows, held, attributed: nested.values() }
    }

    /// Brings the sums of nested rows up to date, and tells the rows that are to be closed: those that are not at rest,
    /// and those around them.
    fn count_in(&mut self) -> HashSet<u64> {
        let mut closing = self.awake.clone();
        for id in &self.awake {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            let part = if entry.alive() { entry.now.part() } else { None };
            let now = entry.above.zip(part);
            closing.extend(entry.above);
            if now == entry.counted_in {
                continue;
            }
            if let Some((above, part)) = std::mem::replace(&mut entry.counted_in, now) {
                // One that is gone has no sum any more.
                if let Some(sum) = self.nested.get_mut(&above) {
                    sum.take(&part);
                }
                closing.insert(above);
            }
            if let Some((above, part)) = now {
                self.nested.entry(above).or_default().add(&part);
            }
        }
        closing
    }

    /// By path: for the eye of whoever reads plain output, and so that nothing hangs on a hash.
    fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let path = |id: &u64| self.entries.get(id).map(|entry| entry.container.cgroup.path.as_str());
        self.order.sort_by(|a, b| path(a).cmp(&path(b)));
        self.places = self.order.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        // Each was closed at least once: it began awake.
        self.rows = self.order.iter().filter_map(|id| self.entries.get(id)?.row.clone()).collect();
        self.held = self.rows.iter().filter_map(|row| row.memory.current).sum();
        self.sorted = true;
    }

    /// Of a row that has a limit, or is in one that has.
    fn limits(&self, id: u64) -> Limits {
        let mut found = Limits::default();
        let mut at = Some(id);
        while let Some(entry) = at.and_then(|id| self.entries.get(&id)) {
            if let Some(limit) = entry.limit {
                found.effective = Some(found.effective.map_or(limit, |least| least.min(limit)));
                if let Some(forecast) = entry.forecast()
                    && found.forecast.is_none_or(|soonest| forecast.seconds < soonest.seconds)
                {
                    found.forecast = Some(forecast);
                }
            }
            at = entry.above;
        }
        found
    }
}

#[cfg(test)]
mod tests;
