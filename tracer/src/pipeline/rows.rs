//! Keeps the tree of cgroups, their names, their readings and their rows in step: what happens to a cgroup is
//! carried to each of them here.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    aggregator::{Aggregator, stream::Process},
    event::{Event, cgroupfs::Cgroupfs, procfs},
    kernel::cgroup::Layout,
    resolve::{
        Cgroup, Container,
        container::{self, Role, Shape},
        metadata::{Lookup, Metadata, Names},
        tree::{Change, Tree},
    },
};

/// A newborn cgroup is read often for this long, so that one that lives shorter than a tick is accounted.
const NEWBORN_AGE: Duration = Duration::from_secs(1);
/// In a storm of new cgroups only so many are read between ticks; all of them are at the tick.
const NEWBORNS: usize = 128;
/// Looking up names may take this long in one go.
const NAMING: Duration = Duration::from_millis(100);
/// What a removed cgroup's last tasks and pages do is counted for so long.
const DEPARTED_AGE: Duration = Duration::from_secs(30);
/// Processes of a row that grows which are looked at.
const LOOKED_AT: usize = 512;
/// The same of those that are in no row, among them each of the kernel's own.
const ROWLESS: usize = 4096;
/// Removed cgroups that are told of one by one in a tick.
const DIED: usize = 65_536;
/// Processes that lead to a container's name.
const PIDS: usize = 4;

/// The rows and what they rest on.
pub struct Rows {
    pub tree: Tree,
    names: Names,
    /// Rows without a name yet, and when to look again.
    unnamed: HashMap<u64, Instant>,
    cgroupfs: Cgroupfs,
    pub aggregator: Aggregator,
    newborns: Vec<(u64, Instant)>,
    /// Removed cgroups whose counters may still be read.
    departed: HashMap<u64, Departed>,
    /// Removed since somebody took them from here.
    pub died: Vec<Died>,
    started: Instant,
}

impl Rows {
    pub fn walk(layout: &Layout, started: Instant) -> anyhow::Result<Rows> {
        let tree = Tree::walk(&layout.memory, layout.memory_v2)
            .with_context(|| format!("cannot read the cgroups below {}", layout.memory.display()))?;
        let cgroupfs =
            Cgroupfs::open(&layout.memory, layout.memory_v2, layout.cpu.as_deref(), layout.pids.as_deref())
                .with_context(|| format!("cannot open {}", layout.memory.display()))?;
        Ok(Rows {
            tree,
            names: Names::new(Path::new("/")),
            unnamed: HashMap::new(),
            cgroupfs,
            aggregator: Aggregator::default(),
            newborns: Vec::new(),
            departed: HashMap::new(),
            died: Vec::new(),
            started,
        })
    }

