//! FINDINGS. What is wrong, who does it, by which mechanism, and what to do. A rule looks at numbers only, never at the
//! name of a container, an image or a daemon; every finding carries the numbers that made it and what would refute it.
//!
//! - `evidence` is what a finding rests on; `past` what earlier ticks were like.
//! - One file a kind: check -> evidence -> summary -> advice. `remedy` is advice that several kinds give.
//!
//! Time is an argument; nothing here reads a clock or a file.

pub mod evidence;
mod log_flood;
mod past;
mod remedy;
mod unterminated_line;

#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use serde::Serialize;

use self::{evidence::Evidence, past::Past};
use crate::{
    aggregator::{
        row::Row,
        stream::{Logs, Process},
    },
    resolve::{Container, label},
};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    UnterminatedLine,
    LogFlood,
}

impl Kind {
    /// The word the interface uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::UnterminatedLine => "unterminated-line",
            Kind::LogFlood => "log-flood",
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
}

/// What a check may look at.
struct Look<'a> {
    at: Duration,
    logs: &'a Logs,
    rows: &'a [Arc<Row>],
}

/// Looks at each tick and keeps what it needs of earlier ones.
#[derive(Default)]
pub struct Watch {
    past: Past,
}

impl Watch {
    /// Findings that are open now, worst first. `at` is the time since the run began, as for the aggregator; `logs` is
    /// `None` without the probe.
    pub fn tick(&mut self, at: Duration, logs: Option<&Logs>, rows: &[Arc<Row>]) -> Vec<Arc<Finding>> {
        let Some(logs) = logs else { return Vec::new() };
        self.past.note(at, logs);
        let look = Look { at, logs, rows };
        let mut found = unterminated_line::check(&look, &mut self.past);
        found.extend(log_flood::check(&look, &self.past));
        fold(found)
    }
}

/// Sorts, and folds into a finding what it explains.
fn fold(mut found: Vec<Finding>) -> Vec<Arc<Finding>> {
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (Reverse(finding.severity), finding.kind, Reverse(finding.weight));
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    let mut told: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match told.iter_mut().find(|worse| explains(worse, &finding)) {
            Some(worse) if worse.also.contains(&finding.kind) => {}
            Some(worse) => worse.also.push(finding.kind),
            None => told.push(finding),
        }
    }
    told.into_iter().map(Arc::new).collect()
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
