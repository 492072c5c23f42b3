//! Who reads streams: found by the kernel side where it sees all reads, else named to it; and what the readers have done.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tracer_ebpf::abi::line::{self, Medium};

use super::{LogLines, ancestors};
use crate::{
    event::{Event, procfs, streams::Streams},
    pipeline::rows::Rows,
    resolve::stream::{Node, birth, has_master, holds, processes},
};

/// All processes are looked through for readers no more often than this,
const SEARCH: Duration = Duration::from_secs(2);
/// and for a stream that nobody was found to read no more often than this, then ever less often.
const SEARCH_AGAIN: Duration = Duration::from_secs(15);
/// From this rate on, in bytes per second, it is asked how much room the reader's disk has.
const FLOOD: f64 = 4e6;
/// Daemons that are looked at whenever a stream is new.
const DAEMONS: usize = 16;

impl LogLines {
    /// What the readers of streams that moved are, and the last readers have done.
    pub(super) fn ask(&mut self, reading: &HashSet<u32>, events: &[Event], rows: &Rows) {
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

    /// Where only the reads of named processes are looked at: names those that have a stream which nobody was seen to read.
    pub(super) fn search(&mut self, streams: &mut Streams, now: Instant) {
        let due = |key: &u64| {
            self.searched.get(key).is_none_or(|(at, times)| {
                now.saturating_duration_since(*at) >= SEARCH_AGAIN * 2_u32.pow((*times).min(5))
            })
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
        self.watched.retain(|pid| birth(*pid).is_some());
        streams.watch_only(&self.watched);
        self.look_at(streams, &unread, processes());
        for (key, _) in &unread {
            let times = self.searched.get(key).map_or(0, |(_, times)| times + 1);
            self.searched.insert(*key, (now, times));
        }
    }

    /// Those who are near a writer, or have read others.
    pub(super) fn look_near(&mut self, streams: &mut Streams, unread: &[(u64, line::Stream)]) {
        let mut near = self.daemons();
        for (_, stream) in unread {
            near.extend(ancestors(stream.writer));
        }
        self.look_at(streams, unread, near.into_iter());
    }

    /// Last readers that took the most.
    pub(super) fn daemons(&self) -> HashSet<u32> {
        self.last.readers.iter().take(DAEMONS).map(|reader| reader.process.pid).collect()
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
        let mut ends: HashMap<Node, HashSet<u32>> = HashMap::new();
        for pid in pids {
            let held = holds(pid, &nodes);
            // Who can only write has nothing to read: each of its reads would be looked at.
            if held.iter().any(|held| held.reads) || terminals && has_master(pid) {
                self.watched.insert(pid);
                streams.watch_reader(pid);
            }
            for held in held.into_iter().filter(|held| held.reads && !held.writes) {
                ends.entry(held.node).or_default().insert(pid);
            }
        }
        for (key, stream) in unread {
            let readers = ends.get(&Node { dev: stream.dev, ino: stream.ino });
            // Who alone can read it is its reader, even if it has not read since attach. A shim keeps the reading end of what
            // it writes, so that nothing is lost while its daemon is away: it is none.
            let readers = readers.into_iter().flatten().copied().filter(|pid| *pid != stream.writer);
            if let [reader] = &readers.collect::<Vec<u32>>()[..] {
                self.state.presume(*key, *reader, procfs::process(*reader).as_ref());
            }
        }
    }
}