    /// The rows there are, once probes tell of those that come.
    pub fn place_all(&mut self) {
        // Between the walk and the attach more may have come.
        self.tree.rescan(&mut Vec::new());
        let rows: Vec<u64> = self.tree.rows().collect();
        for id in rows {
            self.place(id, None);
        }
        self.name_rows();
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    /// One event, to whom it concerns.
    pub fn take_in(&mut self, event: &Event) {
        let now = Instant::now();
        let at = self.since_start(now);
        let mut changes = Vec::new();
        match event {
            Event::CgroupMade { id, path } => {
                self.newborns.push((*id, now));
                self.tree.made(*id, path.as_deref(), &mut changes);
            }
            Event::CgroupRenamed { .. } => self.tree.renamed(&mut changes),
            Event::CgroupRemoved { id, .. } => {
                let row = self.tree.nearest_row(*id);
                let above = row.and_then(|row| self.tree.row_above(row));
                self.departed.insert(*id, Departed { row, above, at: now });
                self.died(*id, row, above);
                self.aggregator.apply(event, None, at);
                self.tree.removed(*id, &mut changes);
            }
            Event::TaskMoved { id, pid } => {
                if let Some(row) = self.tree.nearest_row(*id)
                    && self.unnamed.contains_key(&row)
                {
                    self.look_up(row, &[*pid], now);
                }
            }
            Event::Counted { id, .. } | Event::Reclaimed { id, .. } => {
                let row = self.row_of(*id);
                self.aggregator.apply(event, row, at);
            }
            _ => self.aggregator.apply(event, None, at),
        }
        self.follow(&changes, now);
    }

    /// The row that counts a cgroup's charges; a removed cgroup's go to its own last row, then to its parent's.
    pub fn row_of(&self, id: u64) -> Option<u64> {
        if let Some(row) = self.tree.nearest_row(id) {
            return Some(row);
        }
        let departed = self.departed.get(&id)?;
        departed.row.filter(|row| self.aggregator.container(*row).is_some()).or(departed.above)
    }

    /// Processes in a row's cgroup and those in it that are not rows of their own.
    pub fn all_processes(&self, row: u64, limit: usize) -> Vec<u32> {
        let cgroups = self.tree.members(&HashSet::from([row]));
        let mut found: Vec<u32> = Vec::new();
        for id in cgroups {
            let path = self.tree.node(id).map(|node| node.path.as_str());
            found.extend(path.into_iter().flat_map(|path| self.cgroupfs.processes_at(path, limit)));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(limit);
        found
    }

    /// Who a cgroup is that has gone: from its path and what is still written about it.
    pub fn identify_gone(&mut self, path: &str) -> Container {
        let shape = container::classify(path);
        let metadata = match self.names.lookup(&shape, &[], Instant::now()) {
            Lookup::Known(metadata) => Some(metadata),
            Lookup::Later(_) | Lookup::Nameless => None,
        };
        identity(0, path.to_owned(), &shape, metadata.as_deref())
    }

    /// Processes directly in a row's cgroup.
    pub fn processes(&self, row: u64, limit: usize) -> Vec<u32> {
        self.cgroupfs.processes(row, limit)
    }

    /// What the processes of a row hold of anonymous memory; `None`: those that are in no row.
    pub fn anonymous(&self, row: Option<u64>) -> Vec<(Process, u64)> {
        let pids = match row {
            Some(row) => self.processes(row, LOOKED_AT),
            None => self.all_processes(self.tree.root(), ROWLESS),
        };
        let of = |pid: u32| {
            // Those of the kernel have none.
            let anon = procfs::anonymous(pid).filter(|anon| *anon > 0)?;
            Some((Process { pid, comm: procfs::comm(pid)?.into() }, anon))
        };
        pids.into_iter().filter_map(of).collect()
    }

    /// Every row that lives, and whose it is.
    pub fn containers(&self) -> impl Iterator<Item = (u64, &Container)> {
        self.tree.rows().filter_map(|id| Some((id, self.aggregator.container(id)?)))
    }

    /// A cgroup is gone: by whom it was counted, and what was around it.
    fn died(&mut self, id: u64, row: Option<u64>, above: Option<u64>) {
        if self.died.len() < DIED {
            self.died.push(Died {
                id,
                container: row.and_then(|row| self.aggregator.shared(row)),
                parent: self.tree.node(id).and_then(|node| node.parent),
                above,
                held_above: above.and_then(|above| self.aggregator.current(above)),
            });
        }
    }

    /// Carries changes of the tree on to the readings and the rows.
    fn follow(&mut self, changes: &[Change], now: Instant) {
        for change in changes {
            match *change {
                Change::Row(id) => {
                    let born =
                        self.newborns.iter().find(|(newborn, _)| *newborn == id).map(|(_, born)| *born);
                    self.place(id, born);
                    // A row that came between others is now the one around some of them.
                    let below: Vec<u64> = match self.tree.has_children(id) {
                        true => {
                            self.tree.rows().filter(|row| self.tree.row_above(*row) == Some(id)).collect()
                        }
                        false => Vec::new(),
                    };
                    for other in below {
                        self.place(other, None);
                    }
                    if self.newborns.len() < NEWBORNS {
                        self.sample_now(id, now);
                    }
                    self.look_up(id, &[], now);
                }
                Change::Gone(id) => {
                    self.died(id, Some(id), None);
                    let at = self.since_start(now);
                    self.aggregator.gone(id, at);
                    self.cgroupfs.forget(id);
                    self.unnamed.remove(&id);
                    self.newborns.retain(|(other, _)| *other != id);
                }
            }
        }
    }

    fn place(&mut self, id: u64, born: Option<Instant>) {
        let Some(node) = self.tree.node(id) else { return };
        let above = self.tree.row_above(id);
        match self.aggregator.container(id).cloned() {
            Some(container) => self.aggregator.place(id, container, above, None),
            None => {
                let container = identity(id, node.path.clone(), &node.shape, None);
                self.cgroupfs.watch(id, &node.path);
                self.aggregator.place(id, container, above, born.map(|born| self.since_start(born)));
                self.unnamed.insert(id, Instant::now());
            }
        }
    }

    /// Names of rows that have none, as far as the time allows.
    pub fn name_rows(&mut self) {
        let start = Instant::now();
        let due = self.unnamed.iter().filter(|(_, retry)| **retry <= start).map(|(id, _)| *id);
        for id in due.collect::<Vec<u64>>() {
            self.look_up(id, &[], Instant::now());
            if start.elapsed() > NAMING {
                break;
            }
        }
    }

    fn look_up(&mut self, id: u64, pids: &[u32], now: Instant) {
        let Some(node) = self.tree.node(id) else { return };
        if self.tree.borrows_id(id) {
            self.unnamed.remove(&id);
            return;
        }
        let (path, mut shape) = (node.path.clone(), node.shape.clone());
        let mut found = self.names.lookup(&shape, pids, now);
        if matches!(found, Lookup::Later(_)) && pids.is_empty() {
            let pids = self.cgroupfs.processes(id, PIDS);
            if !pids.is_empty() {
                found = self.names.lookup(&shape, &pids, now);
            }
        }
        match found {
            Lookup::Known(metadata) => {
                self.unnamed.remove(&id);
                if shape.role == Role::Plain
                    && let Some(claimed) = container::in_namespace(&path)
                {
                    shape = claimed.clone();
                    self.tree.claim(id, claimed);
                }
                let provenance = Some(metadata.provenance.clone());
                self.aggregator.name(id, identity(id, path, &shape, Some(&metadata)), provenance);
            }
            Lookup::Later(retry) => {
                self.unnamed.insert(id, retry);
            }
            Lookup::Nameless => {
                self.unnamed.remove(&id);
            }
        }
    }

    pub fn has_newborns(&self) -> bool {
        !self.newborns.is_empty()
    }

    /// Between ticks: cgroups that were only just made.
    pub fn read_newborns(&mut self) {
        let now = Instant::now();
        self.newborns.retain(|(_, born)| now.saturating_duration_since(*born) < NEWBORN_AGE);
        let ids: Vec<u64> = self.newborns.iter().map(|(id, _)| *id).take(NEWBORNS).collect();
        for id in ids {
            let mut changes = Vec::new();
            self.tree.settle(id, &mut changes);
            self.follow(&changes, now);
            self.sample_now(id, now);
            if self.unnamed.get(&id).is_some_and(|retry| *retry <= now) {
                self.look_up(id, &[], now);
            }
        }
    }

    fn sample_now(&mut self, id: u64, now: Instant) {
        let mut events = Vec::new();
        self.cgroupfs.sample_now(id, now, &mut events);
        let at = self.since_start(now);
        for event in &events {
            self.aggregator.apply(event, None, at);
        }
    }

    /// Reads every row whose usage or whose counters moved.
    pub fn sample(&mut self, now: Instant, events: &mut Vec<Event>) {
        let moved: HashSet<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Counted { id, .. } | Event::WrittenBack { id, .. } | Event::Reclaimed { id, .. } => {
                    self.tree.nearest_row(*id)
                }
                Event::Dirtied { key, .. } => self.tree.nearest_row(key.cgroup),
                _ => None,
            })
            .collect();
        self.cgroupfs.sample(now, &moved, events);
        let beyond = self.tree.beyond();
        if beyond > 0 {
            let what = "cgroups that were not followed because there are too many";
            events.push(Event::Lost { what, count: beyond });
        }
        let unanswered = self.names.unanswered();
        if unanswered > 0 {
            let what = "looks for a container's name to which a file system did not answer";
            events.push(Event::Lost { what, count: unanswered });
        }
    }

