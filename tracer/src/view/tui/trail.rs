//! How each row's sizes went since the start: readings that differ from the one before, fewer of them the longer it
//! is, and the least and the most exactly. Rows at rest, which are the same in every snapshot, cost nothing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    aggregator::row::{Memory, Row},
    snapshot::Snapshot,
};

/// Readings kept of a row; when there are more, they are kept for twice as long a step.
const KEPT: usize = 96;

/// A kind that is followed: its name, and its size.
type Kind = (&'static str, fn(&Memory) -> Option<u64>);

/// As `memory.stat` has them.
pub const KINDS: [Kind; 10] = [
    ("current", |m| m.current),
    ("anon", |m| m.anon),
    ("file", |m| m.file),
    ("shmem", |m| m.shmem),
    ("dirty", |m| m.dirty),
    ("writeback", |m| m.writeback),
    ("kernel", |m| m.kernel),
    ("slab", |m| m.slab),
    ("sock", |m| m.sock),
    ("swap", |m| m.swap),
];

/// A size, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub bytes: u64,
    pub at: SystemTime,
}

/// The least and the most of a kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub least: Seen,
    pub most: Seen,
}

/// A reading, good until the next one. Of sizes only the shape is shown, so they are kept short; NaN is not known.
#[derive(Debug, Clone, Copy)]
struct Mark {
    after: Duration,
    sizes: [f32; KINDS.len()],
}

/// One row's way.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    marks: Vec<Mark>,
    /// Of each so long only the last reading is kept.
    step: Duration,
    ranges: [Option<Range>; KINDS.len()],
}

impl Trail {
    fn add(&mut self, row: &Row, after: Duration, at: SystemTime) {
        let sizes = KINDS.map(|(_, size)| size(&row.memory));
        for (range, bytes) in self.ranges.iter_mut().zip(sizes) {
            let Some(bytes) = bytes else { continue };
            let seen = Seen { bytes, at };
            let range = range.get_or_insert(Range { least: seen, most: seen });
            if bytes < range.least.bytes {
                range.least = seen;
            }
            if bytes > range.most.bytes {
                range.most = seen;
            }
        }
        self.mark(sizes.map(|bytes| bytes.map_or(f32::NAN, |bytes| bytes as f32)), after);
    }

    fn mark(&mut self, sizes: [f32; KINDS.len()], after: Duration) {
        let bits = |sizes: &[f32; KINDS.len()]| sizes.map(f32::to_bits);
        if self.marks.last().is_some_and(|last| bits(&last.sizes) == bits(&sizes)) {
            return;
        }
        if self.marks.len() == KEPT {
            self.step = after / (KEPT / 2) as u32;
            let step = self.step;
            let mut next = self.marks.iter().skip(1).map(|mark| mark.after).collect::<Vec<_>>().into_iter();
            self.marks.retain(|mark| !next.next().is_some_and(|next| in_one(mark.after, next, step)));
        }
        if self.marks.last().is_some_and(|last| in_one(last.after, after, self.step)) {
            self.marks.pop();
        }
        self.marks.push(Mark { after, sizes });
    }

    /// The least and the most of a kind since the start.
    pub fn range(&self, kind: usize) -> Option<Range> {
        self.ranges[kind]
    }

    /// What a kind was at `cells` times from the start until `until`, evenly.
    pub fn shape(&self, kind: usize, cells: usize, until: Duration) -> Vec<Option<u64>> {
        let times = (1..=cells).map(|cell| match cells {
            _ if cell == cells => until,
            _ => until.mul_f64((cell - 1) as f64 / (cells - 1) as f64),
        });
        times
            .map(|time| {
                let next = self.marks.partition_point(|mark| mark.after <= time);
                let size = self.marks.get(next.checked_sub(1)?)?.sizes[kind];
                (!size.is_nan()).then_some(size as u64)
            })
            .collect()
    }
}

/// Whether two times are in the same step. The first of all is in none: it tells since when the row is known.
fn in_one(a: Duration, b: Duration, step: Duration) -> bool {
    let number = |time: Duration| time.as_nanos() / step.as_nanos().max(1);
    !a.is_zero() && number(a) == number(b)
}

/// The ways of all rows.
#[derive(Debug, Clone, Default)]
pub struct Trails {
    started: Option<SystemTime>,
    rows: HashMap<u64, Trail>,
}

