//! STATE. Applies events to rows and turns them into disjoint rows at each tick. Time is an argument; nothing
//! here reads a clock, a file or a map.

mod entry;
pub mod host;
mod kinds;
pub mod row;
pub mod site;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::counter::CgroupCount;

use self::{
    entry::{Closing, Entry, Limits},
    host::HostState,
    kinds::{Hierarchical, KINDS, Kind},
    row::Row,
};
use crate::{event::Event, resolve::Container};

/// Which numbers a probe serves now; without one they are unknown, not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub charges: bool,
    pub tasks: bool,
}

/// All rows, the host, the losses.
#[derive(Default)]
pub struct Aggregator {
    entries: HashMap<u64, Entry>,
    host: HostState,
    losses: HashMap<&'static str, u64>,
    /// Totals by cgroup, which may be below the row that counts them.
    totals: HashMap<u64, CgroupCount>,
    /// Rows by path once `sorted`.
    order: Vec<u64>,
    sorted: bool,
    /// A limit changed in this interval.
    other_limits: bool,
    last_tick: Option<Duration>,
    ticks: u64,
    pub served: Served,
}

/// What rows are to each other in one interval.
#[derive(Default)]
struct Around {
    root: Option<u64>,
    /// For each row, what the live rows directly in it hold.
    nested: HashMap<u64, Hierarchical>,
    /// Rows with one directly in them that is not at rest.
    disturbed: HashSet<u64>,
    /// Some row has a limit.
    limited: bool,
}

/// What a tick yields.
pub struct Tick {
    pub interval: Duration,
    pub rows: Vec<Arc<Row>>,
    /// What the rows hold together, by kind, for what the host has beyond them.
    pub attributed: [Option<u64>; KINDS],
}

impl Aggregator {
    /// A cgroup is a row from now on, in the row `above`. `born`: when it was made, if memtrace saw it.
    pub fn place(&mut self, id: u64, container: Container, above: Option<u64>, born: Option<Duration>) {
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
            entry.name(container, provenance);
        }
    }

    pub fn container(&self, id: u64) -> Option<&Container> {
        self.entries.get(&id).map(|entry| &*entry.container)
    }

    /// The row's directory is gone, with or without an event that told what it held.
    pub fn gone(&mut self, id: u64, at: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.remove(at, None, None);
        }
    }

    /// Applies one event that concerns state. `row` is the row that counts the event's cgroup.
    pub fn apply(&mut self, event: &Event, row: Option<u64>, at: Duration) {
        match event {
            Event::Sampled { id, usage, stat } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    self.other_limits |= entry.sampled(*usage, stat.as_deref());
                }
            }
            Event::Counted { id, count } => self.counted(*id, *count, row),
            Event::CgroupRemoved { id, usage, peak } => {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.remove(at, *usage, *peak);
                }
            }
            Event::Host(memory) => self.host.memory = memory.clone(),
            Event::Lost { what, count } => {
                self.losses.insert(what, *count);
            }
            // These concern the tree, the names and the sites.
            Event::Charged { .. }
            | Event::CgroupMade { .. }
            | Event::CgroupRenamed { .. }
            | Event::CgroupReleased { .. }
            | Event::TaskMoved { .. } => {}
        }
    }

    fn counted(&mut self, id: u64, count: CgroupCount, row: Option<u64>) {
        let before = self.totals.insert(id, count).unwrap_or_default();
        if let Some(entry) = row.and_then(|row| self.entries.get_mut(&row)) {
            entry.counted(CgroupCount {
                charged: count.charged.saturating_sub(before.charged),
                uncharged: count.uncharged.saturating_sub(before.uncharged),
                execs: count.execs.saturating_sub(before.execs),
                exits: count.exits.saturating_sub(before.exits),
            });
        }
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
        self.ticks += 1;
        let with = Closing {
            number: self.ticks,
            interval: at.saturating_sub(self.last_tick.unwrap_or_default()),
            first: self.last_tick.is_none(),
            served: self.served,
        };
        self.last_tick = Some(at);
        self.sort();
        let around = self.around();
        let limits = if around.limited { self.limits() } else { HashMap::new() };
        let mut rows = Vec::with_capacity(self.entries.len());
        let mut removed = false;
        let other_limits = std::mem::take(&mut self.other_limits);
        for id in &self.order {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            // A row at rest is the same as before, unless one directly in it or a limit around it is not.
            let rests = entry.at_rest && !other_limits && !around.disturbed.contains(id);
            let row = match &entry.row {
                Some(row) if rests => Arc::clone(row),
                _ => {
                    removed |= entry.removed();
                    let share = entry.share(Some(*id) == around.root, around.nested.get(id));
                    let row = entry.close(with, share, limits.get(id).copied().unwrap_or_default());
                    entry.row = Some(Arc::clone(&row));
                    row
                }
            };
            rows.push(row);
        }
        if removed {
            self.entries.retain(|_, entry| !entry.removed());
            self.order.retain(|id| self.entries.contains_key(id));
        }
        let attributed = around.root.and_then(|root| around.nested.get(&root)).copied().unwrap_or_default();
        Tick { interval: with.interval, rows, attributed: attributed.into_inner() }
    }

    /// By path: for the eye of whoever reads plain output, and so that nothing hangs on a hash.
    fn sort(&mut self) {
        if !self.sorted {
            let path = |id: &u64| self.entries.get(id).map(|entry| entry.container.cgroup.path.as_str());
            self.order.sort_by(|a, b| path(a).cmp(&path(b)));
            self.sorted = true;
        }
    }

    /// One look at all rows: with a thousand of them each look is felt.
    fn around(&self) -> Around {
        let mut around = Around::default();
        for (id, entry) in &self.entries {
            around.limited |= entry.limit.is_some();
            match entry.above {
                Some(above) => {
                    if entry.alive() {
                        around.nested.entry(above).or_default().add(&entry.now);
                    }
                    if !entry.at_rest {
                        around.disturbed.insert(above);
                    }
                }
                None => around.root = Some(*id),
            }
        }
        around
    }

    /// Of the rows that have a limit, or are in one that has.
    fn limits(&self) -> HashMap<u64, Limits> {
        let mut limits = HashMap::new();
        for id in self.entries.keys() {
            let mut found = Limits::default();
            let mut at = Some(*id);
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

#[cfg(test)]
mod tests;
