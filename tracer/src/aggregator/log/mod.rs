//! Streams of log lines: what each is to whom, how it grew, where it flows and who holds what came of it.
//!
//! A stream is a *log* if a container's init has it as descriptor 1 or 2, or if what is written to it is read in another
//! row by no relay. What a reader of logs writes to is an *edge*: the next step of their way. What one row says to itself
//! is neither.

mod kind;
mod way;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::line::{self, Counts, Medium};

use self::kind::Kind;
pub use self::kind::is_container;
use super::{
    row::Log,
    stream::{Lengths, Logs, Role, Stream},
};
use crate::{event::ProcessUsage, resolve::Container};

/// Intervals kept for a trend line.
const TREND: usize = 60;
/// Steps from a container to the last reader: a shim, a daemon, and whom that passes it on to.
const HOPS: usize = 4;
/// Streams of rows that are gone are listed on, so many.
const GONE: usize = 1024;

/// Who writes a stream, as far as that was found.
#[derive(Debug, Clone)]
pub struct Owner {
    pub row: u64,
    pub container: Arc<Container>,
    /// What it is to the row's first process; `None`: nothing, or that could not be asked.
    pub role: Option<Role>,
    /// Its writer has it neither as standard output nor as standard error: what a runtime says to itself before it becomes
    /// the container.
    pub aside: bool,
    /// It began after attach, so that its first line was seen whole.
    pub born: bool,
}

struct Entry {
    now: line::Stream,
    before: line::Stream,
    owner: Option<Owner>,
    reader_row: Option<u64>,
    /// Who alone can read it, until somebody is seen to.
    presumed: Option<u32>,
    lengths: Lengths,
    shown_lengths: Option<Arc<Lengths>>,
    trend: Vec<Option<u64>>,
    /// What stood in its line before attach, at most.
    open_before: Option<u64>,
    last_moved: Duration,
    gone: Option<u64>,
    first: bool,
}

struct Use {
    usage: ProcessUsage,
    comm: Arc<str>,
    row: Option<u64>,
    anon_first: Option<u64>,
    anon_before: Option<u64>,
    written_first: Option<u64>,
    disk_free: Option<u64>,
    /// From streams, since it was first looked at: as long as `written` counts.
    taken: u64,
}

/// What is to be done about a stream in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Bytes are enough.
    pub count_only: Vec<u64>,
    /// Idle, and nobody's log.
    pub forget: Vec<u64>,
}

/// All streams.
#[derive(Default)]
pub struct LogState {
    entries: HashMap<u64, Entry>,
    processes: HashMap<u32, Use>,
    counted_only: HashSet<u64>,
    with_lengths: bool,
    last_tick: Option<Duration>,
    removals: u64,
}

/// Nobody's stream is kept in the kernel for so long after it moved.
const IDLE: Duration = Duration::from_secs(20);

impl LogState {
    pub fn new(with_lengths: bool) -> LogState {
        LogState { with_lengths, ..LogState::default() }
    }

    pub fn knows(&self, key: u64) -> bool {
        self.entries.contains_key(&key)
    }

