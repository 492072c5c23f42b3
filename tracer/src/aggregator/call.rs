//! System calls of rows: each with its count, its errors, how long it took. Time is an argument.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::call::{SLOTS, bounds};

use crate::{
    event::calls::{CallTotal, CallTotals},
    resolve::{Container, call},
};

/// Rows that are gone and still told of.
const REMOVED: usize = 256;

/// One call of a row. Totals are since the row is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub name: Arc<str>,
    pub count: u64,
    pub errors: u64,
    /// By name, most frequent first.
    pub by_errno: Vec<(Arc<str>, u64)>,
    pub total_s: f64,
    /// Of the time of all calls of the row.
    pub share: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub max_us: Option<f64>,
    /// Of the last interval.
    pub count_per_s: Option<f64>,
    /// Time in the call a second, over all tasks.
    pub time_per_s: Option<f64>,
    /// (upper bound in us, calls), empty ones left out.
    pub buckets: Vec<(f64, u64)>,
}

/// Of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowCalls {
    pub row: u64,
    pub container: Arc<Container>,
    pub removed: bool,
    /// Counted now.
    pub counted: bool,
    /// For how long it was, or has been, counted.
    pub watched_s: f64,
    /// By the time they took, most first.
    pub calls: Vec<Call>,
}

impl RowCalls {
    /// A sum over its calls; `None` where one is not known.
    pub fn sum(&self, of: impl Fn(&Call) -> Option<f64>) -> Option<f64> {
        self.calls.iter().map(of).sum()
    }
}

/// What is known of the rows that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallReport {
    /// The hook that serves, or why none does.
    pub how: String,
    /// Attached now.
    pub running: bool,
    /// By path.
    pub rows: Vec<Arc<RowCalls>>,
}

impl CallReport {
    pub fn of(&self, row: u64) -> Option<&Arc<RowCalls>> {
        self.rows.iter().find(|calls| calls.row == row)
    }
}

struct Followed {
    container: Arc<Container>,
    removed: bool,
    counted: bool,
    since: Duration,
    until: Duration,
    /// What memory cgroups counted that are gone.
    gone: BTreeMap<u32, CallTotal>,
    /// Totals at the last tick, for the rates of the next.
    last: BTreeMap<u32, (u64, u64)>,
    told: Option<Arc<RowCalls>>,
}

/// State of the counts.
#[derive(Default)]
pub struct Calls {
    rows: HashMap<u64, Followed>,
    /// The row of each memory cgroup that has made calls.
    owners: HashMap<u64, u64>,
    totals: CallTotals,
}

impl Calls {
    /// A row is counted now, if it is new since then; called at each tick while it is.
    pub fn follow(&mut self, row: u64, container: &Container, since: Duration, at: Duration) {
        let followed = self.rows.entry(row).or_insert_with(|| Followed {
            container: Arc::new(container.clone()),
            removed: false,
            counted: true,
            since,
            until: at,
            gone: BTreeMap::new(),
            last: BTreeMap::new(),
            told: None,
        });
        followed.until = at;
        followed.counted = true;
        if *followed.container != *container {
            followed.container = Arc::new(container.clone());
        }
    }

    /// The row that a memory cgroup counts for; it stays so when the cgroup is gone.
    pub fn owner(&mut self, cgroup: u64, row: impl FnOnce() -> Option<u64>) -> Option<u64> {
        if let Some(row) = row() {
            self.owners.insert(cgroup, row);
        }
        self.owners.get(&cgroup).copied()
    }

    /// Memory cgroups whose counts the kernel drops now.
    pub fn forget(&mut self, gone: &HashSet<u64>) {
        for ((cgroup, code), total) in self.totals.extract_if(|(cgroup, _), _| gone.contains(cgroup)) {
            if let Some(followed) = self.owners.get(&cgroup).and_then(|row| self.rows.get_mut(row)) {
                followed.gone.entry(code).or_default().add(&total);
            }
        }
        self.owners.retain(|cgroup, _| !gone.contains(cgroup));
    }

    /// The kernel drops all counts now.
    pub fn keep(&mut self) {
        let all = self.totals.keys().map(|(cgroup, _)| *cgroup).collect();
        self.forget(&all);
        self.pause();
    }

