//! How rows went while they grew: what rules about memory need of earlier ticks. A row that does not grow is not kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use crate::aggregator::{
    row::{Memory, Row},
    stream::Process,
};

/// What grows slower, bytes a second, is not followed.
pub(super) const SLOW: f64 = 256.0 * 1024.0;
/// What grew over all that was watched must still have grown in this time.
pub(super) const RECENT: Duration = Duration::from_secs(3);
/// Rows whose processes are asked for in a tick.
const SUSPECTS: usize = 8;

/// What a row holds, by kind, each byte once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Parts([Option<u64>; PARTS.len()]);

pub(super) const PARTS: [&str; 7] = ["anon", "file", "shmem", "slab", "kernel_other", "sock", "swap"];

pub(super) const NOT_YET_WRITTEN: &str = "page cache that is not yet written back";
pub(super) const SWAPPED_OUT: &str = "anonymous memory that is swapped out";

/// One of these in words.
pub(super) fn words(part: &str) -> &'static str {
    match part {
        "anon" => "anonymous memory",
        "file" => NOT_YET_WRITTEN,
        "shmem" => "tmpfs and shared memory",
        "slab" => "kernel objects (slab)",
        "sock" => "socket buffers",
        "swap" => SWAPPED_OUT,
        _ => "kernel memory",
    }
}

impl Parts {
    fn of(memory: &Memory) -> Parts {
        let less = |all: Option<u64>, part: Option<u64>| Some(all?.saturating_sub(part?));
        Parts([
            memory.anon,
            less(memory.file, memory.shmem),
            memory.shmem,
            memory.slab,
            // Where slab is not told apart all of it is here.
            less(memory.kernel, memory.slab.or(Some(0))),
            memory.sock,
            memory.swap,
        ])
    }
}

/// What cannot be taken back without a write or a kill: all but clean page cache, and what was swapped out.
fn held(memory: &Memory) -> Option<u64> {
    let part = |part: Option<u64>| part.unwrap_or(0);
    let kept = part(memory.shmem) + part(memory.dirty) + part(memory.writeback);
    let clean = memory.file?.saturating_sub(kept);
    Some(memory.current?.saturating_sub(clean) + part(memory.swap))
}

/// The change a second over `all` that was watched, if the `last` seconds went on at half of that or more.
pub(super) fn steady(all: f64, last: f64) -> Option<f64> {
    (all * last > 0.0 && last.abs() >= all.abs() / 2.0).then_some(all)
}

/// Readings of something that should not grow.
#[derive(Debug)]
pub(super) struct Line {
    first: (Duration, u64),
    recent: VecDeque<(Duration, u64)>,
}

impl Line {
    fn new(at: Duration, value: u64) -> Line {
        Line { first: (at, value), recent: VecDeque::from([(at, value)]) }
    }

    fn add(&mut self, at: Duration, value: u64) {
        self.recent.push_back((at, value));
        while self.recent.len() > 2 && at.saturating_sub(self.recent[1].0) >= RECENT {
            self.recent.pop_front();
        }
    }

    /// How long it was watched.
    pub fn span(&self) -> Duration {
        self.recent.back().map_or(Duration::ZERO, |(at, _)| at.saturating_sub(self.first.0))
    }

    /// Change a second, if it goes on.
    pub fn steady(&self) -> Option<f64> {
        let slope = |from: (Duration, u64)| {
            let (at, value) = *self.recent.back()?;
            let seconds = at.saturating_sub(from.0).as_secs_f64();
            (seconds > 0.0).then(|| (value as f64 - from.1 as f64) / seconds)
        };
        steady(slope(self.first)?, slope(*self.recent.front()?)?)
    }
}

/// One row's, since it began to grow.
#[derive(Debug)]
pub(super) struct RowCourse {
    pub held: Line,
    began: (Duration, Parts),
    now: (Duration, Parts),
    processes: Growers,
    seen: u64,
}

/// Anonymous memory of processes: when first known, and now.
#[derive(Debug, Default)]
pub(super) struct Growers(HashMap<Process, [(Duration, u64); 2]>);

impl Growers {
    /// What they hold now; those that are gone are forgotten.
    pub fn note(&mut self, at: Duration, now: Vec<(Process, u64)>) {
        let before = std::mem::take(&mut self.0);
        self.0 = now
            .into_iter()
            .map(|(process, anon)| {
                let first = before.get(&process).map_or((at, anon), |known| known[0]);
                (process, [first, (at, anon)])
            })
            .collect();
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The process whose anonymous memory grew most; of none that grew, the one that holds most.
    pub fn top(&self) -> Option<Grower> {
        let grower = |(process, [first, now]): (&Process, &[(Duration, u64); 2])| {
            let seconds = now.0.saturating_sub(first.0).as_secs_f64();
            let rate = (seconds > 0.0).then(|| (now.1 as f64 - first.1 as f64) / seconds);
            Grower { process: process.clone(), anon: now.1, bytes_per_s: rate }
        };
        let rate = |grower: &Grower| grower.bytes_per_s.unwrap_or(0.0).max(0.0);
        self.0.iter().map(grower).max_by(|a, b| {
            let order = rate(a).total_cmp(&rate(b)).then(a.anon.cmp(&b.anon));
            order.then_with(|| b.process.pid.cmp(&a.process.pid))
        })
    }
}

/// A process and how its anonymous memory grew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grower {
    #[serde(flatten)]
    pub process: Process,
    pub anon: u64,
    /// `None` until it was seen twice.
    pub bytes_per_s: Option<f64>,
}

