//! Streams of log lines, from the kernel's word of them to the picture: whose they are, who reads them, what became of
//! what was read.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tracer_ebpf::abi::line::{self, Medium};

use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        log::{LogState, Owner, by_row, is_container},
        stream::{Logs, Role},
    },
    event::{Event, procfs, streams::Streams},
    resolve::{
        Runtime,
        stream::{
            Birth, Node, birth, descriptor, has_master, holds, is_namespace_init, memory_cgroup, processes,
            socket,
        },
    },
};

/// Processes of a row that are asked when they began.
const MEMBERS: usize = 16;
/// Ancestors of a writer that may read what it writes.
const ANCESTORS: usize = 4;
/// All processes are looked through for readers no more often than this,
const SEARCH: Duration = Duration::from_secs(2);
/// and for a stream that nobody was found to read no more often than this.
const SEARCH_AGAIN: Duration = Duration::from_secs(15);
/// A container has begun to run its own program by then.
const SETTLED: Duration = Duration::from_secs(3);
/// Between two ticks new streams are identified for so long, and at each tick; the rest waits.
const HURRY: Duration = Duration::from_millis(50);
const IDENTIFYING: Duration = Duration::from_millis(50);
/// From this rate on, in bytes per second, it is asked how much room the reader's disk has.
const FLOOD: f64 = 4e6;

/// What is followed of log lines in a run.
pub struct LogLines {
    state: LogState,
    /// First process of a row and its first three descriptors.
    inits: HashMap<u64, Init>,
    /// When a reader of a stream was last looked for.
    searched: HashMap<u64, Instant>,
    searched_all: Option<Instant>,
    /// Readers known to the kernel side.
    watched: HashSet<u32>,
    /// Looks at a row's first process for sockets, and when the next is due.
    looked: HashMap<u64, (u32, Instant)>,
    /// What identifying streams between ticks took since the last.
    hurried: Duration,
    last: Logs,
    overflowed: u64,
}

