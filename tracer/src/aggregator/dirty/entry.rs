//! One row's state.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::dirty::{DirtyCount, FileKey, NO_DEVICE};

use super::{
    Served,
    row::{Before, DirtyRow, File, Recent, Writer},
};
use crate::{
    aggregator::{
        row::{How, Memory},
        stream::Process,
    },
    resolve::{Container, stream::Node},
};

/// Processes and files that are told of, each.
const SHOWN: usize = 32;
/// Names of a process, from one program to the next.
const NAMES: usize = 4;
/// Processes with a file that are kept; beyond them the least are dropped, but counted for the row.
const PAIRS: usize = 1024;
/// Processes that are kept.
const WRITERS: usize = 4096;
/// Stands for files for which the kernel's map had no room.
const NO_FILE: Node = Node { dev: NO_DEVICE, ino: 0 };
/// What the recent past is.
const RECENT: Duration = Duration::from_secs(60);
/// Looks of one pair that are kept of it.
const LOOKS: usize = 128;

/// A process and a file.
#[derive(Debug, Default)]
struct Pair {
    dirtied: u64,
    looks: VecDeque<(Duration, u64)>,
}

pub struct Entry {
    pub container: Arc<Container>,
    /// The number of its removal.
    pub gone: Option<u64>,
    pairs: HashMap<(u32, Node), Pair>,
    /// By process, also of files that are not kept.
    writers: HashMap<u32, u64>,
    comms: HashMap<u32, Names>,
    before: HashMap<u32, Before>,
    dirtied: u64,
    done: Done,
    /// As of the last tick.
    last: (u64, Option<u64>, u64),
    /// `written` where it is inferred, and what was outstanding at first.
    inferred: Option<u64>,
    outstanding: Option<u64>,
}

/// Drops the least of a map until so many are left.
fn least_first<K: Copy + Eq + std::hash::Hash + Ord, V>(
    map: &mut HashMap<K, V>,
    left: usize,
    size: impl Fn(&V) -> u64,
) {
    let mut sizes: Vec<(u64, K)> = map.iter().map(|(key, value)| (size(value), *key)).collect();
    sizes.sort_unstable();
    for (_, key) in &sizes[..sizes.len().saturating_sub(left)] {
        map.remove(key);
    }
}

/// Bytes, and milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    written: u64,
    started: u64,
    undirtied: u64,
    cleaned: u64,
    throttled_ms: u64,
}

/// What a process was called: a container's first one bears the runtime's name, and has written a page or two under it,
/// until the program begins. It is told by the name under which it dirtied most.
#[derive(Default)]
struct Names(Vec<(Arc<str>, u64)>);

impl Names {
    fn add(&mut self, comm: &str, bytes: u64) {
        match self.0.iter_mut().find(|(known, _)| **known == *comm) {
            Some((_, sum)) => *sum += bytes,
            None => {
                self.0.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
                self.0.truncate(NAMES - 1);
                self.0.push((Arc::from(comm), bytes));
            }
        }
    }

    fn most(&self) -> Arc<str> {
        let most = self.0.iter().max_by_key(|(_, sum)| *sum);
        most.map_or_else(|| Arc::from(""), |(comm, _)| Arc::clone(comm))
    }
}