impl RowCourse {
    /// Bytes a second by kind, over all that was watched.
    pub fn by_kind(&self) -> [(&'static str, Option<f64>); PARTS.len()] {
        let seconds = self.now.0.saturating_sub(self.began.0).as_secs_f64();
        std::array::from_fn(|at| {
            let (before, now) = (self.began.1.0[at], self.now.1.0[at]);
            let rate = before.zip(now).filter(|_| seconds > 0.0);
            (PARTS[at], rate.map(|(before, now)| (now as f64 - before as f64) / seconds))
        })
    }

    /// Of that what takes the host's memory: all but what is swapped out.
    pub fn takes(&self) -> Option<f64> {
        let swapped = self.by_kind().into_iter().find(|(kind, _)| *kind == "swap").and_then(|(_, rate)| rate);
        Some(self.held.steady()? - swapped.unwrap_or(0.0)).filter(|rate| *rate > 0.0)
    }

    pub fn top_process(&self) -> Option<Grower> {
        self.processes.top()
    }
}

/// All that is kept.
#[derive(Default)]
pub(super) struct Courses {
    rows: HashMap<u64, RowCourse>,
    ticks: u64,
}

impl Courses {
    pub fn note(&mut self, at: Duration, rows: &[Arc<Row>]) {
        self.ticks += 1;
        for row in rows {
            let growth = &row.growth_ewma_per_s;
            let grows = growth.current.is_some_and(|rate| rate + growth.swap.unwrap_or(0.0) > SLOW);
            let id = row.container.cgroup.id;
            let Some(held) = held(&row.memory).filter(|_| grows && row.removed.is_none()) else { continue };
            let parts = (at, Parts::of(&row.memory));
            let course = self.rows.entry(id).or_insert_with(|| RowCourse {
                held: Line::new(at, held),
                began: parts,
                now: parts,
                processes: Growers::default(),
                seen: self.ticks,
            });
            if course.began.0 != at {
                course.held.add(at, held);
            }
            course.now = parts;
            course.seen = self.ticks;
        }
        self.rows.retain(|_, course| course.seen == self.ticks);
    }

    pub fn row(&self, id: u64) -> Option<&RowCourse> {
        self.rows.get(&id)
    }

    /// Rows that grow most: those whose processes are worth a look.
    pub fn suspects(&self) -> Vec<u64> {
        let rate = |course: &RowCourse| course.held.steady().unwrap_or(0.0);
        let mut rows: Vec<(u64, f64)> = self
            .rows
            .iter()
            .map(|(id, course)| (*id, rate(course)))
            .filter(|(_, rate)| *rate > SLOW)
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        rows.into_iter().take(SUSPECTS).map(|(id, _)| id).collect()
    }

    /// What the processes of a row hold now.
    pub fn processes(&mut self, at: Duration, row: u64, now: Vec<(Process, u64)>) {
        if let Some(course) = self.rows.get_mut(&row) {
            course.processes.note(at, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(values: impl IntoIterator<Item = u64>) -> Line {
        let mut values = values.into_iter().enumerate();
        let at = |second: usize| Duration::from_secs(second as u64);
        let (second, value) = values.next().expect("a value");
        let mut line = Line::new(at(second), value);
        values.for_each(|(second, value)| line.add(at(second), value));
        line
    }

    #[test]
    fn what_goes_on_is_steady_and_what_is_over_is_not() {
        assert_eq!(line([5]).steady(), None);
        assert_eq!(line((0..10).map(|at| at * MIB)).steady(), Some(MIB as f64));
        assert_eq!(line((0..10).map(|at| (10 - at) * MIB)).steady(), Some(-(MIB as f64)));
        assert_eq!(line((0..10).map(|at| at.min(5) * MIB)).steady(), None, "it was filled once");
        assert_eq!(line([0, 9, 9, 9, 9, 9, 10].map(|at| at * MIB)).steady(), None);
        assert_eq!(line([0, 9, 5, 9, 5, 9, 5].map(|at| at * MIB)).steady(), None);
    }

    #[test]
    fn clean_page_cache_is_not_held() {
        let memory = Memory {
            current: Some(100),
            file: Some(60),
            shmem: Some(10),
            dirty: Some(5),
            writeback: Some(5),
            ..Memory::default()
        };
        assert_eq!(held(&memory), Some(60));
        assert_eq!(held(&Memory::default()), None);
        let parts = Parts::of(&Memory { anon: Some(40), kernel: Some(9), ..memory });
        assert_eq!(parts, Parts([Some(40), Some(50), Some(10), None, Some(9), None, None]));
        let swapped = Memory { current: Some(100), swap: Some(30), ..Memory::default() };
        assert_eq!(held(&Memory { file: Some(0), ..swapped }), Some(130));
        assert_eq!(held(&swapped), None, "how much of it is page cache is not known");
    }
}
