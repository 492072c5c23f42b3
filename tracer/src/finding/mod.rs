//! FINDINGS. What is wrong, who does it, by which mechanism, and what to do. A rule looks at numbers only, never at the
//! name of a container, an image or a daemon; every finding carries the numbers that made it and what would refute it.
//!
//! - `account`: what a daemon's growth comes from, and what of it nothing explains.
//! - `evidence` is what a finding rests on; `past` what earlier ticks were like; `standing` since when each is open.
//! - One file a kind: check -> evidence -> summary -> advice. `remedy` is advice that several kinds give.
//!
//! Time is an argument; nothing here reads a clock or a file.

mod account;
mod blocked_io;
mod cpu_backlog;
mod daemon_leak;
mod dead_cgroups;
mod dirty_pressure;
pub mod evidence;
mod growth;
mod host;
mod log_flood;
mod memory_growth;
mod node_exhaustion;
mod oom_kill;
mod outside;
mod past;
mod remedy;
mod request_pileup;
mod standing;
mod unkillable_task;
mod unterminated_line;
mod work;

#[cfg(test)]
mod daemon_tests;
#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work_tests;

use std::{
    cmp::{Ordering, Reverse},
    collections::HashSet,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use self::{account::Accounts, evidence::Evidence, growth::Courses, past::Past};
pub use self::{
    account::Cause,
    growth::Grower,
    standing::{Became, Change, Open, Standing},
};
use crate::{
    aggregator::{
        call::CallReport,
        daemon::Daemons,
        dead::DeadReport,
        dirty::row::Dirty,
        host::Remainder,
        oom::Kill,
        row::Row,
        stream::{Logs, Process},
        stuck::StuckReport,
    },
    event::HostMemory,
    resolve::{Container, label},
};

/// What kind of trouble it is: causes before what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    UnkillableTask,
    UnterminatedLine,
    LogFlood,
    DaemonLeak,
    DirtyPagePressure,
    RequestPileup,
    CpuThrottledBacklog,
    BlockedIo,
    OomKill,
    MemoryGrowth,
    DeadCgroups,
    NodeExhaustion,
}

impl Kind {
    /// The word the interface uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::UnkillableTask => "unkillable-task",
            Kind::DaemonLeak => "daemon-leak",
            Kind::UnterminatedLine => "unterminated-line",
            Kind::LogFlood => "log-flood",
            Kind::DirtyPagePressure => "dirty-page-pressure",
            Kind::RequestPileup => "request-pileup",
            Kind::CpuThrottledBacklog => "cpu-throttled-backlog",
            Kind::BlockedIo => "blocked-io",
            Kind::OomKill => "oom-kill",
            Kind::MemoryGrowth => "memory-growth",
            Kind::DeadCgroups => "dead-cgroups",
            Kind::NodeExhaustion => "node-exhaustion",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Will be trouble if it goes on.
    Warning,
    /// Is trouble now.
    Critical,
}

impl Severity {
    /// The word the interface uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// One story, told once. Its texts hold names that anybody may have chosen: views make them harmless.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The same from tick to tick: the kind and what it is about.
    pub id: String,
    pub kind: Kind,
    pub severity: Severity,
    /// Who causes it.
    pub container: Option<Arc<Container>>,
    /// The process at the end of the chain, which serves many containers and suffers for this one.
    pub daemon: Option<Process>,
    /// One sentence with the numbers that matter.
    pub summary: String,
    /// What to do, in order. One that begins with `$ ` is a command that belongs to the one before it.
    pub advice: Vec<String>,
    pub refuted_by: String,
    pub evidence: Evidence,
    /// Kinds that this one explains, and that are therefore not told on their own.
    pub also: Vec<Kind>,
    /// Bytes at stake: of two findings as severe the greater one comes first.
    #[serde(skip)]
    pub weight: u64,
    /// What grows because of it.
    #[serde(skip)]
    pub grown: Option<Grown>,
    #[serde(skip)]
    pub nature: Nature,
}

/// What decides with which cause a finding is one story.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nature {
    #[default]
    Plain,
    /// A kill whose limit was full of pages not yet written.
    DirtyPages,
    /// Tasks that wait for each other, at the lock of the address space that they share.
    Crowd,
}

