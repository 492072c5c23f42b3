//! Tasks of a container that sleep uninterruptibly for long and do wake, or may yet: for a disk or a server that is slow.
//!
//! Those that are to die and cannot are another finding; a parent of vfork and a frozen cgroup are in order.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    evidence::{Evidence, Value},
    remedy,
};
use crate::{
    aggregator::stuck::{BlockedTime, StuckReport, StuckTask},
    quantity::seconds,
    resolve::{Container, label::label, wait::ADDRESS_SPACE},
};

/// What is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// A sleep for a device is long from here on, at the mean of the window: a busy disk that turns answers in tens of
/// milliseconds.
const LONG_S: f64 = 0.25;
/// So much of the window tasks slept so, all together: else it was one that was late.
const SHARE: f64 = 0.5;
/// Tasks that are told one by one.
const TOLD: usize = 32;

/// Sleeps for a device that had ended, by row, over the window.
#[derive(Default)]
pub struct Sleeps {
    rows: HashMap<u64, VecDeque<Moment>>,
}

struct Moment {
    at: Duration,
    count: u64,
    total_s: f64,
}

/// Those that ended within the window.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Recent {
    count: u64,
    total_s: f64,
    over_s: f64,
}

impl Sleeps {
    fn note(&mut self, at: Duration, times: &[BlockedTime]) {
        let known: HashMap<u64, &BlockedTime> =
            times.iter().map(|time| (time.container.cgroup.id, time)).collect();
        self.rows.retain(|row, _| known.contains_key(row));
        for (row, time) in known {
            let moments = self.rows.entry(row).or_default();
            moments.push_back(Moment { at, count: time.io_count, total_s: time.io_total_s });
            // The last one before the window stays: what came since then is counted.
            while moments.get(1).is_some_and(|second| at.saturating_sub(second.at) >= WINDOW) {
                moments.pop_front();
            }
        }
    }

    fn recent(&self, row: u64) -> Option<Recent> {
        let moments = self.rows.get(&row)?;
        let (first, last) = (moments.front()?, moments.back()?);
        let over_s = last.at.saturating_sub(first.at).as_secs_f64();
        let (count, total_s) = (last.count.saturating_sub(first.count), last.total_s - first.total_s);
        (count > 0 && over_s > 0.0).then_some(Recent { count, total_s, over_s })
    }
}

impl Recent {
    fn mean_s(&self) -> f64 {
        self.total_s / self.count as f64
    }

    fn is_long(&self) -> bool {
        self.mean_s() >= LONG_S && self.total_s >= SHARE * WINDOW.as_secs_f64()
    }
}

pub(super) fn check(look: &Look<'_>, stuck: &StuckReport, sleeps: &mut Sleeps) -> Vec<Finding> {
    sleeps.note(look.at, &stuck.blocked_time);
    let mut by_row: BTreeMap<u64, (Option<&BlockedTime>, Vec<&StuckTask>)> = BTreeMap::new();
    for task in stuck.tasks.iter().filter(|task| is_trouble(task)) {
        by_row.entry(task.container.cgroup.id).or_default().1.push(task);
    }
    // Row `/` is the kernel's own threads, nearly all of it.
    for time in stuck.blocked_time.iter().filter(|time| time.container.cgroup.path != "/") {
        by_row.entry(time.container.cgroup.id).or_default().0 = Some(time);
    }
    let told = by_row.into_iter().filter_map(|(row, (time, tasks))| {
        let recent = sleeps.recent(row).filter(Recent::is_long);
        if tasks.is_empty() && recent.is_none() {
            return None;
        }
        let container = time.map(|time| &time.container).or(tasks.first().map(|task| &task.container))?;
        Some(Case { container, time, tasks, recent }.finding())
    });
    told.collect()
}

/// The kernel's own threads sleep so for others, who are told, or for ever.
fn is_trouble(task: &StuckTask) -> bool {
    !task.is_kernel && !task.wait.is_intended() && !task.is_unkillable()
}

