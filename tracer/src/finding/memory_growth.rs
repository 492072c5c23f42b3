//! A row whose memory grows and goes on growing, towards its limit or towards the end of the host's memory.
//!
//! Clean page cache is left out: the kernel takes it back before it kills. Growth that has stopped is none, so a program that
//! fills its heap once is told while it does so at most.

use std::{sync::Arc, time::Duration};

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    account::{Account, Accounts},
    evidence::{Evidence, Value},
    foresees,
    growth::{Courses, NOT_YET_WRITTEN, RowCourse, SWAPPED_OUT, words},
    named, remedy,
};
use crate::{
    aggregator::row::{How, Row},
    quantity::{bytes, seconds},
    resolve::label::label,
};

/// It must have lasted so long before it is trouble,
const SUSTAINED: Duration = Duration::from_secs(5);
/// and so long before it is worth a word where nothing is near.
const LASTING: Duration = Duration::from_secs(10);
const WARNING_SECONDS: f64 = 600.0;
const CRITICAL_SECONDS: f64 = 60.0;
/// Slower is not worth a word where nothing is near.
const NOTABLE: f64 = 4.0 * 1024.0 * 1024.0;

pub(super) fn check(look: &Look<'_>, courses: &Courses, accounts: &Accounts) -> Vec<Finding> {
    let growing = |row: &'_ Arc<Row>| {
        let course = courses.row(row.container.cgroup.id)?;
        let rate = course.held.steady().filter(|rate| *rate > 0.0)?;
        Case { look, row: Arc::clone(row), course, rate, accounts }.finding()
    };
    look.rows.iter().filter_map(growing).collect()
}

struct Case<'a> {
    look: &'a Look<'a>,
    row: Arc<Row>,
    course: &'a RowCourse,
    /// Bytes a second over the time it was watched.
    rate: f64,
    accounts: &'a Accounts,
}