impl Finding {
    /// It explains one of that kind, which is not told on its own.
    fn tells(&mut self, kind: Kind) {
        if kind != self.kind && !self.also.contains(&kind) {
            self.also.push(kind);
        }
    }
}

/// A row that grows, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grown {
    /// `None`: it runs in no row.
    pub row: Option<u64>,
    pub bytes_per_s: f64,
}

/// What a check may look at.
struct Look<'a> {
    at: Duration,
    rows: &'a [Arc<Row>],
    host: &'a HostMemory,
    /// Used, but in no row.
    unattributed: Option<i64>,
}

/// Looks at each tick and keeps what it needs of earlier ones.
#[derive(Default)]
pub struct Watch {
    past: Past,
    courses: Courses,
    host: host::Host,
    dirty: dirty_pressure::Worst,
    work: work::Courses,
    sleeps: blocked_io::Sleeps,
}

/// What is looked at in a tick. `at` is the time since the run began, as for the aggregator.
pub struct Seen<'a> {
    pub at: Duration,
    pub rows: &'a [Arc<Row>],
    pub host: &'a HostMemory,
    /// Of that what no row accounts for.
    pub left: Remainder,
    /// Sum of the rows.
    pub held: Option<u64>,
    /// `None` without the probe.
    pub logs: Option<&'a Logs>,
    pub dirty: &'a Dirty,
    pub kills: &'a [Arc<Kill>],
    /// `None` without the probe, or where nobody asks.
    pub dead: Option<&'a DeadReport>,
    /// Of the rows that `callers` named; `None` before.
    pub calls: Option<&'a CallReport>,
    /// `None` where nobody asks.
    pub daemons: Option<&'a Daemons>,
    /// Likewise.
    pub stuck: Option<&'a StuckReport>,
}

impl Watch {
    /// Rows whose processes should be looked at before the next tick; `None`: those that are in no row.
    pub fn suspects(&self) -> Vec<Option<u64>> {
        let rows = self.courses.suspects().into_iter().map(Some);
        rows.chain(self.host.asks_for_processes().then_some(None)).collect()
    }

    /// Rows whose system calls are to be counted from now on: every one of their calls pays, so only where a finding needs
    /// to know.
    pub fn callers(&self) -> HashSet<u64> {
        self.work.candidates()
    }

    /// The anonymous memory of a suspect's processes.
    pub fn processes(&mut self, at: Duration, row: Option<u64>, anon: Vec<(Process, u64)>) {
        match row {
            Some(row) => self.courses.processes(at, row, anon),
            None => self.host.processes(at, anon),
        }
    }

    /// Findings that are open now, worst first.
    pub fn tick(&mut self, seen: &Seen<'_>) -> Vec<Arc<Finding>> {
        let Seen { at, rows, host, left, held, logs, dirty, kills, dead, daemons, calls, stuck } = *seen;
        self.courses.note(at, rows);
        self.host.note(at, host, &left);
        let used = host.total.zip(host.free).map(|(total, free)| total.saturating_sub(free));
        let unattributed = used.zip(held).map(|(used, held)| used as i64 - held as i64);
        let look = Look { at, rows, host, unattributed };
        let accounts = Accounts::of(logs, daemons);
        let mut found = memory_growth::check(&look, &self.courses, &accounts);
        found.extend(node_exhaustion::check(&look, &self.host, &self.courses));
        found.extend(dirty_pressure::check(&look, dirty, &mut self.dirty));
        self.work.note(at, rows);
        let piles = request_pileup::check(&look, &self.work, calls);
        found.extend(cpu_backlog::check(&look, &self.work));
        found.extend(oom_kill::check(&look, kills));
        found.extend(dead.and_then(|dead| dead_cgroups::check(&look, dead)));
        if let Some(logs) = logs {
            self.past.note(at, logs);
            found.extend(unterminated_line::check(&look, logs, &mut self.past, &accounts));
            found.extend(log_flood::check(&look, logs, &self.past));
        }
        found.extend(stuck.iter().flat_map(|stuck| blocked_io::check(&look, stuck, &mut self.sleeps)));
        let blocked = stuck.map_or(&[][..], |stuck| &stuck.tasks);
        let mut stuck = unkillable_task::check(blocked, daemons, &accounts);
        if let Some(daemons) = daemons {
            let leaks = daemon_leak::check(&look, daemons, &accounts, &mut stuck);
            stuck.extend(leaks);
        }
        found.extend(request_pileup::but_for_callers(piles, &look, daemons, &mut stuck));
        found.extend(stuck);
        fold(found)
    }
}

