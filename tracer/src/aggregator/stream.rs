//! What the state knows of one stream of log lines, of those who read it and of how long its lines are. Sizes are
//! bytes, counts are since attach; `None` is "not known here", never 0.

use std::sync::Arc;

use serde::Serialize;
use tracer_ebpf::abi::line::{GROUPS, SLOTS, upper};

use super::row::How;
use crate::resolve::Container;

/// What a stream is to the container that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the container's init has as descriptor 1.
    Stdout,
    /// What it has as descriptor 2.
    Stderr,
    /// Its terminal: one stream for both.
    Tty,
    /// Anything else, such as an exec session's.
    Other,
}

impl Role {
    /// The word the interface uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Stdout => "stdout",
            Role::Stderr => "stderr",
            Role::Tty => "tty",
            Role::Other => "other",
        }
    }
}

/// A thread group by its leader's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Process {
    pub pid: u32,
    pub comm: Arc<str>,
}

/// One step of a stream's way: who takes it, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    pub process: Process,
    pub taken: u64,
    pub taken_per_s: Option<f64>,
}

/// One stream of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The kernel side's key.
    pub id: u64,
    /// The row whose stream it is: its memory cgroup's id.
    pub row: u64,
    pub container: Arc<Container>,
    pub role: Role,
    pub lines: u64,
    /// All bytes, newlines too.
    pub bytes: u64,
    /// Of finished lines, without the newline.
    pub max: u64,
    /// Since the last newline.
    pub open_line: u64,
    pub max_open_line: u64,
    /// Bytes that no program could look at: moved by splice and its kin, or beyond what one look takes.
    pub unscanned: u64,
    /// The first line was under way when memtrace attached, or may have been.
    pub first_line_partial: bool,
    /// What stood in the open line before attach, at most; `None` once the line ended, or where nothing tells.
    pub open_line_before: Option<u64>,
    pub bytes_per_s: Option<f64>,
    pub lines_per_s: Option<f64>,
    /// Growth of the open line over the last interval, signed.
    pub open_line_per_s: Option<f64>,
    /// Bytes of each of the last intervals, oldest first, for a trend line.
    pub trend: Arc<[Option<u64>]>,
    /// From the container to the last reader, in order; the last is the reader, those before it relays.
    pub hops: Vec<Hop>,
    /// What the reader has taken and not written on since attach, and how that is known.
    pub held: Option<u64>,
    pub held_how: Option<How>,
    /// Only where it was asked for.
    pub lengths: Option<Arc<Lengths>>,
}

impl Stream {
    /// The last process of the chain.
    pub fn reader(&self) -> Option<&Process> {
        self.hops.last().map(|hop| &hop.process)
    }

    /// The relays between the container and the reader.
    pub fn via(&self) -> impl Iterator<Item = &Process> {
        self.hops.iter().rev().skip(1).rev().map(|hop| &hop.process)
    }
}

/// A process that reads streams of several rows, or is the last reader of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    pub process: Process,
    /// The row it runs in.
    pub row: Option<u64>,
    /// Its anonymous memory (`RssAnon`) now.
    pub anon: Option<u64>,
    /// Against the first look, signed.
    pub anon_growth: Option<i64>,
    pub anon_per_s: Option<f64>,
    /// From streams, since attach.
    pub taken: u64,
    /// To files, pipes and sockets, since attach (`wchar` of `/proc/PID/io`).
    pub written: Option<u64>,
    /// Free space of the file system that its log files are on.
    pub disk_free: Option<u64>,
    /// Of `anon_growth`, what unfinished lines explain: their bytes and whose they are, the most first.
    pub explained: Vec<(u64, Arc<Container>)>,
}

/// All streams and their readers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logs {
    /// Every stream since attach, idle ones too, by container and role.
    pub streams: Vec<Arc<Stream>>,
    /// Last readers, the most bytes taken first.
    pub readers: Vec<Reader>,
}

/// Lengths of finished lines: exact counts in buckets of which none is wider than 1/128 of its lower bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Groups of 128 buckets by their number, ascending; missing ones are empty.
    groups: Vec<(u32, [u64; SLOTS])>,
}

impl Lengths {
    /// A group's counts, in place of what was known of it.
    pub fn set(&mut self, group: u32, counts: [u64; SLOTS]) {
        if group as usize >= GROUPS {
            return;
        }
        match self.groups.binary_search_by_key(&group, |(known, _)| *known) {
            Ok(at) => self.groups[at].1 = counts,
            Err(at) => self.groups.insert(at, (group, counts)),
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    /// Upper bound (inclusive) and count of each bucket that is not empty, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.groups.iter().flat_map(|(group, counts)| {
            let bucket = move |(slot, count): (usize, &u64)| (upper(*group, slot as u32), *count);
            counts.iter().enumerate().map(bucket).filter(|(_, count)| *count > 0)
        })
    }

    /// The least length such that at least `ceil(q * lines)` lines are no longer; within 1 %, never above `max`.
    pub fn percentile(&self, q: f64, max: u64) -> Option<u64> {
        let lines = self.count();
        if lines == 0 {
            return None;
        }
        let wanted = ((q * lines as f64).ceil() as u64).clamp(1, lines);
        let mut seen = 0;
        let reached = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map(|(bound, _)| bound.min(max))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_ebpf::abi::line::bucket;

    use super::*;

    fn of(lengths: &[u64]) -> Lengths {
        let mut groups = std::collections::BTreeMap::<u32, [u64; SLOTS]>::new();
        for length in lengths {
            let (group, slot) = bucket(*length);
            groups.entry(group).or_insert([0; SLOTS])[slot as usize] += 1;
        }
        let mut made = Lengths::default();
        for (group, counts) in groups {
            made.set(group, counts);
        }
        made
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_one_percent(
            lengths in proptest::collection::vec((0u32..40).prop_flat_map(|bits| 0..(1u64 << bits) + 1), 1..300),
            q in 0.0..=1.0f64,
        ) {
            let told = of(&lengths);
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let place = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let truth = sorted[place - 1];
            let found = told.percentile(q, *sorted.last().unwrap_or(&0)).unwrap_or(u64::MAX);
            prop_assert!(found >= truth && (found - truth) as f64 <= truth as f64 / 100.0, "{found} for {truth}");
            prop_assert_eq!(told.count(), lengths.len() as u64);
        }
    }

    #[test]
    fn short_lines_are_exact_and_none_is_no_length() {
        assert_eq!(of(&[]).percentile(0.5, 0), None);
        let told = of(&[0, 0, 80, 255]);
        assert_eq!(told.buckets().collect::<Vec<_>>(), [(0, 2), (80, 1), (255, 1)]);
        assert_eq!(told.percentile(0.75, 255), Some(80));
    }
}