impl Entry {
    pub fn new(container: Arc<Container>) -> Entry {
        Entry {
            container,
            gone: None,
            pairs: HashMap::new(),
            writers: HashMap::new(),
            comms: HashMap::new(),
            before: HashMap::new(),
            dirtied: 0,
            done: Done::default(),
            last: (0, None, 0),
            inferred: None,
            outstanding: None,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.dirtied == 0 && self.done.written == 0 && self.done.throttled_ms == 0 && self.before.is_empty()
    }

    pub fn dirtied(&mut self, key: &FileKey, comm: &str, bytes: u64, at: Duration) {
        self.dirtied += bytes;
        self.comms.entry(key.pid).or_default().add(comm, bytes);
        *self.writers.entry(key.pid).or_default() += bytes;
        if self.writers.len() > WRITERS {
            least_first(&mut self.writers, WRITERS / 2, |bytes| *bytes);
            let (writers, before) = (&self.writers, &self.before);
            self.comms.retain(|pid, _| before.contains_key(pid) || writers.contains_key(pid));
        }
        // `NO_FILE` is kept as one: who filled the map matters, too.
        let pair = self.pairs.entry((key.pid, Node { dev: key.dev, ino: key.ino })).or_default();
        pair.dirtied += bytes;
        pair.looks.push_back((at, bytes));
        if pair.looks.len() > LOOKS {
            pair.looks.pop_front();
        }
        if self.pairs.len() > PAIRS {
            least_first(&mut self.pairs, PAIRS / 2, |pair| pair.dirtied);
        }
    }

    pub fn written(&mut self, more: &DirtyCount, page: u64) {
        // Of files that had no room.
        self.dirtied += more.beyond * page;
        self.done.written += more.written * page;
        self.done.started += more.started * page;
        self.done.undirtied += more.undirtied * page;
        self.done.cleaned += more.cleaned * page;
        self.done.throttled_ms += more.throttled_ms;
    }

    pub fn before(&mut self, before: Before) {
        self.comms.entry(before.pid).or_default().add(&before.comm, before.dirtied);
        self.before.insert(before.pid, before);
    }

    pub fn of_process(&self, pid: u32) -> u64 {
        self.writers.get(&pid).copied().unwrap_or(0)
    }

    /// Files that are told of, with the processes that made them dirty.
    pub fn shown_files(&self) -> Vec<(Node, u64, Vec<u32>)> {
        let mut files: BTreeMap<Node, (u64, Vec<u32>)> = BTreeMap::new();
        for ((pid, node), pair) in self.pairs.iter().filter(|((_, node), _)| *node != NO_FILE) {
            let file = files.entry(*node).or_default();
            file.0 += pair.dirtied;
            file.1.push(*pid);
        }
        let mut files: Vec<(Node, u64, Vec<u32>)> =
            files.into_iter().map(|(node, (bytes, pids))| (node, bytes, pids)).collect();
        files.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        files.truncate(SHOWN);
        for (.., pids) in &mut files {
            pids.sort_unstable();
        }
        files
    }

    /// What is not told by a probe of write-back follows from what became dirty and what still is.
    pub fn settle(&mut self, memory: &Memory, served: Served) {
        let Some(outstanding) = memory.dirty.zip(memory.writeback).map(|(dirty, back)| dirty + back) else {
            return;
        };
        let first = *self.outstanding.get_or_insert(outstanding);
        if served.dirtied && !served.written {
            let written = (self.dirtied + first).saturating_sub(outstanding);
            self.inferred = Some(self.inferred.unwrap_or(0).max(written));
        }
    }

    /// The row of the interval that ends. `name`: a file's path, and whether it is behind a loop device.
    pub fn close(
        &mut self,
        id: u64,
        memory: &Memory,
        served: Served,
        seconds: Option<f64>,
        at: Duration,
        name: impl Fn(Node) -> (Option<Arc<str>>, bool),
    ) -> Arc<DirtyRow> {
        let (written, written_how) = match served.written {
            true => (Some(self.done.written), None),
            false => (self.inferred, self.inferred.map(|_| How::Inferred)),
        };
        let cleaned = match served.by_statistics {
            true => self.done.undirtied.saturating_sub(self.done.started),
            false => self.done.cleaned,
        };
        let (dirtied_before, written_before, throttled_before) =
            std::mem::replace(&mut self.last, (self.dirtied, written, self.done.throttled_ms));
        let rate = |now: u64, before: u64| seconds.map(|seconds| now.saturating_sub(before) as f64 / seconds);
        let throttled = self.done.throttled_ms as f64 / 1e3;
        let recent = self.recent(at, &name);
        Arc::new(DirtyRow {
            row: id,
            container: Arc::clone(&self.container),
            removed: self.gone.is_some(),
            dirtied: served.dirtied.then_some(self.dirtied),
            dirtied_how: served.dirtied_how.filter(|_| served.dirtied),
            written,
            written_how,
            cleaned: served.written.then_some(cleaned),
            dirtied_per_s: rate(self.dirtied, dirtied_before).filter(|_| served.dirtied),
            written_per_s: written.zip(written_before).and_then(|(now, before)| rate(now, before)),
            dirty: memory.dirty,
            writeback: memory.writeback,
            throttled_s: served.throttled.then_some(throttled),
            throttled_per_s: rate(self.done.throttled_ms, throttled_before)
                .map(|ms| ms / 1e3)
                .filter(|_| served.throttled),
            processes: self.processes(),
            files: self.files(&name),
            recent,
            before_attach: (!self.before.is_empty())
                .then(|| self.before.values().map(|before| before.dirtied).sum()),
        })
    }

    fn process(&self, pid: u32) -> Process {
        Process { pid, comm: self.comms.get(&pid).map_or_else(|| Arc::from(""), Names::most) }
    }

    fn processes(&self) -> Vec<Writer> {
        let mut sums: BTreeMap<u32, u64> = self.before.keys().map(|pid| (*pid, 0)).collect();
        for (pid, dirtied) in &self.writers {
            *sums.entry(*pid).or_default() += dirtied;
        }
        let writer = |(pid, dirtied)| Writer {
            process: self.process(pid),
            dirtied,
            before_attach: self.before.get(&pid).map(|before| before.dirtied),
        };
        let mut writers: Vec<Writer> = sums.into_iter().map(writer).collect();
        let key = |writer: &Writer| (writer.dirtied, writer.before_attach);
        writers.sort_by(|a, b| key(b).cmp(&key(a)).then(a.process.pid.cmp(&b.process.pid)));
        writers.truncate(SHOWN);
        writers
    }

    fn files(&self, name: impl Fn(Node) -> (Option<Arc<str>>, bool)) -> Vec<File> {
        let mut sums: BTreeMap<Node, (u64, bool, Option<u64>)> = BTreeMap::new();
        for ((_, node), pair) in self.pairs.iter().filter(|((_, node), _)| *node != NO_FILE) {
            sums.entry(*node).or_default().0 += pair.dirtied;
        }
        for before in self.before.values() {
            for ((node, _), allocated) in &before.files {
                let file = sums.entry(*node).or_default();
                file.1 = true;
                if let [_] = before.files[..] {
                    // It cannot have more of it dirty than the file has.
                    file.2 = Some(file.2.unwrap_or(0) + before.dirtied.min(*allocated));
                }
            }
        }
        let file = |(node, (dirtied, open_before, before_attach))| {
            let (path, backing) = name(node);
            File { path, node, dirtied, backing, before_attach, open_before }
        };
        let mut files: Vec<File> = sums.into_iter().map(file).collect();
        let key = |file: &File| (file.dirtied, file.before_attach);
        files.sort_by(|a, b| key(b).cmp(&key(a)).then(a.node.cmp(&b.node)));
        files.truncate(SHOWN);
        files
    }

    fn recent(&mut self, at: Duration, name: impl Fn(Node) -> (Option<Arc<str>>, bool)) -> Vec<Recent> {
        let mut recent = Vec::new();
        for ((pid, node), pair) in &mut self.pairs {
            while pair.looks.front().is_some_and(|(seen, _)| at.saturating_sub(*seen) > RECENT) {
                pair.looks.pop_front();
            }
            let dirtied: u64 = pair.looks.iter().map(|(_, bytes)| bytes).sum();
            if dirtied > 0 {
                recent.push((dirtied, *pid, *node));
            }
        }
        recent.sort_by(|a, b| (b.0, a.1, a.2).cmp(&(a.0, b.1, b.2)));
        recent.truncate(SHOWN);
        let told = recent.into_iter().map(|(dirtied, pid, node)| {
            let (path, backing) = name(node);
            Recent { process: self.process(pid), path, node, backing, dirtied }
        });
        told.collect()
    }
}
