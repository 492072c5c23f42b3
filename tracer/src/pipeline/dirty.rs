//! Dirty pages, from the kernel's counts to the picture: whose they are, what the files are called, and what was dirtied
//! before attach.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{DirtyWish, probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        dirty::{
            DirtyState,
            row::{Before, Dirty},
        },
        row::Row,
    },
    event::{Event, procfs},
    resolve::{
        file::{Process, backing},
        stream::{Node, birth},
    },
};

/// Between two ticks files that are new are asked for so long at each look, and at each tick; the rest waits.
const HURRY: Duration = Duration::from_millis(10);
const NAMING: Duration = Duration::from_millis(10);
/// What was before attach is asked for so long at each tick.
const LOOKING_BACK: Duration = Duration::from_millis(50);
/// A file without a name is asked for again after so long, then ever less often.
const AGAIN: Duration = Duration::from_secs(1);
/// Loop devices are looked at this often.
const LOOPS: Duration = Duration::from_secs(5);
/// Other processes of a row that may have a file open.
const OTHERS: usize = 16;
/// Processes of a row that are asked what they wrote before attach, and those told of.
const ASKED: usize = 512;
const TOLD: usize = 32;
/// Files that are asked for later.
const TRIED: usize = 16384;

/// What is followed of dirty pages in a run.
pub struct DirtyPages {
    state: DirtyState,
    /// When a file may be asked for again, and how often it was.
    tried: HashMap<(u64, Node), (Instant, u32)>,
    /// Rows whose processes were asked for the time before attach.
    asked: HashSet<u64>,
    loops: Option<Instant>,
    /// Clock ticks from boot to attach.
    attached: u64,
    /// Nothing is attached for it otherwise, and there is nothing to say of any row.
    wanted: bool,
}

impl DirtyPages {
    pub fn new(wish: DirtyWish) -> DirtyPages {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ticks = rustix::param::clock_ticks_per_second();
        DirtyPages {
            state: DirtyState::default(),
            tried: HashMap::new(),
            asked: HashSet::new(),
            loops: None,
            attached: now.tv_sec as u64 * ticks + now.tv_nsec as u64 * ticks / 1_000_000_000,
            wanted: wish > DirtyWish::Off,
        }
    }

    /// Whether it is worth a look between ticks.
    pub fn looks(&self) -> bool {
        self.wanted
    }

    /// Between ticks: a process that has begun to write may not live until the next.
    pub fn look(&mut self, probes: &mut Probes, rows: &Rows) {
        let Some(maps) = &mut probes.dirty else { return };
        let fresh = maps.fresh();
        if fresh.is_empty() {
            return;
        }
        let start = Instant::now();
        let mut processes = HashMap::new();
        for key in fresh {
            if start.elapsed() > HURRY {
                break;
            }
            let Some(row) = self.state.owner(key.cgroup, rows.row_of(key.cgroup)) else { continue };
            let node = Node { dev: key.dev, ino: key.ino };
            if !self.state.is_named(row, node) {
                self.ask(row, node, &[key.pid], &[], &mut processes);
            }
        }
    }

    /// What was counted.
    pub fn take_in(&mut self, event: &Event, rows: &Rows, at: Duration) {
        match event {
            Event::Dirtied { key, comm, bytes } => {
                let Some(row) = self.state.owner(key.cgroup, rows.row_of(key.cgroup)) else { return };
                self.state.dirtied(row, rows.aggregator.shared(row), key, comm, *bytes, at);
            }
            Event::WrittenBack { id, more } => {
                let Some(row) = self.state.owner(*id, rows.row_of(*id)) else { return };
                self.state.written(row, rows.aggregator.shared(row), more);
            }
            _ => {}
        }
    }

    /// Closes the interval; `closed` are its rows.
    pub fn tick(&mut self, closed: &[Arc<Row>], probes: &mut Probes, rows: &Rows, at: Duration) -> Dirty {
        if !self.wanted {
            return Dirty::default();
        }
        self.state.served = probes.dirty_served;
        self.look(probes, rows);
        self.name(rows);
        self.look_back(closed, rows);
        self.state.tick(at, closed)
    }