#[derive(Clone)]
struct Init {
    pid: u32,
    birth: Birth,
    streams: [Option<Node>; 2],
    looked: Instant,
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
            hurried: Duration::ZERO,
            last: Logs::default(),
            overflowed: 0,
        }
    }

    /// Between ticks: a process that has begun to write may not live until the next.
    pub fn take_in(&mut self, event: &Event, probes: &mut Probes, rows: &Rows, at: Duration) {
        match event {
            Event::StreamWritten { key, .. } => {
                let named = probes.readers_are_named();
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
        let named = probes.readers_are_named();
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
        let start = Instant::now();
        self.hurried = Duration::ZERO;
        let mut reading = HashSet::new();
        for event in &events {
            let Event::Stream { key, stream } = event else { continue };
            let row = rows.row_of(stream.writer_cgroup);
            let owned = self.state.owner(*key).map(|owner| (owner.row, owner.role.is_some()));
            let unowned = stream.writer != 0 && !is_internal(stream);
            if unowned
                && start.elapsed() < IDENTIFYING
                && owned.is_none_or(|(owned, by_role)| !by_role && Some(owned) != row)
            {
                self.identify(*key, stream, rows);
            }
            if stream.reader != 0 {
                if !is_internal(stream) {
                    reading.insert(stream.reader);
                }
                self.state.read_in(*key, rows.row_of(stream.reader_cgroup));
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

    /// Sockets that are a first process's output: nothing tells of writes to a socket that is no stream yet.
    fn look_for_sockets(&mut self, probes: &mut Probes, rows: &Rows, now: Instant) {
        let Some(streams) = &mut probes.streams else { return };
        let mut first = false;
        for (row, container) in rows.containers() {
            let looks = self.looked.entry(row).or_insert((0, now));
            // At once, and once more when it has surely begun.
            if container.runtime == Runtime::Systemd || looks.0 > 1 || looks.1 > now {
                continue;
            }
            *looks = (looks.0 + 1, now + SETTLED);
            let Some(init) = first_of(row, None, rows) else { continue };
            for node in [1, 2].into_iter().filter_map(|number| socket(init.pid, number)) {
                first |= streams.add_socket(node.dev, node.ino);
            }
        }
        self.looked.retain(|row, _| rows.aggregator.container(*row).is_some());
        if first {
            probes.attach_late();
        }
    }

    /// What the readers of streams that moved are, and the last readers have done.
    fn ask(&mut self, reading: &HashSet<u32>, events: &[Event], rows: &Rows) {
        let mut flooded = HashMap::<u32, f64>::new();
        for stream in &self.last.streams {
            if let Some(reader) = stream.reader() {
                *flooded.entry(reader.pid).or_default() += stream.bytes_per_s.unwrap_or(0.0);
            }
        }
        let ends: HashSet<u32> = self.last.readers.iter().map(|reader| reader.process.pid).collect();
        for pid in reading {
            let end = ends.contains(pid);
            if !end && self.state.process_is_known(*pid) {
                continue;
            }
            let mut usage = procfs::process(*pid);
            if let Some(usage) = &mut usage
                && flooded.get(pid).is_some_and(|rate| *rate > FLOOD)
            {
                usage.disk_free = procfs::disk_free(*pid);
            }
            let cgroup = events.iter().find_map(|event| match event {
                Event::Stream { stream, .. } if stream.reader == *pid => Some(stream.reader_cgroup),
                _ => None,
            });
            self.state.process(*pid, usage.as_ref(), cgroup.and_then(|cgroup| rows.row_of(cgroup)));
        }
    }

    /// Whose stream it is, and what it is to the first process of that row.
    fn identify(&mut self, key: u64, stream: &line::Stream, rows: &Rows) {
        if stream.writer == 0 {
            return;
        }
        let Some(row) = rows.row_of(stream.writer_cgroup) else { return };
        let Some(container) = rows.aggregator.shared(row) else { return };
        let node = Node { dev: stream.dev, ino: stream.ino };
        let born = rows.aggregator.born(row);
        let mut role = self.role(row, node, stream, rows);
        let mut aside = false;
        if role.is_none() && is_container(&container) {
            // One that is gone may have had it.
            aside = birth(stream.writer).is_some()
                && ![1, 2].into_iter().any(|number| descriptor(stream.writer, number) == Some(node));
            // What its processes pipe to each other stays inside.
            let outside = !aside && self.is_had_outside(row, &container.cgroup.path, stream);
            role = outside.then_some(Role::Other);
        }
        self.state.own(key, Owner { row, container, role, aside, born });
        if !born && let Some(written) = procfs::process(stream.writer).and_then(|usage| usage.written) {
            self.state.bound_before(key, written.saturating_sub(stream.bytes));
        }
    }

    fn role(&mut self, row: u64, node: Node, stream: &line::Stream, rows: &Rows) -> Option<Role> {
        let matching = |init: &Init| {
            let role = match () {
                () if init.streams[0] == Some(node) => Role::Stdout,
                () if init.streams[1] == Some(node) => Role::Stderr,
                () => return None,
            };
            Some(if stream.medium == Medium::Pty as u32 { Role::Tty } else { role })
        };
        let known = self.inits.get(&row).filter(|init| birth(init.pid) == Some(init.birth));
        if let Some(init) = known
            && let Some(role) = matching(init)
        {
            return Some(role);
        }
        if known.is_some_and(|init| init.looked.elapsed() < Duration::from_secs(1)) {
            return None;
        }
        let init = first_of(row, Some(stream.writer), rows)?;
        let role = matching(&init);
        self.inits.insert(row, init);
        role
    }

    /// Where only the reads of named processes are looked at: names those that have a stream which nobody was seen to read.
    fn search(&mut self, streams: &mut Streams, now: Instant) {
        let due = |key: &u64| {
            self.searched.get(key).is_none_or(|at| now.saturating_duration_since(*at) >= SEARCH_AGAIN)
        };
        let unread: Vec<(u64, line::Stream)> =
            self.state.unread().filter(|(key, _)| due(key)).map(|(key, stream)| (key, *stream)).collect();
        if unread.is_empty() {
            return;
        }
        self.look_near(streams, &unread);
        if self.searched_all.is_some_and(|at| now.saturating_duration_since(at) < SEARCH) {
            return;
        }
        // The writer itself has it, too: who is near does not say that nobody else reads.
        self.searched_all = Some(now);
        self.look_at(streams, &unread, processes());
        self.searched.extend(unread.iter().map(|(key, _)| (*key, now)));
    }

    /// Those who are near a writer, or have read others.
    fn look_near(&mut self, streams: &mut Streams, unread: &[(u64, line::Stream)]) {
        let mut near: HashSet<u32> = self.watched.clone();
        for (_, stream) in unread {
            near.extend(ancestors(stream.writer));
        }
        self.look_at(streams, unread, near.into_iter());
    }

    /// Whether somebody near who is in no cgroup below this path has the stream, or the master of its terminal.
    fn is_had_outside(&self, row: u64, path: &str, stream: &line::Stream) -> bool {
        let node = HashSet::from([Node { dev: stream.dev, ino: stream.ino }]);
        let inside =
            |at: &str| at.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let terminal = stream.medium == Medium::Pty as u32;
        // Of a writer that is gone no parent is known, but that of its container's first process is.
        let first = self.inits.get(&row).map(|init| init.pid);
        let mut near: HashSet<u32> = self.watched.clone();
        near.extend([Some(stream.writer), first].into_iter().flatten().flat_map(ancestors));
        near.into_iter().any(|pid| {
            (!holds(pid, &node).is_empty() || terminal && has_master(pid))
                && memory_cgroup(pid).is_some_and(|at| !inside(&at))
        })
    }

    fn look_at(
        &mut self,
        streams: &mut Streams,
        unread: &[(u64, line::Stream)],
        pids: impl Iterator<Item = u32>,
    ) {
        let nodes: HashSet<Node> =
            unread.iter().map(|(_, stream)| Node { dev: stream.dev, ino: stream.ino }).collect();
        let terminals = unread.iter().any(|(_, stream)| stream.medium == Medium::Pty as u32);
        for pid in pids {
            if !holds(pid, &nodes).is_empty() || terminals && has_master(pid) {
                self.watched.insert(pid);
                streams.watch_reader(pid);
            }
        }
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

/// The first process of a row: the init of its process namespace, else the one that began first.
fn first_of(row: u64, writer: Option<u32>, rows: &Rows) -> Option<Init> {
    let mut members = rows.processes(row, MEMBERS);
    if members.is_empty() {
        members.extend(writer);
    }
    let mut top = writer;
    for _ in 0..ANCESTORS {
        let Some(pid) = top else { break };
        if is_namespace_init(pid) {
            members = vec![pid];
            break;
        }
        top = birth(pid).map(|birth| birth.parent).filter(|parent| *parent > 1);
    }
    let born = members.iter().filter_map(|pid| Some((birth(*pid)?, *pid)));
    let (birth, pid) = born.min_by_key(|(birth, pid)| (birth.start, *pid))?;
    Some(Init {
        pid,
        birth,
        streams: [1, 2].map(|number| descriptor(pid, number).or_else(|| socket(pid, number))),
        looked: Instant::now(),
    })
}