struct Case<'a> {
    container: &'a Arc<Container>,
    time: Option<&'a BlockedTime>,
    /// Asleep now, longest first.
    tasks: Vec<&'a StuckTask>,
    recent: Option<Recent>,
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        Finding {
            id: format!("{}:{}", Kind::BlockedIo.as_str(), self.container.id),
            kind: Kind::BlockedIo,
            severity: Severity::Warning,
            container: Some(Arc::clone(self.container)),
            daemon: None,
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: self.refuted_by(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: 0,
            // Told by that it grows by nothing.
            grown: Some(Grown { row: Some(self.container.cgroup.id), bytes_per_s: 0.0 }),
            nature: self.nature(),
        }
    }

    fn nature(&self) -> Nature {
        let crowd =
            |task: &&StuckTask| task.waits_on.as_ref().is_some_and(|on| on.starts_with(ADDRESS_SPACE));
        let is_crowd = !self.tasks.is_empty() && self.recent.is_none() && self.tasks.iter().all(crowd);
        if is_crowd { Nature::Crowd } else { Nature::Plain }
    }

    fn summary(&self) -> String {
        let who = label(self.container);
        if let Some(task) = self.tasks.first() {
            let more = match self.tasks.len() {
                1 => String::new(),
                more => format!(" and {} more of its tasks", more - 1),
            };
            let on = task.waits_on.as_ref().map_or_else(String::new, |on| format!(" on {on}"));
            let asleep = seconds(task.blocked_s);
            return format!(
                "{who} stands still: {}[{}]{more} waits{on}, for {asleep} by now",
                task.comm, task.pid
            );
        }
        let Some(recent) = &self.recent else { return who };
        format!(
            "{who} waits for its disk: {} sleeps for a device in {}, {} each on average",
            recent.count,
            seconds(recent.over_s),
            seconds(recent.mean_s()),
        )
    }

    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        match self.tasks.first() {
            Some(task) => {
                advice.push(remedy::repair(task));
                advice.push(remedy::stack(task));
            }
            None => advice.push(
                "Look at the disk: iostat -x 1 tells how busy it is and how long it takes, dmesg of errors."
                    .to_owned(),
            ),
        }
        advice.push(
            "Do not kill it for this: most such sleeps end by no signal (those for NFS and for a page of a file do), and \
             whoever waits for its end waits, too."
                .to_owned(),
        );
        advice.extend(remedy::view(self.container, "stuck"));
        advice
    }

    fn refuted_by(&self) -> String {
        match self.tasks.first() {
            Some(task) => format!(
                "A State in /proc/{}/task/{}/status that is neither D nor a wait for a server, or ctxt_switches there that \
                 rise by many a second: then it moves.",
                task.pid, task.tid
            ),
            None => "An await of few milliseconds in iostat -x 1 on the disk that it uses, while this goes on: then the time \
                     goes elsewhere."
                .to_owned(),
        }
    }

    fn evidence(&self) -> Evidence {
        let tasks: Vec<&StuckTask> = self.tasks.iter().copied().take(TOLD).collect();
        let on = self.tasks.first().and_then(|task| task.waits_on.clone());
        let total = |of: fn(&BlockedTime) -> Option<f64>| Value::Seconds(self.time.and_then(of));
        let recent = |of: fn(&Recent) -> f64| Value::Seconds(self.recent.as_ref().map(of));
        Evidence::default()
            .with("blocked_time", "sleeps that ended", Value::record(&self.time))
            .with("waits_on", "what it waits on", Value::record(&on))
            .with("tasks", "tasks", Value::record(&tasks))
            .with("asleep", "tasks that are asleep now", Value::Count(Some(self.tasks.len() as u64)))
            .with(
                "longest_s",
                "the longest of them",
                Value::Seconds(tasks.first().map(|task| task.blocked_s)),
            )
            .with("io_mean_s", "a sleep for a device, on average", recent(Recent::mean_s))
            .with("io_total_s", "all of them together", recent(|recent| recent.total_s))
            .with("p99_s", "99 of 100 sleeps since attach", total(|time| time.p99_s))
            .with("max_s", "the longest that ended", total(|time| Some(time.max_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::example::container, *};

    fn time(count: u64, total_s: f64) -> BlockedTime {
        BlockedTime {
            container: Arc::new(container("shop", "db-0", "db")),
            count,
            total_s,
            p50_s: Some(0.4),
            p99_s: Some(0.9),
            max_s: 1.0,
            io_count: count,
            io_total_s: total_s,
            killable_count: 0,
            killable_total_s: 0.0,
        }
    }

    fn seen(sleeps: &mut Sleeps, at: u64, time: BlockedTime) -> Vec<Finding> {
        let look =
            Look { at: Duration::from_secs(at), rows: &[], host: &Default::default(), unattributed: None };
        let stuck = StuckReport { blocked_time: vec![time], ..StuckReport::default() };
        check(&look, &stuck, sleeps)
    }

    #[test]
    fn a_slow_disk_is_told_while_it_is_slow() {
        let mut sleeps = Sleeps::default();
        assert_eq!(seen(&mut sleeps, 0, time(100, 90.0)), [], "what was before tells nothing of now");
        let told = seen(&mut sleeps, 10, time(116, 98.0));
        assert_eq!((told.len(), told[0].kind, told[0].severity), (1, Kind::BlockedIo, Severity::Warning));
        assert!(
            told[0].summary.contains("16 sleeps for a device in 10 s, 0.5 s each"),
            "{}",
            told[0].summary
        );
        assert_eq!(seen(&mut sleeps, 20, time(216, 99.0)), [], "ten milliseconds each");
        assert_eq!(seen(&mut sleeps, 30, time(217, 101.0)), [], "one that was late");
    }
}
