//! Streams of log lines, from the kernel's word of them to the picture: whose they are (`identify`), who reads them and
//! what became of what was read (`readers`).

mod identify;
mod readers;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tracer_ebpf::abi::line;

use self::identify::Init;
use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        log::{LogState, by_row},
        stream::Logs,
    },
    event::Event,
    resolve::stream::birth,
};

/// Ancestors of a writer that may read what it writes.
const ANCESTORS: usize = 4;
/// Between two ticks new streams are identified for so long, and at each tick; the rest waits.
const HURRY: Duration = Duration::from_millis(50);
const IDENTIFYING: Duration = Duration::from_millis(50);

/// What is followed of log lines in a run.
pub struct LogLines {
    state: LogState,
    /// First process of a row and its first three descriptors.
    inits: HashMap<u64, Init>,
    /// When a reader of a stream was last looked for, and how often in vain before.
    searched: HashMap<u64, (Instant, u32)>,
    searched_all: Option<Instant>,
    /// Readers known to the kernel side.
    watched: HashSet<u32>,
    /// Looks at a row's first process for sockets, and when the next is due.
    looked: HashMap<u64, (u32, Instant)>,
    /// Streams that there was no time to identify yet.
    pending: HashSet<u64>,
    /// What identifying streams between ticks took since the last.
    hurried: Duration,
    last: Logs,
    overflowed: u64,
}

impl LogLines {
    pub fn new(lengths: bool) -> LogLines {
        LogLines {
            state: LogState::new(lengths),
            inits: HashMap::new(),
            searched: HashMap::new(),
            searched_all: None,
            watched: HashSet::new(),
            looked: HashMap::new(),
            pending: HashSet::new(),
            hurried: Duration::ZERO,
            last: Logs::default(),
            overflowed: 0,
        }
    }

    /// Between ticks: a process that has begun to write may not live until the next.
    pub fn take_in(&mut self, event: &Event, probes: &mut Probes, rows: &Rows, at: Duration) {
        match event {
            Event::StreamWritten { key, .. } => {
                let named = probes.readers_are_looked_for();
                let Some(streams) = &mut probes.streams else { return };
                streams.told(*key);
                if self.state.knows(*key) || self.hurried > HURRY {
                    return;
                }
                let Some(stream) = streams.stream(*key) else { return };
                let start = Instant::now();
                self.state.stream(*key, &stream, at);
                if !is_internal(&stream) {
                    self.identify(*key, &stream, rows);
                    if named {
                        // Its readers should be seen from its first bytes on.
                        self.look_near(streams, &[(*key, stream)]);
                    }
                }
                self.hurried += start.elapsed();
            }
            Event::CgroupRemoved { id, .. } => {
                // What its last processes wrote is read before the kernel forgets it.
                let Some(row) = rows.row_of(*id).filter(|row| row == id) else { return };
                self.end(row, probes, at);
            }
            _ => {}
        }
    }

    fn end(&mut self, row: u64, probes: &mut Probes, at: Duration) {
        let Some(streams) = &mut probes.streams else { return };
        let mut events = Vec::new();
        streams.read(&mut events);
        self.count(&events, at);
        for key in self.state.gone(row) {
            streams.forget(key);
            self.searched.remove(&key);
        }
        self.inits.remove(&row);
    }

    fn count(&mut self, events: &[Event], at: Duration) {
        for event in events {
            match event {
                Event::Stream { key, stream } => self.state.stream(*key, stream, at),
                Event::Lengths { key, group, counts } => self.state.lengths(*key, *group, counts),
                _ => {}
            }
        }
    }

    /// Reads what moved and closes the interval. `overflowed`: events that the ring buffer had no room for, since attach.
    pub fn tick(
        &mut self,
        probes: &mut Probes,
        rows: &mut Rows,
        overflowed: u64,
        at: Duration,
        now: Instant,
    ) -> Option<Logs> {
        self.look_for_sockets(probes, rows, now);
        let named = probes.readers_are_looked_for();
        // Where no event told of their end.
        let ended: Vec<u64> =
            self.state.rows().filter(|row| rows.aggregator.shared(*row).is_none()).collect();
        for row in ended {
            self.end(row, probes, at);
        }
        let streams = probes.streams.as_mut()?;
        if overflowed > self.overflowed {
            self.overflowed = overflowed;
            streams.look_at_all();
        }
        let mut events = Vec::new();
        streams.read(&mut events);
        self.count(&events, at);
        let mut reading = HashSet::new();
        for event in &events {
            let Event::Stream { key, stream } = event else { continue };
            if stream.reader != 0 {
                self.state.read_in(*key, rows.row_of(stream.reader_cgroup));
            }
            let owned = self.state.owner(*key).map(|owner| (owner.row, owner.role.is_some()));
            let row = rows.row_of(stream.writer_cgroup);
            if owned.is_none_or(|(owned, by_role)| !by_role && Some(owned) != row) {
                self.pending.insert(*key);
            }
        }
        self.identify_pending(rows);
        let relays = self.state.relays();
        for event in &events {
            let Event::Stream { stream, .. } = event else { continue };
            if stream.reader != 0 && (!is_internal(stream) || relays.contains(&stream.writer)) {
                reading.insert(stream.reader);
            }
        }
        self.ask(&reading, &events, rows);
        if named {
            self.search(streams, now);
        }
        self.state.refresh(|row| rows.aggregator.shared(row));
        let (logs, verdicts) = self.state.tick(at);
        for key in verdicts.count_only {
            streams.count_only(key);
        }
        for key in verdicts.forget {
            streams.forget(key);
            self.searched.remove(&key);
        }
        rows.aggregator.logged(&by_row(&logs));
        self.last = logs.clone();
        Some(logs)
    }

    /// As far as the time allows.
    fn identify_pending(&mut self, rows: &Rows) {
        let start = Instant::now();
        self.hurried = Duration::ZERO;
        let mut later = HashSet::new();
        for key in std::mem::take(&mut self.pending) {
            let Some(stream) = self.state.totals(key) else { continue };
            if stream.writer == 0 || is_internal(&stream) {
                continue;
            }
            if start.elapsed() < IDENTIFYING {
                self.identify(key, &stream, rows);
            } else {
                later.insert(key);
            }
        }
        self.pending = later;
    }
}

/// What processes of one cgroup say to each other is nobody's log: most of the pipes of a host that builds or runs scripts.
fn is_internal(stream: &line::Stream) -> bool {
    stream.reader != 0 && stream.reader_cgroup == stream.writer_cgroup
}

/// Parents of a process, the nearest first.
fn ancestors(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut up = pid;
    for _ in 0..ANCESTORS {
        let Some(birth) = birth(up).filter(|birth| birth.parent > 0) else { break };
        up = birth.parent;
        found.push(up);
    }
    found
}