/// Sorts, and folds into a finding what it explains.
fn fold(mut found: Vec<Finding>) -> Vec<Arc<Finding>> {
    sort(&mut found);
    let mut told = gathered(found, explains);
    // A cause before what follows from it, which may be the worse of the two.
    told.sort_by_key(|finding| (finding.kind, Reverse(finding.weight)));
    let mut told = gathered(told, causes);
    sort(&mut told);
    told.into_iter().map(Arc::new).collect()
}

fn sort(found: &mut [Finding]) {
    found.sort_by(order);
}

/// Worst first.
fn order(a: &Finding, b: &Finding) -> Ordering {
    let key = |finding: &Finding| (Reverse(finding.severity), finding.kind, Reverse(finding.weight));
    key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
}

/// Each is told by itself or with an earlier one to which it belongs, which is then as severe.
fn gathered(found: Vec<Finding>, belongs: impl Fn(&Finding, &Finding) -> bool) -> Vec<Finding> {
    let mut told: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        let Some(other) = told.iter_mut().find(|told| belongs(told, &finding)) else {
            told.push(finding);
            continue;
        };
        other.severity = other.severity.max(finding.severity);
        std::iter::once(finding.kind).chain(finding.also).for_each(|kind| other.tells(kind));
    }
    told
}

/// A row grows because of what another finding says, or the host's memory goes where a row grows.
fn causes(cause: &Finding, effect: &Finding) -> bool {
    let Some(grown) = cause.grown else { return false };
    let same = || effect.grown.is_some_and(|own| own.row == grown.row);
    // Each that is in flight holds it for a moment: with their number the wait grows, however much memory there is yet.
    if cause.kind == Kind::RequestPileup && effect.nature == Nature::Crowd {
        return same();
    }
    if cause.severity == Severity::Info {
        return false;
    }
    match effect.kind {
        // What filled the limit, and what came of it.
        Kind::OomKill => {
            cause.kind == Kind::DirtyPagePressure && effect.nature == Nature::DirtyPages && same()
        }
        Kind::MemoryGrowth if cause.kind == Kind::OomKill || cause.kind == Kind::DirtyPagePressure => same(),
        Kind::MemoryGrowth if cause.kind != Kind::MemoryGrowth => {
            same() && effect.grown.is_some_and(|own| grown.bytes_per_s >= own.bytes_per_s / 2.0)
        }
        // Who writes more than the disk takes waits for it.
        Kind::BlockedIo => cause.kind == Kind::DirtyPagePressure && same(),
        Kind::NodeExhaustion => grown.bytes_per_s >= effect.weight as f64 / 2.0,
        _ => false,
    }
}

/// Whether the end of the host's memory, so many seconds away, may be told of a fall that was watched for so long: what a
/// start, a build or a job takes at once is over within seconds, and a host has no limit that it would meet.
fn foresees(watched: Duration, left: f64) -> bool {
    watched.as_secs_f64() >= left / 30.0
}

/// What is harmless by itself belongs to the trouble that the same container has with the same daemon.
fn explains(worse: &Finding, finding: &Finding) -> bool {
    let row = |finding: &Finding| finding.container.as_ref().map(|container| container.cgroup.id);
    finding.severity == Severity::Info
        && worse.severity > Severity::Info
        && worse.kind != finding.kind
        && row(worse).is_some()
        && row(worse) == row(finding)
        && worse.daemon == finding.daemon
        && !causes(finding, worse)
}

/// The process as a daemon, unless it is the container's own shim or conmon: such a one runs in a cgroup that bears the
/// container's generated id.
fn as_daemon(
    reader: &Process,
    reader_row: Option<u64>,
    container: &Container,
    rows: &[Arc<Row>],
) -> Option<Process> {
    let generated = label::short_id(&container.id).len() < container.id.len();
    let row = reader_row.and_then(|id| rows.iter().find(|row| row.container.cgroup.id == id));
    let own = generated && row.is_some_and(|row| row.container.cgroup.path.contains(&container.id));
    (!own).then(|| reader.clone())
}

/// `containerd[812]`.
fn named(process: &Process) -> String {
    format!("{}[{}]", process.comm, process.pid)
}
