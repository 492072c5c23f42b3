//! The last minute of rows that grow, so that a kill can be told with what led to it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::kill::Grown;
use crate::aggregator::row::{Memory, Row};

/// How far back it is told.
const SPAN: Duration = Duration::from_secs(60);
/// Samples are no closer than this.
const STEP: Duration = Duration::from_millis(900);
/// Rows that are followed at once.
const ROWS: usize = 512;
/// Growth from which a row is followed, bytes per second.
const GROWS: f64 = 65_536.0;

#[derive(Default)]
struct Track {
    samples: VecDeque<(Duration, Memory)>,
    grew: Duration,
}

/// By id of the row.
#[derive(Default)]
pub struct History {
    tracks: HashMap<u64, Track>,
}

impl History {
    /// Rows as they are after an interval.
    pub fn tick(&mut self, rows: &[Arc<Row>], at: Duration) {
        self.tracks.retain(|_, track| at.saturating_sub(track.grew) < SPAN);
        for row in rows.iter().filter(|row| row.removed.is_none()) {
            let id = row.container.cgroup.id;
            let of = |rate: Option<f64>| rate.is_some_and(|rate| rate > GROWS);
            let grows = of(row.growth_per_s.current)
                || of(row.growth_ewma_per_s.current)
                || of(row.growth_ewma_per_s.dirty);
            if !grows && !self.tracks.contains_key(&id) {
                continue;
            }
            if !self.tracks.contains_key(&id) && self.tracks.len() >= ROWS {
                continue;
            }
            let track = self.tracks.entry(id).or_default();
            if grows {
                track.grew = at;
            }
            if track.samples.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= STEP) {
                track.samples.push_back((at, row.memory.clone()));
            }
            while track.samples.front().is_some_and(|(first, _)| at.saturating_sub(*first) > SPAN) {
                track.samples.pop_front();
            }
        }
    }

    /// How the row grew up to what it is now, over at most a minute.
    pub fn grown(&self, row: u64, now: &Memory, at: Duration) -> Option<Grown> {
        let (first, then) = self.tracks.get(&row)?.samples.front()?;
        let over = at.saturating_sub(*first);
        let by = |now: Option<u64>, then: Option<u64>| Some(now? as i64 - then? as i64);
        (!over.is_zero()).then(|| Grown {
            over_s: over.as_secs_f64(),
            current: by(now.current, then.current),
            anon: by(now.anon, then.anon),
            file: by(now.file, then.file),
            shmem: by(now.shmem, then.shmem),
            dirty: by(now.dirty, then.dirty),
            writeback: by(now.writeback, then.writeback),
            slab: by(now.slab, then.slab),
            kernel: by(now.kernel, then.kernel),
            sock: by(now.sock, then.sock),
        })
    }
}
