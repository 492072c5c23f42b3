//! Tasks in uninterruptible sleep: how long each row's were, and what a stuck one waits for, in one phrase.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use tracer_ebpf::abi::blocked::{BlockedCount, Durations, upper};

use super::{
    row::How,
    signal::{Killer, Signals},
};
use crate::{
    event::blocked::Moved,
    quantity::timestamp,
    resolve::{Container, wait::Kind},
};

/// Everything about stuck tasks in one tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StuckReport {
    pub threshold_s: f64,
    /// Longest blocked first.
    pub tasks: Vec<Arc<StuckTask>>,
    /// By row; those that slept longest in all come first. Empty without the probe.
    pub blocked_time: Vec<BlockedTime>,
    /// Whether the probe counts.
    pub served: bool,
}

impl StuckReport {
    /// Who tried to kill them, where signals are counted.
    pub fn signalled(&mut self, signals: &Signals) {
        for task in &mut self.tasks {
            let sent = signals.of(task.pid);
            let task = Arc::make_mut(task);
            task.kill_attempts = Some(sent.map_or(0, |sent| sent.kills));
            task.killers = sent.map(|sent| sent.killers.clone()).unwrap_or_default();
        }
    }
}

/// A task that has been blocked for longer than the threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StuckTask {
    pub container: Arc<Container>,
    pub pid: u32,
    pub tid: u32,
    pub comm: Arc<str>,
    /// `D`, or `S` for one that waits for a server which does not answer, until a fatal signal comes.
    pub state: char,
    pub blocked_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_s_how: Option<How>,
    #[serde(serialize_with = "time")]
    pub since: SystemTime,
    pub wchan: Option<Arc<str>>,
    pub stack: Vec<String>,
    pub syscall: Option<String>,
    /// In one phrase; `None`: not known.
    pub waits_on: Option<String>,
    /// What kind of wait that is.
    pub wait: Kind,
    /// For a device, as the kernel counts that.
    pub in_io: Option<bool>,
    /// Who has the lock.
    pub owner: Option<Owner>,
    pub sigkill_pending: Option<bool>,
    /// A thread of the kernel, or one that is not looked at yet.
    #[serde(skip)]
    pub is_kernel: bool,
    /// SIGKILLs since attach; `None` without the probe.
    pub kill_attempts: Option<u64>,
    pub killers: Vec<Killer>,
}

impl StuckTask {
    /// SIGKILL is pending, and it sleeps where that is not looked at.
    pub fn is_unkillable(&self) -> bool {
        self.state == 'D' && self.sigkill_pending == Some(true)
    }
}

/// A task that has a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    pub tid: u32,
    pub comm: String,
}

/// Sleeps of a row's tasks that ended since attach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockedTime {
    pub container: Arc<Container>,
    pub count: u64,
    pub total_s: f64,
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
    pub max_s: f64,
    /// Of these, for a device.
    pub io_count: u64,
    pub io_total_s: f64,
    /// Of the others, those that a fatal signal ends.
    pub killable_count: u64,
    pub killable_total_s: f64,
}

fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*at))
}

/// Sleeps by memory cgroup, from the kernel's totals.
#[derive(Default)]
pub struct BlockedTimes {
    cgroups: HashMap<u64, Sleeps>,
}

struct Sleeps {
    count: BlockedCount,
    octaves: BTreeMap<u32, Durations>,
    /// The row that counts it, with its container.
    row: Option<(u64, Arc<Container>)>,
}

impl BlockedTimes {
    /// `row` finds whose a memory cgroup is.
    pub fn take_in(&mut self, moved: Moved, row: impl Fn(u64) -> Option<(u64, Arc<Container>)>) {
        for (id, count) in moved.times {
            let sleeps = self.cgroups.entry(id).or_insert_with(|| Sleeps {
                count,
                octaves: BTreeMap::new(),
                row: None,
            });
            sleeps.count = count;
            // A name may come later; of one that is gone the last is kept.
            sleeps.row = row(id).or(sleeps.row.take());
        }
        for (key, counts) in moved.durations {
            if let Some(sleeps) = self.cgroups.get_mut(&key.cgroup) {
                sleeps.octaves.insert(key.octave, counts);
            }
        }
    }

    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        self.cgroups.retain(|id, _| known(*id));
    }

    /// By row, the longest in all first.
    pub fn rows(&self) -> Vec<BlockedTime> {
        let mut rows: HashMap<u64, (BlockedTime, BTreeMap<u64, u64>)> = HashMap::new();
        for sleeps in self.cgroups.values() {
            let Some((row, container)) = &sleeps.row else { continue };
            let (sum, buckets) = rows.entry(*row).or_insert_with(|| (nothing(container), BTreeMap::new()));
            let count = &sleeps.count;
            sum.count += count.count;
            sum.total_s += seconds(count.time);
            sum.max_s = sum.max_s.max(seconds(count.max));
            sum.io_count += count.io_count;
            sum.io_total_s += seconds(count.io_time);
            sum.killable_count += count.killable_count;
            sum.killable_total_s += seconds(count.killable_time);
            for (octave, steps) in &sleeps.octaves {
                for (step, count) in steps.iter().enumerate().filter(|(_, count)| **count > 0) {
                    *buckets.entry(upper(*octave, step as u32)).or_default() += count;
                }
            }
        }
        let mut rows: Vec<BlockedTime> = rows
            .into_values()
            .map(|(sum, buckets)| BlockedTime {
                p50_s: percentile(&buckets, 0.5).map(|s| s.min(sum.max_s)),
                p99_s: percentile(&buckets, 0.99).map(|s| s.min(sum.max_s)),
                ..sum
            })
            .collect();
        rows.sort_by(|a, b| {
            b.total_s
                .total_cmp(&a.total_s)
                .then_with(|| a.container.cgroup.path.cmp(&b.container.cgroup.path))
        });
        rows
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn nothing(container: &Arc<Container>) -> BlockedTime {
    BlockedTime {
        container: Arc::clone(container),
        count: 0,
        total_s: 0.0,
        p50_s: None,
        p99_s: None,
        max_s: 0.0,
        io_count: 0,
        io_total_s: 0.0,
        killable_count: 0,
        killable_total_s: 0.0,
    }
}

/// The least duration that so much of all are not longer than, in seconds.
fn percentile(buckets: &BTreeMap<u64, u64>, part: f64) -> Option<f64> {
    let all: u64 = buckets.values().sum();
    let wanted = (all as f64 * part).ceil().max(1.0) as u64;
    let mut seen = 0;
    buckets.iter().find_map(|(upper, count)| {
        seen += count;
        (seen >= wanted).then_some(*upper as f64 / 1e6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all() {
        let buckets = BTreeMap::from([(1000, 98), (2000, 1), (5_000_000, 1)]);
        assert_eq!(percentile(&buckets, 0.5), Some(0.001));
        assert_eq!(percentile(&buckets, 0.99), Some(0.002));
        assert_eq!(percentile(&buckets, 1.0), Some(5.0));
        assert_eq!(percentile(&BTreeMap::new(), 0.5), None);
    }
}