    /// Closes an interval: totals as they are now; `lives` tells which rows are still there.
    pub fn tick(&mut self, totals: CallTotals, interval: Option<Duration>, lives: impl Fn(u64) -> bool) {
        self.totals = totals;
        let mut by_row: HashMap<u64, BTreeMap<u32, CallTotal>> = HashMap::new();
        for ((cgroup, code), total) in &self.totals {
            if let Some(row) = self.owners.get(cgroup) {
                by_row.entry(*row).or_default().entry(*code).or_default().add(total);
            }
        }
        for (row, followed) in &mut self.rows {
            let mut calls = by_row.remove(row).unwrap_or_default();
            for (code, total) in &followed.gone {
                calls.entry(*code).or_default().add(total);
            }
            followed.removed = !lives(*row);
            followed.close(*row, &calls, interval);
        }
        let mut removed: Vec<(Duration, u64)> =
            self.rows.iter().filter(|(_, row)| row.removed).map(|(id, row)| (row.until, *id)).collect();
        if removed.len() > REMOVED {
            removed.sort_unstable();
            for (_, id) in &removed[..removed.len() - REMOVED] {
                self.rows.remove(id);
            }
        }
    }

    /// Who is counted is about to be said anew.
    pub fn pause(&mut self) {
        for row in self.rows.values_mut() {
            row.counted = false;
        }
    }

    pub fn report(&self, how: String, running: bool) -> CallReport {
        let mut rows: Vec<Arc<RowCalls>> = self.rows.values().filter_map(|row| row.told.clone()).collect();
        rows.sort_by(|a, b| a.container.cgroup.path.cmp(&b.container.cgroup.path));
        CallReport { how, running, rows }
    }
}