    /// Looks for containers that were renamed.
    pub fn rename(&mut self, now: Instant) {
        for renamed in self.names.renamed() {
            let rows: Vec<u64> = self
                .tree
                .rows()
                .filter(|id| self.tree.node(*id).is_some_and(|node| node.shape == renamed))
                .collect();
            for id in rows {
                self.look_up(id, &[], now);
            }
        }
    }

    /// Looks for cgroups that no event told of, and forgets what is long gone.
    pub fn rescan(&mut self, now: Instant) {
        let mut changes = Vec::new();
        self.tree.rescan(&mut changes);
        self.follow(&changes, now);
    }

    /// Whether a cgroup's counters are still of use.
    pub fn knows(&self, id: u64) -> bool {
        self.tree.node(id).is_some() || self.departed.contains_key(&id)
    }

    /// Forgets the cgroups that are long gone.
    pub fn forget_departed(&mut self, now: Instant) {
        self.departed.retain(|_, departed| now.saturating_duration_since(departed.at) < DEPARTED_AGE);
        let (tree, departed) = (&self.tree, &self.departed);
        self.aggregator.retain_totals(|id| tree.node(id).is_some() || departed.contains_key(&id));
    }
}

/// A cgroup that was just removed.
pub struct Died {
    pub id: u64,
    /// Of the row that counted it.
    pub container: Option<Arc<Container>>,
    pub parent: Option<u64>,
    /// The row around that, and what it held at the last tick.
    pub above: Option<u64>,
    pub held_above: Option<u64>,
}

/// A removed cgroup: the row that counted it, and the one around that.
struct Departed {
    row: Option<u64>,
    above: Option<u64>,
    at: Instant,
}

/// A row's identity from its path and what the runtime wrote about it.
fn identity(id: u64, path: String, shape: &Shape, metadata: Option<&Metadata>) -> Container {
    let known = metadata.cloned().unwrap_or_default();
    Container {
        runtime: known.runtime.filter(|_| !shape.certain).unwrap_or(shape.runtime),
        id: shape.id.clone(),
        name: known.name,
        pod: known.pod,
        namespace: known.namespace,
        image: known.image,
        sandbox: known.sandbox,
        cgroup: Cgroup { id, path },
    }
}