impl Trails {
    /// `changed`: those of its rows that are not the same as before. `open`: one whose way is kept though it is gone.
    pub fn add(&mut self, snapshot: &Snapshot, changed: &[Arc<Row>], open: Option<u64>) {
        let after = self.after(snapshot.at);
        self.started.get_or_insert(snapshot.at);
        for row in changed {
            self.rows.entry(row.container.cgroup.id).or_default().add(row, after, snapshot.at);
        }
        if self.rows.len() > snapshot.rows.len() {
            self.forget(snapshot, open, after);
        }
    }

    fn forget(&mut self, snapshot: &Snapshot, open: Option<u64>, after: Duration) {
        let there: std::collections::HashSet<u64> =
            snapshot.rows.iter().map(|row| row.container.cgroup.id).collect();
        self.rows.retain(|id, trail| {
            let gone = !there.contains(id);
            if gone && open == Some(*id) {
                trail.mark([f32::NAN; KINDS.len()], after);
            }
            !gone || open == Some(*id)
        });
    }

    /// Since the first snapshot; a clock that was set back does not count.
    pub fn after(&self, at: SystemTime) -> Duration {
        self.started.and_then(|started| at.duration_since(started).ok()).unwrap_or_default()
    }

    pub fn started(&self) -> Option<SystemTime> {
        self.started
    }

    pub fn of(&self, cgroup: u64) -> Option<&Trail> {
        self.rows.get(&cgroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    /// The first row of the example after so many seconds, with so many bytes.
    fn at(seconds: u64, bytes: Option<u64>) -> Snapshot {
        let mut snapshot = example::snapshot();
        snapshot.at += Duration::from_secs(seconds);
        let mut row = snapshot.rows[0].as_ref().clone();
        row.memory.current = bytes;
        snapshot.rows = vec![Arc::new(row)];
        snapshot
    }

    #[test]
    fn a_shape_has_gaps_and_its_extremes_their_times() {
        let mut trails = Trails::default();
        for (seconds, bytes) in [(0, Some(10)), (10, Some(30)), (20, None), (30, Some(20))] {
            let snapshot = at(seconds, bytes);
            trails.add(&snapshot, &snapshot.rows, None);
        }
        let now = at(40, None);
        let trail = trails.of(now.rows[0].container.cgroup.id).unwrap();
        let shape = trail.shape(0, 4, trails.after(now.at));
        assert_eq!(shape, [Some(10), Some(30), None, Some(20)]);
        let range = trail.range(0).unwrap();
        assert_eq!((range.least.bytes, range.most.bytes), (10, 30));
        assert_eq!(range.most.at, at(10, None).at);
    }

    #[test]
    fn a_long_way_is_thinned_but_keeps_its_ends() {
        let mut trails = Trails::default();
        for seconds in 0..5000 {
            let snapshot = at(seconds, Some(seconds));
            trails.add(&snapshot, &snapshot.rows, None);
        }
        let now = at(4999, None);
        let trail = trails.of(now.rows[0].container.cgroup.id).unwrap();
        assert!(trail.marks.len() <= KEPT);
        let shape = trail.shape(0, 10, trails.after(now.at));
        assert!(shape.iter().all(Option::is_some) && shape.is_sorted(), "{shape:?}");
        assert_eq!(shape[9], Some(4999));
        let far =
            shape.iter().enumerate().map(|(cell, bytes)| bytes.unwrap_or(0).abs_diff(cell as u64 * 555));
        assert!(far.max() < Some(120), "as dense everywhere: {shape:?}");
        assert_eq!(trail.range(0).unwrap().least.bytes, 0);
    }

    #[test]
    fn who_is_gone_is_forgotten_unless_looked_at() {
        let mut trails = Trails::default();
        let first = at(0, Some(10));
        let id = first.rows[0].container.cgroup.id;
        trails.add(&first, &first.rows, Some(id));
        let mut empty = at(10, None);
        empty.rows.clear();
        trails.add(&empty, &[], Some(id));
        assert_eq!(trails.of(id).unwrap().shape(0, 2, trails.after(empty.at)), [Some(10), None]);
        trails.add(&empty, &[], None);
        assert!(trails.of(id).is_none());
    }
}
