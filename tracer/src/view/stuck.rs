//! Stuck tasks, and how long the sleeps of each container are: as rows for people and as JSON for scripts.

use std::{cmp::Reverse, sync::Arc};

use serde::Serialize;

use crate::{
    aggregator::{
        signal::Killer,
        stuck::{BlockedTime, StuckReport, StuckTask},
    },
    metric::Unit,
    resolve::label::label,
    snapshot::{Host, Snapshot},
    view::{
        host, json,
        select::Filter,
        text::{self, Charset},
        unit,
    },
};

/// Kernel functions of a task that plain output has.
const FRAMES: usize = 6;
/// Rows of durations that plain output has where no number is asked for.
const ROWS: usize = 10;

/// What the tasks are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Blocked,
    Container,
    Pid,
}

/// The words for them.
pub const SORTS: &[&str; 3] = &["blocked", "container", "pid"];

impl Sort {
    pub fn find(word: &str) -> Sort {
        match word {
            "container" => Sort::Container,
            "pid" => Sort::Pid,
            _ => Sort::Blocked,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Sort::Blocked => "blocked",
            Sort::Container => "container",
            Sort::Pid => "pid",
        }
    }
}

/// What is shown.
pub struct Shown<'a> {
    pub tasks: Vec<&'a Arc<StuckTask>>,
    pub times: Vec<&'a BlockedTime>,
    /// Tasks that pass the filter.
    pub all: usize,
}

/// What passes the filter, at most so many of each.
pub fn select<'a>(report: &'a StuckReport, filter: &Filter, sort: Sort, limit: Option<usize>) -> Shown<'a> {
    let mut tasks: Vec<_> = report.tasks.iter().filter(|task| filter.matches(&task.container)).collect();
    match sort {
        Sort::Blocked => {}
        Sort::Container => tasks.sort_by_key(|task| label(&task.container)),
        Sort::Pid => tasks.sort_by_key(|task| Reverse((task.pid, task.tid))),
    }
    let all = tasks.len();
    let limit = limit.unwrap_or(usize::MAX);
    tasks.truncate(limit);
    let times = report.blocked_time.iter().filter(|time| filter.matches(&time.container)).take(limit);
    Shown { tasks, times: times.collect(), all }
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    interval_s: f64,
    host: &'a Host,
    threshold_s: f64,
    tasks: &'a [&'a Arc<StuckTask>],
    /// `null` without the probe.
    blocked_time: Option<&'a [&'a BlockedTime]>,
}

/// The object, without the newline after it.
pub fn json(snapshot: &Snapshot, report: &StuckReport, shown: &Shown<'_>) -> String {
    let object = Json {
        schema: json::SCHEMA,
        kind: "stuck",
        ts: host::timestamp(snapshot.at),
        interval_s: snapshot.interval_s,
        host: &snapshot.host,
        threshold_s: report.threshold_s,
        tasks: &shown.tasks,
        blocked_time: report.served.then_some(&shown.times),
    };
    json::written(&object, 1024 * (shown.tasks.len() + shown.times.len() + 2))
}

/// One interval, with the empty line after it.
pub fn table(snapshot: &Snapshot, report: &StuckReport, shown: &Shown<'_>, charset: Charset) -> String {
    let clean = |text: &str| text::clean(text, charset).into_owned();
    let seconds = |value: f64| unit::format(Unit::Seconds, Some(value));
    let mut out = format!(
        "{} {}: {} tasks blocked for {} or longer, lost {}\n",
        host::timestamp(snapshot.at),
        clean(&snapshot.hostname),
        shown.all,
        seconds(report.threshold_s),
        snapshot.host.lost_events,
    );
    if !shown.tasks.is_empty() {
        out.push_str("   BLOCKED S     PID  NAME\n");
    }
    for task in &shown.tasks {
        let blocked = unit::format_marked(Unit::Seconds, Some(task.blocked_s), task.blocked_s_how);
        out.push_str(&format!(
            "{blocked:>10} {} {:>7}  {}\n",
            task.state,
            task.pid,
            clean(&label(&task.container))
        ));
        for line in lines(task) {
            out.push_str(&format!("    {}\n", clean(&line)));
        }
    }
    if !shown.times.is_empty() {
        out.push_str("    SLEEPS    TOTAL   FOR I/O      P50      P99      MAX  NAME\n");
    }
    for time in shown.times.iter().take(ROWS) {
        let of = |value: Option<f64>| unit::format(Unit::Time, value);
        out.push_str(&format!(
            "{:>10} {:>8} {:>9} {:>8} {:>8} {:>8}  {}\n",
            time.count,
            of(Some(time.total_s)),
            of(Some(time.io_total_s)),
            of(time.p50_s),
            of(time.p99_s),
            of(Some(time.max_s)),
            clean(&label(&time.container)),
        ));
    }
    out.push('\n');
    out
}

/// What a task waits for, in lines.
pub fn lines(task: &StuckTask) -> Vec<String> {
    let thread = if task.tid == task.pid { String::new() } else { format!(" thread {}", task.tid) };
    let on = match &task.waits_on {
        Some(on) => format!("waits on {on}"),
        None => String::from("is blocked"),
    };
    let mut lines = vec![format!("{}[{}]{thread} {on}", task.comm, task.pid)];
    if let Some(call) = &task.syscall {
        lines.push(format!("in {call}"));
    }
    if task.sigkill_pending == Some(true) {
        lines.push("SIGKILL is pending: it ends when the wait does".to_owned());
    }
    if let Some(attempts) = task.kill_attempts.filter(|attempts| *attempts > 0) {
        let by: Vec<String> = task.killers.iter().map(killer).collect();
        lines.push(format!("SIGKILL sent {attempts} times: {}", by.join(", ")));
    }
    if !task.stack.is_empty() {
        let more = if task.stack.len() > FRAMES { " < ..." } else { "" };
        let frames: Vec<&str> = task.stack.iter().take(FRAMES).map(String::as_str).collect();
        lines.push(format!("stack {}{more}", frames.join(" < ")));
    }
    lines
}

/// `dockerd[812] 7 through runc`.
pub fn killer(killer: &Killer) -> String {
    let via =
        if killer.via.is_empty() { String::new() } else { format!(" through {}", killer.via.join(", ")) };
    format!("{}[{}] {}{via}", killer.comm, killer.pid, killer.count)
}

/// Why they cannot be told, in the words of the probes.
pub fn missing(snapshot: &Snapshot) -> String {
    let why: Vec<&str> =
        snapshot.probes.iter().map(String::as_str).filter(|probe| probe.starts_with("blocked")).collect();
    let why = if why.is_empty() { String::from("no probe for them is attached") } else { why.join("; ") };
    text::clean(&format!("stuck tasks cannot be told: {why}"), Charset::Unicode).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    #[test]
    fn golden() {
        let (snapshot, report) = (example::snapshot(), example::stuck::report());
        let shown = select(&report, &Filter::default(), Sort::Blocked, None);
        example::golden("stuck_plain", &table(&snapshot, &report, &shown, Charset::Unicode));
        let pretty: serde_json::Value = serde_json::from_str(&json(&snapshot, &report, &shown)).unwrap();
        example::golden("stuck_json", &format!("{pretty:#}"));
        assert_eq!(SORTS.map(|word| Sort::find(word).word()), *SORTS);
    }
}