    /// Totals of a stream.
    pub fn stream(&mut self, key: u64, now: &line::Stream, at: Duration) {
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            now: *now,
            before: line::Stream::default(),
            owner: None,
            reader_row: None,
            presumed: None,
            lengths: Lengths::default(),
            shown_lengths: None,
            trend: Vec::new(),
            open_before: None,
            last_moved: at,
            gone: None,
            first: true,
        });
        // Of a new stream all was taken since attach; a stream that was there holds what it was at its last look.
        let before = if entry.first && entry.now == *now { 0 } else { entry.now.read };
        if let Some(reader) = self.processes.get_mut(&now.reader) {
            reader.taken += now.read.saturating_sub(before);
        }
        entry.now = *now;
        entry.last_moved = at;
    }

    pub fn lengths(&mut self, key: u64, group: u32, counts: &Counts) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.lengths.set(group, *counts);
            entry.shown_lengths = None;
        }
    }

    /// Whose it is. A role once found stays: the process that told of it may end.
    pub fn own(&mut self, key: u64, owner: Owner) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let role = owner.role.or(entry.owner.as_ref().and_then(|old| old.role));
            let born = owner.born && entry.owner.as_ref().is_none_or(|old| old.born);
            entry.owner = Some(Owner { role, born, ..owner });
        }
    }

    pub fn owner(&self, key: u64) -> Option<&Owner> {
        self.entries.get(&key)?.owner.as_ref()
    }

    pub fn totals(&self, key: u64) -> Option<line::Stream> {
        self.entries.get(&key).map(|entry| entry.now)
    }

    /// Where its reader runs.
    pub fn read_in(&mut self, key: u64, row: Option<u64>) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.reader_row = row.or(entry.reader_row);
        }
    }

    /// What stood in the open line before attach, at most.
    pub fn bound_before(&mut self, key: u64, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.open_before = Some(entry.open_before.map_or(bytes, |known| known.min(bytes)));
        }
    }

    /// Rows whose streams may still move.
    pub fn rows(&self) -> impl Iterator<Item = u64> {
        let live = self.entries.values().filter(|entry| entry.gone.is_none());
        let rows: HashSet<u64> = live.filter_map(|entry| Some(entry.owner.as_ref()?.row)).collect();
        rows.into_iter()
    }

    /// Containers may have names now that they had not before.
    pub fn refresh(&mut self, container: impl Fn(u64) -> Option<Arc<Container>>) {
        for owner in self.entries.values_mut().filter_map(|entry| entry.owner.as_mut()) {
            if let Some(container) = container(owner.row) {
                owner.container = container;
            }
        }
    }

    pub fn process_is_known(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// A row is gone: its streams are listed on, but move no more. Gives their keys.
    pub fn gone(&mut self, row: u64) -> Vec<u64> {
        self.removals += 1;
        let number = self.removals;
        let mut keys = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.owner.as_ref().is_some_and(|owner| owner.row == row) && entry.gone.is_none() {
                entry.gone = Some(number);
                self.counted_only.remove(key);
                keys.push(*key);
            }
        }
        let mut gone: Vec<(u64, u64)> =
            self.entries.iter().filter_map(|(key, entry)| Some((entry.gone?, *key))).collect();
        if gone.len() > GONE {
            gone.sort_unstable();
            for (_, key) in &gone[..gone.len() - GONE] {
                self.entries.remove(key);
            }
        }
        keys
    }

    /// Nobody was seen to read a stream, and only this one can.
    pub fn presume(&mut self, key: u64, reader: u32, usage: Option<&ProcessUsage>) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.presumed = Some(reader);
        }
        if !self.processes.contains_key(&reader) {
            self.process(reader, usage, None);
        }
    }

    /// What a reader is and has done; `None`: it is gone.
    pub fn process(&mut self, pid: u32, usage: Option<&ProcessUsage>, row: Option<u64>) {
        let Some(usage) = usage else {
            self.processes.remove(&pid);
            return;
        };
        match self.processes.get_mut(&pid) {
            Some(known) if *known.usage.comm == *usage.comm => {
                known.disk_free = usage.disk_free.or(known.disk_free);
                known.usage = usage.clone();
                known.row = row.or(known.row);
            }
            _ => {
                let first = Use {
                    comm: Arc::from(usage.comm.as_str()),
                    row,
                    anon_first: usage.anon,
                    anon_before: None,
                    written_first: usage.written,
                    disk_free: usage.disk_free,
                    taken: 0,
                    usage: usage.clone(),
                };
                self.processes.insert(pid, first);
            }
        }
    }

    /// Streams that are somebody's log, or may be, and of which no reader was seen: writer and node of each.
    pub fn unread(&self) -> impl Iterator<Item = (u64, &line::Stream)> {
        let wanted = |entry: &Entry| {
            let own = entry.owner.as_ref();
            // What readers write leads on; most other pipes of a host are nobody's log.
            own.is_some_and(|owner| owner.role.is_some()) || self.processes.contains_key(&entry.now.writer)
        };
        let open = self
            .entries
            .iter()
            .filter(move |(_, entry)| entry.gone.is_none() && entry.now.writer != 0 && wanted(entry));
        open.filter(|(_, entry)| self.reader_of(entry).0 == 0).map(|(key, entry)| (*key, &entry.now))
    }

    /// The reader of a stream and what it took. A terminal's is noted apart, for all its streams.
    fn reader_of(&self, entry: &Entry) -> (u32, u64) {
        if entry.now.medium != Medium::Pty as u32 {
            return match (entry.now.reader, entry.presumed) {
                (0, Some(presumed)) => (presumed, 0),
                seen => (seen.0, entry.now.read),
            };
        }
        let noted = self.entries.get(&line::key(entry.now.dev, entry.now.ino, 0));
        noted.map_or((0, 0), |noted| (noted.now.reader, entry.now.bytes.min(noted.now.read)))
    }

    fn reader_row(&self, entry: &Entry) -> Option<u64> {
        if entry.now.medium != Medium::Pty as u32 {
            return entry.reader_row;
        }
        self.entries.get(&line::key(entry.now.dev, entry.now.ino, 0))?.reader_row
    }

    /// Closes the interval: every log with its numbers, its way and what is held of it.
    pub fn tick(&mut self, at: Duration) -> (Logs, Verdicts) {
        let interval = at.saturating_sub(self.last_tick.unwrap_or_default()).as_secs_f64();
        let rated = self.last_tick.is_some() && interval > 0.0;
        self.last_tick = Some(at);
        let kinds = self.kinds();
        let verdicts = self.judge(&kinds, at);
        let mut streams: Vec<Stream> = Vec::new();
        let mut ends: HashMap<u32, Vec<usize>> = HashMap::new();
        for (key, entry) in self.entries.iter().filter(|(key, _)| kinds.get(key) == Some(&Kind::Log)) {
            let Some(owner) = &entry.owner else { continue };
            let rate = |now: u64, before: u64| rated.then(|| (now as f64 - before as f64) / interval);
            let hops = self.hops(entry, &kinds, rated.then_some(interval));
            if let Some(last) = hops.last() {
                ends.entry(last.process.pid).or_default().push(streams.len());
            }
            streams.push(Stream {
                id: *key,
                row: owner.row,
                container: Arc::clone(&owner.container),
                role: owner.role.unwrap_or(Role::Other),
                lines: entry.now.lines,
                bytes: entry.now.bytes,
                max: entry.now.max,
                open_line: entry.now.open,
                max_open_line: entry.now.max_open,
                unscanned: entry.now.unscanned,
                first_line_partial: !owner.born,
                open_line_before: self.open_before(entry, hops.last().map(|hop| hop.process.pid)),
                bytes_per_s: rate(entry.now.bytes, entry.before.bytes),
                lines_per_s: rate(entry.now.lines, entry.before.lines),
                open_line_per_s: rate(entry.now.open, entry.before.open),
                trend: entry
                    .trend
                    .iter()
                    .copied()
                    .chain(rated.then(|| Some(entry.now.bytes.saturating_sub(entry.before.bytes))))
                    .collect(),
                hops,
                held: None,
                held_how: None,
                lengths: self
                    .with_lengths
                    .then(|| entry.shown_lengths.clone().unwrap_or_else(|| Arc::new(entry.lengths.clone()))),
            });
        }
        let mut readers = Vec::new();
        for (pid, places) in ends {
            if let Some(reader) = self.reader(pid, &places, &mut streams, rated.then_some(interval)) {
                readers.push(reader);
            }
        }
        readers.sort_by_key(|reader| (std::cmp::Reverse(reader.taken), reader.process.pid));
        self.close(&streams);
        streams.sort_by(|a, b| {
            (&a.container.cgroup.path, a.role, a.id).cmp(&(&b.container.cgroup.path, b.role, b.id))
        });
        (Logs { streams: streams.into_iter().map(Arc::new).collect(), readers }, verdicts)
    }

    /// The line that was open at attach, unless it has ended: its reader can hold no more of it than it held in all.
    fn open_before(&self, entry: &Entry, reader: Option<u32>) -> Option<u64> {
        let born = entry.owner.as_ref().is_none_or(|owner| owner.born);
        let known = entry.open_before.filter(|_| entry.now.lines == 0 && !born)?;
        let reader = reader.and_then(|pid| self.processes.get(&pid)?.anon_first);
        Some(reader.map_or(known, |anon| known.min(anon)))
    }

    fn judge(&mut self, kinds: &HashMap<u64, Kind>, at: Duration) -> Verdicts {
        let mut verdicts = Verdicts::default();
        for (key, entry) in &self.entries {
            let idle = at.saturating_sub(entry.last_moved) > IDLE;
            match kinds.get(key) {
                Some(Kind::Log) | None => {}
                Some(Kind::Edge | Kind::Internal) if !idle => {
                    if self.counted_only.insert(*key) {
                        verdicts.count_only.push(*key);
                    }
                }
                Some(_) if idle => verdicts.forget.push(*key),
                Some(_) => {}
            }
        }
        for key in &verdicts.forget {
            self.entries.remove(key);
            self.counted_only.remove(key);
        }
        verdicts
    }

    fn close(&mut self, streams: &[Stream]) {
        for stream in streams {
            if let Some(entry) = self.entries.get_mut(&stream.id) {
                entry.trend = stream.trend.to_vec();
                let beyond = entry.trend.len().saturating_sub(TREND);
                entry.trend.drain(..beyond);
                entry.shown_lengths.clone_from(&stream.lengths);
            }
        }
        for entry in self.entries.values_mut() {
            entry.before = entry.now;
            entry.first = false;
        }
        for known in self.processes.values_mut() {
            known.anon_before = known.usage.anon;
        }
    }
}

/// Each row's part of the picture.
pub fn by_row(logs: &Logs) -> HashMap<u64, Log> {
    let mut rows: HashMap<u64, Log> = HashMap::new();
    let add = |sum: &mut Option<f64>, more: Option<f64>| *sum = sum.zip(more).map(|(sum, more)| sum + more);
    for stream in &logs.streams {
        let log = rows.entry(stream.row).or_insert(NOTHING);
        add(&mut log.bytes_per_s, stream.bytes_per_s);
        add(&mut log.lines_per_s, stream.lines_per_s);
        log.open_line_bytes = log.open_line_bytes.max(Some(stream.open_line));
    }
    rows
}

/// A row that writes no log.
pub const NOTHING: Log = Log { bytes_per_s: Some(0.0), lines_per_s: Some(0.0), open_line_bytes: Some(0) };

#[cfg(test)]
mod tests;
