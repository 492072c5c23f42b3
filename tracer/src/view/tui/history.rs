//! What one snapshot does not tell but several in a row do: how the host's used memory grows, which rows had an
//! OOM kill a short while ago, which were removed. Time is the snapshots' own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{aggregator::row::Row, snapshot::Snapshot, view::label};

/// As the rows' own smoothed growth.
const WINDOW_S: f64 = 10.0;
/// How long a kill is news.
const KILL_IS_NEWS: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Kills {
    count: u64,
    last: Option<SystemTime>,
}

/// The row that was removed last.
#[derive(Debug, Clone, PartialEq)]
pub struct LastRemoved {
    pub label: String,
    pub lived_s: Option<f64>,
    pub peak: Option<u64>,
}

/// A host's sum and its smoothed growth.
#[derive(Debug, Clone, Copy, Default)]
struct Trail {
    last: Option<u64>,
    growth: Option<f64>,
}

impl Trail {
    fn add(&mut self, now: Option<u64>, interval_s: f64) {
        if let (Some(before), Some(now)) = (self.last, now)
            && interval_s > 0.0
        {
            let rate = (now as f64 - before as f64) / interval_s;
            let weight = 1.0 - (-interval_s / WINDOW_S).exp();
            self.growth = Some(self.growth.map_or(rate, |growth| growth + weight * (rate - growth)));
        }
        self.last = now;
    }
}

#[derive(Debug, Clone, Default)]
pub struct History {
    used: Trail,
    /// What is not available: page cache that can be dropped is used, but does not fill a host.
    unavailable: Trail,
    /// By memory cgroup.
    kills: HashMap<u64, Kills>,
    pub removed: u64,
    pub last_removed: Option<LastRemoved>,
}

impl History {
    /// `changed`: those of its rows that are not the same as before.
    pub fn add(&mut self, snapshot: &Snapshot, changed: &[Arc<Row>]) {
        let host = &snapshot.host;
        self.used.add(host.used, snapshot.interval_s);
        let unavailable = host.mem_total.zip(host.mem_available);
        let unavailable = unavailable.map(|(total, available)| total.saturating_sub(available));
        self.unavailable.add(unavailable, snapshot.interval_s);
        for row in changed {
            let (id, count) = (row.container.cgroup.id, row.oom_kills.unwrap_or(0));
            let before = self.kills.get(&id);
            if count > 0 {
                // Counts are since attach: one that was not there before happened under our eyes.
                let fresh = count > before.map_or(0, |kills| kills.count);
                let last = if fresh { Some(snapshot.at) } else { before.and_then(|kills| kills.last) };
                self.kills.insert(id, Kills { count, last });
            }
            if let Some(removed) = &row.removed {
                self.removed += 1;
                self.last_removed = Some(LastRemoved {
                    label: label::label(&row.container),
                    lived_s: removed.lived_s,
                    peak: removed.peak,
                });
            }
        }
    }

    /// Forgets all rows but these.
    pub fn retain(&mut self, snapshot: &Snapshot) {
        if !self.kills.is_empty() {
            let there: HashSet<u64> = snapshot.rows.iter().map(|row| row.container.cgroup.id).collect();
            self.kills.retain(|id, _| there.contains(id));
        }
    }

    /// Whether a row had a kill: then what is to be said of rows changes with time alone.
    pub fn has_kills(&self) -> bool {
        !self.kills.is_empty()
    }

    /// Smoothed growth of the host's used memory, bytes per second.
    pub fn host_growth(&self) -> Option<f64> {
        self.used.growth
    }

    /// Seconds until nothing is available any more, as fast as it becomes less.
    pub fn seconds_left(&self, snapshot: &Snapshot) -> Option<f64> {
        let growth = self.unavailable.growth.filter(|growth| *growth > 0.0)?;
        Some(snapshot.host.mem_available? as f64 / growth)
    }

    /// Whether the row had an OOM kill within the minute before `now`.
    pub fn killed(&self, cgroup: u64, now: SystemTime) -> bool {
        let last = self.kills.get(&cgroup).and_then(|kills| kills.last);
        last.is_some_and(|last| now.duration_since(last).is_ok_and(|since| since <= KILL_IS_NEWS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    #[test]
    fn a_kill_is_news_for_a_minute() {
        let mut snapshot = example::snapshot();
        let mut history = History::default();
        history.add(&snapshot, &snapshot.rows);
        let id = snapshot.rows[1].container.cgroup.id;
        let first = snapshot.at;
        assert!(history.killed(id, first), "counted since attach");
        assert!(!history.killed(snapshot.rows[0].container.cgroup.id, first));
        snapshot.at = first + Duration::from_secs(61);
        history.add(&snapshot, &snapshot.rows);
        assert!(!history.killed(id, snapshot.at));
        let mut row = snapshot.rows[1].as_ref().clone();
        row.oom_kills = row.oom_kills.map(|kills| kills + 1);
        snapshot.rows[1] = Arc::new(row);
        history.add(&snapshot, &snapshot.rows);
        assert!(history.killed(id, snapshot.at));
        assert_eq!(history.removed, 3);
    }

    #[test]
    fn the_host_runs_full() {
        let mut snapshot = example::snapshot();
        let mut history = History::default();
        history.add(&snapshot, &snapshot.rows);
        assert_eq!(history.host_growth(), None);
        snapshot.host.used = snapshot.host.used.map(|used| used + 1_000_000);
        history.add(&snapshot, &snapshot.rows);
        assert_eq!(history.host_growth(), Some(1e6));
        assert_eq!(history.seconds_left(&snapshot), None, "cache that can be dropped fills no host");
        let mut history = History::default();
        snapshot.host.mem_available = Some(61_000_000);
        history.add(&snapshot, &snapshot.rows);
        snapshot.host.mem_available = Some(60_000_000);
        history.add(&snapshot, &snapshot.rows);
        assert_eq!(history.seconds_left(&snapshot), Some(60.0));
    }
}