    /// Finds what files are called that are shown without a name.
    fn name(&mut self, rows: &Rows) {
        let now = Instant::now();
        if self.loops.is_none_or(|at| now.saturating_duration_since(at) >= LOOPS) {
            self.loops = Some(now);
            let files = backing().into_iter().map(|(node, path)| (node, Arc::from(path)));
            self.state.set_backing(files.collect());
        }
        if self.tried.len() > TRIED {
            self.tried.clear();
        }
        let mut processes = HashMap::new();
        let mut others: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut looked_at_loops = false;
        for (row, node, pids) in self.state.nameless() {
            if now.elapsed() > NAMING {
                break;
            }
            let (next, times) = self.tried.get(&(row, node)).copied().unwrap_or((now, 0));
            if next > now {
                continue;
            }
            self.tried.insert((row, node), (now + AGAIN * 2_u32.pow(times.min(5)), times + 1));
            // A loop device may be new.
            if !std::mem::replace(&mut looked_at_loops, true) {
                let files = backing().into_iter().map(|(node, path)| (node, Arc::from(path)));
                self.state.set_backing(files.collect());
            }
            if self.state.is_named(row, node) {
                continue;
            }
            let others = others.entry(row).or_insert_with(|| rows.all_processes(row, OTHERS));
            self.ask(row, node, &pids, others, &mut processes);
        }
    }

    /// Asks the processes that made it dirty for a file's path, then others that may have it open, too.
    fn ask(
        &mut self,
        row: u64,
        node: Node,
        pids: &[u32],
        others: &[u32],
        processes: &mut HashMap<u32, Option<Process>>,
    ) {
        let mut with = |pid: &u32, path: fn(&Process, Node) -> Option<String>| {
            path(processes.entry(*pid).or_insert_with(|| Process::new(*pid)).as_ref()?, node)
        };
        let open = pids.iter().find_map(|pid| with(pid, Process::path));
        let mapped = open.or_else(|| pids.iter().find_map(|pid| with(pid, Process::mapped_path)));
        if let Some(path) = mapped.or_else(|| others.iter().find_map(|pid| with(pid, Process::path))) {
            self.state.name(row, node, &path);
        }
    }

    /// Who dirtied what before memtrace was there: asked once, of rows that have dirty pages, or page cache near their limit.
    fn look_back(&mut self, closed: &[Arc<Row>], rows: &Rows) {
        let start = Instant::now();
        for row in closed {
            let id = row.container.cgroup.id;
            if self.asked.contains(&id) || rows.aggregator.born(id) || !is_dirty_or_full(row) {
                continue;
            }
            if start.elapsed() > LOOKING_BACK {
                return;
            }
            self.asked.insert(id);
            self.ask_back(id, rows);
        }
        self.asked.retain(|row| rows.aggregator.container(*row).is_some());
    }

    fn ask_back(&mut self, row: u64, rows: &Rows) {
        let mut found: Vec<(u64, u32)> = Vec::new();
        for pid in rows.all_processes(row, ASKED) {
            if birth(pid).is_none_or(|birth| birth.start > self.attached) {
                continue;
            }
            let dirtied = procfs::dirtied(pid).unwrap_or(0);
            let before = dirtied.saturating_sub(self.state.since_attach(row, pid));
            if before > 0 {
                found.push((before, pid));
            }
        }
        found.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
        for (dirtied, pid) in found.into_iter().take(TOLD) {
            let Some(usage) = procfs::process(pid) else { continue };
            let files = Process::new(pid).map(|process| process.written()).unwrap_or_default();
            let files = files.into_iter().take(TOLD).map(|open| ((open.node, open.path), open.allocated));
            let before = Before { pid, comm: usage.comm, dirtied, files: files.collect() };
            self.state.before(row, rows.aggregator.shared(row), before);
        }
    }
}

/// A row for which it matters who filled its page cache.
fn is_dirty_or_full(row: &Row) -> bool {
    let memory = &row.memory;
    if memory.dirty.unwrap_or(0) + memory.writeback.unwrap_or(0) > 0 {
        return true;
    }
    let (Some(limit), Some(current), Some(file)) = (memory.effective_limit, memory.current, memory.file)
    else {
        return false;
    };
    current >= limit / 10 * 8 && file.saturating_sub(memory.shmem.unwrap_or(0)) >= limit / 4
}