impl Followed {
    fn close(&mut self, row: u64, totals: &BTreeMap<u32, CallTotal>, interval: Option<Duration>) {
        let all: u64 = totals.values().map(|total| total.total_ns).sum();
        let seconds = interval.map(|interval| interval.as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let mut calls: Vec<Call> = totals
            .iter()
            .map(|(code, total)| {
                let before = self.last.get(code).copied().unwrap_or_default();
                let rate = |now: u64, before: u64| seconds.map(|s| now.saturating_sub(before) as f64 / s);
                told(*code, total, all, rate(total.count, before.0), rate(total.total_ns, before.1))
            })
            .collect();
        calls.sort_by(|a, b| b.total_s.total_cmp(&a.total_s).then(a.name.cmp(&b.name)));
        self.last = totals.iter().map(|(code, total)| (*code, (total.count, total.total_ns))).collect();
        self.told = Some(Arc::new(RowCalls {
            row,
            container: Arc::clone(&self.container),
            removed: self.removed,
            counted: self.counted,
            watched_s: self.until.saturating_sub(self.since).as_secs_f64(),
            calls,
        }));
    }
}

fn told(code: u32, total: &CallTotal, all: u64, count: Option<f64>, time: Option<f64>) -> Call {
    let mut by_errno: Vec<(Arc<str>, u64)> =
        total.errors.iter().map(|(error, count)| (Arc::from(&*call::error(*error)), *count)).collect();
    by_errno.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    Call {
        name: Arc::from(&*call::name(code)),
        count: total.count,
        errors: total.errors.values().sum(),
        by_errno,
        total_s: total.total_ns as f64 / 1e9,
        share: (all > 0).then(|| total.total_ns as f64 / all as f64),
        p50_us: percentile(total, 0.5),
        p99_us: percentile(total, 0.99),
        max_us: (total.count > 0).then_some(total.max_ns as f64 / 1e3),
        count_per_s: count,
        time_per_s: time.map(|time| time / 1e9),
        buckets: total.times.iter().map(|(bucket, count)| (of(*bucket).1 as f64 / 1e3, *count)).collect(),
    }
}

fn of(bucket: u16) -> (u64, u64) {
    bounds(usize::from(bucket) / SLOTS, usize::from(bucket) % SLOTS)
}

/// The middle of the bucket in which the call lies that as many took no longer than; no more than the longest. `None`
/// without calls whose duration was counted.
fn percentile(total: &CallTotal, share: f64) -> Option<f64> {
    let counted: u64 = total.times.values().sum();
    let wanted = (counted as f64 * share).ceil() as u64;
    let mut seen = 0;
    let found = total.times.iter().find(|(_, count)| {
        seen += **count;
        seen >= wanted
    })?;
    let (lower, upper) = of(*found.0);
    Some(((lower + upper) as f64 / 2.0).min(total.max_ns as f64) / 1e3)
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::abi::call::{Table, bucket, code};

    use super::*;
    use crate::resolve::{Cgroup, Runtime};

    fn container(id: u64) -> Container {
        Container {
            runtime: Runtime::Cgroup,
            id: format!("/{id}"),
            name: None,
            pod: None,
            namespace: None,
            image: None,
            sandbox: false,
            cgroup: Cgroup { id, path: format!("/{id}") },
        }
    }

    fn total(times: &[u64], error: Option<u32>) -> CallTotal {
        let mut total = CallTotal::default();
        for time in times {
            let (group, slot) = bucket(*time);
            *total.times.entry((group as usize * SLOTS + slot as usize) as u16).or_default() += 1;
            total.count += 1;
            total.total_ns += time;
            total.max_ns = total.max_ns.max(*time);
        }
        total.errors.extend(error.map(|error| (error, 1)));
        total
    }

    #[test]
    fn cgroups_of_a_row_add_up_and_what_is_gone_stays() {
        let (read, write) = (code(Table::Native, 0), code(Table::Native, 1));
        let mut calls = Calls::default();
        let second = Duration::from_secs(1);
        calls.follow(7, &container(7), Duration::ZERO, Duration::ZERO);
        for cgroup in [7, 70] {
            assert_eq!(calls.owner(cgroup, || Some(7)), Some(7));
        }
        assert_eq!(calls.owner(8, || None), None);
        let now = |reads: &[u64]| {
            CallTotals::from([
                ((7, read), total(reads, Some(2))),
                ((70, read), total(&[4000], None)),
                ((7, write), total(&[1_000_000], None)),
                ((8, read), total(&[1], None)),
            ])
        };
        calls.tick(now(&[1000]), Some(second), |_| true);
        calls.follow(7, &container(7), second, second * 2);
        calls.tick(now(&[1000, 1000, 1000]), Some(second * 2), |_| true);
        let report = calls.report("hook".to_owned(), true);
        let row = report.of(7).expect("the row");
        let [by_time, reads] = &row.calls[..] else { panic!("two calls: {row:?}") };
        assert_eq!((&*by_time.name, &*reads.name, row.watched_s), ("write", "read", 2.0));
        assert_eq!((reads.count, reads.errors, &*reads.by_errno), (4, 1, &[("ENOENT".into(), 1)][..]));
        assert_eq!((reads.count_per_s, reads.max_us, reads.total_s), (Some(1.0), Some(4.0), 7e-6));
        assert_eq!(by_time.share, Some(1_000_000.0 / 1_007_000.0));
        // 70 goes: its calls stay with the row.
        let gone = HashSet::from([70]);
        calls.forget(&gone);
        let mut left = now(&[1000, 1000, 1000]);
        left.retain(|(cgroup, _), _| *cgroup != 70);
        calls.tick(left, Some(second), |_| false);
        let report = calls.report(String::new(), false);
        let row = report.of(7).expect("the row");
        assert_eq!((row.removed, row.calls[1].count, row.calls[1].count_per_s), (true, 4, Some(0.0)));
    }

    #[test]
    fn percentiles_are_within_two_percent() {
        let times: Vec<u64> = (1..=1000_u64).map(|nth| nth * nth * 37).collect();
        let total = total(&times, None);
        for (share, nth) in [(0.01, 10), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let (found, truth) =
                (percentile(&total, share).expect("there are calls") * 1e3, times[nth - 1] as f64);
            assert!((found / truth - 1.0).abs() < 0.016, "{share}: {found} for {truth}");
        }
        assert_eq!(percentile(&CallTotal::default(), 0.5), None);
    }
}
