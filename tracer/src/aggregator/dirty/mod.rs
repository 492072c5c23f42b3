//! Dirty pages by row: who made them so, of which file, what was written back, how long writers waited for it.

mod entry;
pub mod row;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::dirty::{DirtyCount, FileKey};

use self::{
    entry::Entry,
    row::{Before, Dirty},
};
use super::row::{How, Memory, Row};
use crate::{
    event::page_size,
    resolve::{Container, stream::Node},
};

/// Rows that are gone and had made something dirty are listed on, so many.
const GONE: usize = 256;
/// Names of files that are kept.
const NAMES: usize = 16384;

/// What the probes of dirty pages tell now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Who makes what dirty; how well that is known, if it is not simply measured.
    pub dirtied: bool,
    pub dirtied_how: Option<How>,
    pub written: bool,
    /// What was dropped unwritten comes from statistics, not from functions.
    pub by_statistics: bool,
    pub throttled: bool,
}

/// What a file is called.
#[derive(Debug, Clone)]
struct Name {
    path: Arc<str>,
    /// Counts up with each use, for forgetting the oldest.
    used: u64,
}

/// A row, a file, and the processes that made it dirty.
pub type Nameless = (u64, Node, Vec<u32>);

/// All rows.
#[derive(Default)]
pub struct DirtyState {
    rows: HashMap<u64, Entry>,
    /// The row of a cgroup; kept when it is removed, so that its last pages count where the others did.
    owners: HashMap<u64, u64>,
    /// What files are called, by who asked: two containers may call one file differently.
    names: HashMap<(u64, Node), Name>,
    /// Files behind loop devices.
    backing: HashMap<Node, Arc<str>>,
    used: u64,
    removals: u64,
    last_tick: Option<Duration>,
    pub served: Served,
}

impl DirtyState {
    fn entry(&mut self, row: u64, container: Option<Arc<Container>>) -> Option<&mut Entry> {
        match self.rows.entry(row) {
            hash_map::Entry::Occupied(known) => Some(known.into_mut()),
            hash_map::Entry::Vacant(place) => Some(place.insert(Entry::new(container?))),
        }
    }

    /// The row that counts a cgroup: `now` if it has one, else the one it had.
    pub fn owner(&mut self, cgroup: u64, now: Option<u64>) -> Option<u64> {
        if let Some(row) = now {
            self.owners.insert(cgroup, row);
        }
        self.owners.get(&cgroup).copied()
    }

    /// More of a file became dirty.
    pub fn dirtied(
        &mut self,
        row: u64,
        container: Option<Arc<Container>>,
        key: &FileKey,
        comm: &str,
        bytes: u64,
        at: Duration,
    ) {
        if let Some(entry) = self.entry(row, container) {
            entry.dirtied(key, comm, bytes, at);
        }
    }

    /// More of a cgroup's pages were written back.
    pub fn written(&mut self, row: u64, container: Option<Arc<Container>>, more: &DirtyCount) {
        if let Some(entry) = self.entry(row, container) {
            entry.written(more, page_size());
        }
    }

    /// What a process had made dirty before attach, at most, and of what.
    pub fn before(&mut self, row: u64, container: Option<Arc<Container>>, before: Before) {
        for ((node, path), _) in &before.files {
            self.name(row, *node, path);
        }
        if let Some(entry) = self.entry(row, container) {
            entry.before(before);
        }
    }

    /// What the processes of a row call a file.
    pub fn name(&mut self, row: u64, node: Node, path: &str) {
        self.used += 1;
        let used = self.used;
        if self.names.len() >= NAMES && !self.names.contains_key(&(row, node)) {
            let mut ages: Vec<u64> = self.names.values().map(|name| name.used).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.names.retain(|_, name| name.used > middle);
        }
        self.names.insert((row, node), Name { path: Arc::from(path), used });
    }

    pub fn is_named(&self, row: u64, node: Node) -> bool {
        self.names.contains_key(&(row, node)) || self.backing.contains_key(&node)
    }

    /// Which files are behind loop devices now.
    pub fn set_backing(&mut self, files: HashMap<Node, Arc<str>>) {
        // One that is not any more stays named: what was counted of it is listed on.
        self.backing.extend(files);
        if self.backing.len() > NAMES {
            self.backing.clear();
        }
    }

    /// Files that have no name yet, of those that are shown, the most dirtied first: row, file, and who made it dirty.
    pub fn nameless(&self) -> Vec<Nameless> {
        let mut found: Vec<(u64, Nameless)> = Vec::new();
        for (row, entry) in &self.rows {
            for (node, bytes, pids) in entry.shown_files() {
                if !self.is_named(*row, node) {
                    found.push((bytes, (*row, node, pids)));
                }
            }
        }
        found.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        found.into_iter().map(|(_, file)| file).collect()
    }

    /// What a process has made dirty since attach.
    pub fn since_attach(&self, row: u64, pid: u32) -> u64 {
        self.rows.get(&row).map_or(0, |entry| entry.of_process(pid))
    }

    /// Its row is gone; what it did is listed on.
    pub fn gone(&mut self, row: u64) {
        self.removals += 1;
        if let Some(entry) = self.rows.get_mut(&row) {
            entry.gone.get_or_insert(self.removals);
        }
        let mut gone: Vec<(u64, u64)> =
            self.rows.iter().filter_map(|(id, entry)| Some((entry.gone?, *id))).collect();
        if gone.len() > GONE {
            gone.sort_unstable();
            for (_, id) in &gone[..gone.len() - GONE] {
                self.forget(*id);
            }
        }
    }

    fn forget(&mut self, row: u64) {
        self.rows.remove(&row);
        self.owners.retain(|_, owner| *owner != row);
        self.names.retain(|(of, _), _| *of != row);
    }

    /// Closes the interval: every row that lives, and those gone that had made something dirty.
    pub fn tick(&mut self, at: Duration, rows: &[Arc<Row>]) -> Dirty {
        let interval = at.saturating_sub(self.last_tick.unwrap_or_default()).as_secs_f64();
        let rated = (self.last_tick.is_some() && interval > 0.0).then_some(interval);
        self.last_tick = Some(at);
        let mut living: HashMap<u64, &Row> = HashMap::new();
        for row in rows.iter().filter(|row| row.removed.is_none()) {
            living.insert(row.container.cgroup.id, row);
            let entry = self
                .rows
                .entry(row.container.cgroup.id)
                .or_insert_with(|| Entry::new(Arc::clone(&row.container)));
            entry.container = Arc::clone(&row.container);
        }
        let ended: Vec<u64> = self
            .rows
            .iter()
            .filter(|(id, entry)| entry.gone.is_none() && !living.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.gone(id);
        }
        let nothing = Memory::default();
        let served = self.served;
        let idle: Vec<u64> = self
            .rows
            .iter()
            .filter(|(_, entry)| entry.gone.is_some() && entry.is_idle())
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.forget(id);
        }
        let mut told: Vec<Arc<row::DirtyRow>> = Vec::with_capacity(self.rows.len());
        for (id, entry) in &mut self.rows {
            let memory = living.get(id).map_or(&nothing, |row| &row.memory);
            entry.settle(memory, served);
            let name = |node: Node| {
                let own = self.names.get(&(*id, node)).map(|name| Arc::clone(&name.path));
                (own.or_else(|| self.backing.get(&node).cloned()), self.backing.contains_key(&node))
            };
            told.push(entry.close(*id, memory, served, rated, at, name));
        }
        told.sort_by(|a, b| (&a.container.cgroup.path, a.row).cmp(&(&b.container.cgroup.path, b.row)));
        Dirty { rows: told }
    }
}