impl Case<'_> {
    fn finding(&self) -> Option<Finding> {
        let severity = self.severity()?;
        let container = &self.row.container;
        let rate = self.rate;
        Some(Finding {
            id: format!("{}:{}", Kind::MemoryGrowth.as_str(), container.id),
            kind: Kind::MemoryGrowth,
            severity,
            container: Some(Arc::clone(container)),
            daemon: None,
            summary: self.summary(),
            advice: self.advice(severity),
            refuted_by: "A growth that stops by itself, well before the limit: then a cache or a heap was filled once. \
                         Watch it for longer: `memtrace top -c`."
                .to_owned(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: rate as u64,
            grown: Some(Grown { row: Some(container.cgroup.id), bytes_per_s: rate }),
            nature: Nature::Plain,
        })
    }

    /// Until the host has nothing left, were this row alone; never where a limit comes first.
    fn seconds_to_host(&self) -> Option<f64> {
        let available = self.look.host.available?;
        let memory = &self.row.memory;
        let room = memory.effective_limit.zip(memory.current).map(|(limit, held)| limit.saturating_sub(held));
        room.is_none_or(|room| room > available).then_some(available as f64 / self.rate)
    }

    /// Until nothing more can be swapped out, where most of it is; then the limit, or the host's end, is met.
    fn seconds_to_swap(&self) -> Option<f64> {
        self.what().filter(|(words, rate)| *words == SWAPPED_OUT && *rate >= self.rate / 2.0)?;
        let memory = &self.row.memory;
        let room = memory.swap_limit.zip(memory.swap).map(|(limit, swap)| limit.saturating_sub(swap));
        let left = [room, self.look.host.swap_free].into_iter().flatten().min()?;
        Some(left as f64 / self.rate)
    }

    fn severity(&self) -> Option<Severity> {
        let span = self.course.held.span();
        let [host, swap] = [self.seconds_to_host(), self.seconds_to_swap()]
            .map(|left| left.filter(|left| foresees(span, *left)));
        let ends = [self.row.seconds_to_limit, host, swap];
        let left = ends.into_iter().flatten().fold(f64::INFINITY, f64::min);
        // What is written back in its turn never gets there; what is not is dirty-page-pressure.
        let left = if self.is_not_yet_written() { f64::INFINITY } else { left };
        match left {
            left if span >= SUSTAINED && left < CRITICAL_SECONDS => Some(Severity::Critical),
            left if span >= SUSTAINED && left < WARNING_SECONDS => Some(Severity::Warning),
            _ if span >= LASTING && self.rate >= NOTABLE => Some(Severity::Info),
            _ => None,
        }
    }

    fn is_not_yet_written(&self) -> bool {
        self.what().is_some_and(|(words, rate)| words == NOT_YET_WRITTEN && rate >= self.rate / 2.0)
    }

    fn evidence(&self) -> Evidence {
        let memory = &self.row.memory;
        let evidence = Evidence::default()
            .with("bytes_per_s", "growth without clean page cache", Value::Rate(Some(self.rate)))
            .with("by_kind", "of it", Value::Parts(self.course.by_kind().to_vec()))
            .with("current", "what it holds now", Value::Bytes(memory.current))
            .with("limit", "the least limit around it", Value::Bytes(memory.effective_limit))
            .with_how(
                "seconds_to_limit",
                "until that is reached",
                Value::Seconds(self.row.seconds_to_limit),
                Some(How::Inferred),
            )
            .with_how(
                "seconds_to_exhaustion",
                "until the host has no memory left",
                Value::Seconds(self.seconds_to_host()),
                Some(How::Inferred),
            )
            .with("swap", "of it is swapped out", Value::Bytes(memory.swap))
            .with_how(
                "seconds_to_swap_full",
                "until no more can be swapped out",
                Value::Seconds(self.seconds_to_swap()),
                Some(How::Inferred),
            )
            .with("top_process", "grows most", Value::Grower(self.course.top_process()));
        Account::tell(self.account(), evidence)
    }

    /// Of the process that makes most of the growth, where that serves containers.
    fn account(&self) -> Option<&Account> {
        let top = self.course.top_process()?;
        let is_most = top.bytes_per_s.is_some_and(|rate| rate >= self.rate / 2.0);
        self.accounts.get(&top.process).filter(|_| is_most)
    }

    /// The kind that grows most, in words.
    fn what(&self) -> Option<(&'static str, f64)> {
        let kinds = self.course.by_kind().into_iter().filter_map(|(kind, rate)| Some((kind, rate?)));
        let (kind, rate) = kinds.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((words(kind), rate))
    }

    fn summary(&self) -> String {
        let who = label(&self.row.container);
        let what = match self.what() {
            Some((words, rate)) if rate >= self.rate * 0.9 => format!(", nearly all of it {words}"),
            Some((words, rate)) if rate > 0.0 => format!(", {}/s of it {words}", bytes(rate)),
            _ => String::new(),
        };
        let process = match self.course.top_process() {
            Some(top) if top.bytes_per_s.is_some_and(|rate| rate >= self.rate / 2.0) => {
                format!(", in {}", named(&top.process))
            }
            _ => String::new(),
        };
        let end = match (self.row.seconds_to_limit, self.row.memory.effective_limit) {
            (_, limit) if let Some(left) = self.seconds_to_swap() => {
                let at = limit.map(|limit| format!(" within its limit of {}", bytes(limit as f64)));
                format!("{}; swap is full in about {}", at.unwrap_or_default(), seconds(left))
            }
            (Some(left), Some(limit)) => {
                format!("; it reaches its limit of {} in about {}", bytes(limit as f64), seconds(left))
            }
            (_, limit) => match (self.seconds_to_host(), limit) {
                (Some(left), None) => {
                    format!("; without a limit, the host has no memory left in about {}", seconds(left))
                }
                (Some(left), Some(_)) => format!("; the host has no memory left in about {}", seconds(left)),
                (None, Some(limit)) => format!(" below its limit of {}", bytes(limit as f64)),
                (None, None) => String::new(),
            },
        };
        format!("{who} grows by {}/s{what}{process}{end}", bytes(self.rate))
    }

    fn advice(&self, severity: Severity) -> Vec<String> {
        let container = &self.row.container;
        let mut advice = Vec::new();
        if severity > Severity::Info {
            advice.push(
                "Stop it before the kernel kills something, or raise its limit to win time.".to_owned(),
            );
            advice.extend(remedy::stop(container));
        }
        let doubt = Account::doubt(self.account());
        advice.push(match self.what() {
            _ if let Some(doubt) = doubt => doubt,
            Some(("anonymous memory" | SWAPPED_OUT, _)) => {
                "Find what the process keeps: take a heap profile of it, twice, a minute apart, and compare.".to_owned()
            }
            Some(("tmpfs and shared memory", _)) => {
                "Look for files in its tmpfs mounts (`df -t tmpfs`, /dev/shm, emptyDir with medium Memory) and remove \
                 what is not needed; give the mounts a size."
                    .to_owned()
            }
            Some(("kernel objects (slab)", _)) => {
                "See which kernel objects grow (`slabtop -o`): dentries and inodes come from walking or creating many \
                 files, sockets from connections that are not closed."
                    .to_owned()
            }
            Some(("socket buffers", _)) => {
                "Look for connections whose other side does not read: `ss -tmp`, column Recv-Q and Send-Q.".to_owned()
            }
            Some((NOT_YET_WRITTEN, _)) => {
                "See whether its disk takes what it writes: `memtrace dirty`, columns in and out. If not, write with direct \
                 or synchronous I/O, or to a faster disk."
                    .to_owned()
            }
            _ => "See through which kernel functions it is charged.".to_owned(),
        });
        advice.extend(remedy::sites(container));
        advice
    }
}
