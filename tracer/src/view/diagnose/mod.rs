//! `memtrace diagnose`: findings, worst first, each with its evidence, what would refute it and what to do; or that
//! nothing is wrong, as far as could be seen.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    finding,
    host::timestamp,
    json::{self, SCHEMA},
    lines,
    select::Filter,
    text::{self, Charset},
    unit,
};
use crate::{
    finding::{Open, Severity},
    snapshot::{Host, Snapshot},
};

/// Columns of the text.
const COLUMNS: usize = 80;

/// One run.
pub struct Report<'a> {
    pub started: SystemTime,
    pub duration: Duration,
    /// As the run ended.
    pub last: &'a Snapshot,
    pub filter: &'a Filter,
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    started: String,
    duration_s: f64,
    host: &'a Host,
    findings: Vec<&'a Open>,
    watched: Watched,
    /// What could not be seen, a sentence each.
    not_seen: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Watched {
    rows: usize,
    /// `null` without the probe.
    streams: Option<usize>,
}

impl Report<'_> {
    /// What passes the filter; what is about no container does. Found at one look and at none since: that may be chance.
    pub fn findings(&self) -> Vec<&Open> {
        let lasted = |finding: &&Open| finding.unseen_s.is_none_or(|unseen| unseen < finding.open_s);
        chosen(self.last, self.filter).filter(lasted).collect()
    }

    pub fn is_critical(&self) -> bool {
        self.findings().iter().any(|finding| finding.severity == Severity::Critical)
    }

    /// One object, without the newline after it.
    pub fn json(&self) -> String {
        let json = Json {
            schema: SCHEMA,
            kind: "diagnose",
            ts: timestamp(self.last.at),
            started: timestamp(self.started),
            duration_s: self.duration.as_secs_f64(),
            host: &self.last.host,
            findings: self.findings(),
            watched: self.watched(),
            not_seen: self.not_seen(),
        };
        json::written(&json, 4096)
    }

    pub fn text(&self, charset: Charset) -> String {
        let mut page = Page { out: String::new(), charset };
        let findings = self.findings();
        if findings.iter().all(|finding| finding.severity == Severity::Info) {
            page.paragraph("", "", &self.nothing_wrong(findings.is_empty()));
            page.out.push('\n');
        }
        for finding in findings {
            page.finding(finding, self.last);
            page.out.push('\n');
        }
        page.paragraph("", "", &self.course());
        for sentence in self.not_seen() {
            page.paragraph("Not seen: ", "  ", &sentence);
        }
        for loss in self.last.host.losses.iter().filter(|loss| loss.count > 0) {
            page.paragraph("Lost: ", "  ", &format!("{} {}", loss.count, loss.what));
        }
        for sentence in &self.last.host.own.over_budget {
            page.paragraph("Budget: ", "  ", sentence);
        }
        page.out
    }

    fn nothing_wrong(&self, nothing_at_all: bool) -> String {
        let streams = self.last.logs.is_some();
        let of = match self.filter.pattern() {
            "" => String::new(),
            pattern => format!(" with what matches {pattern}"),
        };
        match (streams, nothing_at_all) {
            (false, _) => "Nothing was found, but log lines could not be watched.".to_owned(),
            (true, true) => format!("Nothing is wrong{of} that memtrace can see."),
            (true, false) => format!("Nothing is wrong{of} that memtrace can see. Worth knowing:"),
        }
    }

    fn watched(&self) -> Watched {
        let logs = self.last.logs.as_deref();
        let of = |row: u64| self.last.rows.iter().find(|known| known.container.cgroup.id == row);
        let passes = |row: u64| {
            self.filter.pattern().is_empty() || of(row).is_some_and(|row| self.filter.matches(&row.container))
        };
        Watched {
            rows: self.last.rows.iter().filter(|row| self.filter.matches(&row.container)).count(),
            streams: logs.map(|logs| logs.streams.iter().filter(|stream| passes(stream.row)).count()),
        }
    }

    fn course(&self) -> String {
        let watched = self.watched();
        let several = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let streams = watched.streams.map(|count| several(count, "stream") + " of log lines, ");
        format!(
            "Watched for {} from {}: {}{} on {}, kernel {}.",
            unit::seconds(self.duration.as_secs_f64()),
            timestamp(self.started),
            streams.unwrap_or_default(),
            several(watched.rows, "row"),
            self.last.hostname,
            self.last.kernel
        )
    }

    fn not_seen(&self) -> Vec<String> {
        let logs = self.last.logs.is_none().then(|| lines::missing(self.last));
        let told = |line: &str| logs.as_ref().is_some_and(|logs| logs.contains(line));
        let missing = self.last.probes.iter().filter(|line| line.contains(": not attached: ") && !told(line));
        let missing: Vec<String> = missing.cloned().collect();
        logs.into_iter().chain(missing).collect()
    }
}

fn chosen<'a>(snapshot: &'a Snapshot, filter: &Filter) -> impl Iterator<Item = &'a Open> {
    let passes = |open: &&Open| open.container.as_ref().is_none_or(|container| filter.matches(container));
    snapshot.findings.iter().map(AsRef::as_ref).filter(passes)
}

/// Tells a finding above `info` once when it opens, again when it gets worse, and when it is over.
#[derive(Default)]
pub struct Teller {
    told: Vec<Told>,
}

struct Told {
    id: String,
    severity: Severity,
    summary: String,
}

impl Teller {
    /// Lines for what is new in this interval.
    pub fn news(&mut self, snapshot: &Snapshot, filter: &Filter, charset: Charset) -> String {
        let mut news = String::new();
        // A `String` takes every write.
        let mut tell = |head: &str, severity: Severity, summary: &str| {
            let _ = writeln!(news, "{head}: {}: {}", severity.as_str(), text::clean(summary, charset));
        };
        let bad: Vec<&Open> =
            chosen(snapshot, filter).filter(|finding| finding.severity > Severity::Info).collect();
        for told in self.told.extract_if(.., |told| bad.iter().all(|finding| finding.id != told.id)) {
            tell("over", told.severity, &told.summary);
        }
        for finding in bad {
            match self.told.iter_mut().find(|told| told.id == finding.id) {
                Some(told) if told.severity >= finding.severity => continue,
                Some(told) => told.severity = finding.severity,
                None => self.told.push(Told {
                    id: finding.id.clone(),
                    severity: finding.severity,
                    summary: finding.summary.clone(),
                }),
            }
            tell("found", finding.severity, &finding.summary);
        }
        news
    }
}

/// `watching: 7 of 15 s, 2 findings so far`.
pub fn progress(elapsed: Duration, duration: Duration, snapshot: &Snapshot, filter: &Filter) -> String {
    let found = chosen(snapshot, filter).count();
    let found = match found {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        _ => format!("{found} findings"),
    };
    format!("watching: {:.0} of {:.0} s, {found} so far", elapsed.as_secs_f64(), duration.as_secs_f64())
}

/// The text as it grows.
struct Page {
    out: String,
    charset: Charset,
}

impl Page {
    /// Wrapped; `head` before the first line, `indent` before the others.
    fn paragraph(&mut self, head: &str, indent: &str, said: &str) {
        let room = COLUMNS - text::width(head).max(text::width(indent));
        for (at, line) in text::wrap(said, room, self.charset).into_iter().enumerate() {
            let _ = writeln!(self.out, "{}{line}", if at == 0 { head } else { indent });
        }
    }

    fn finding(&mut self, finding: &Open, last: &Snapshot) {
        for (_, line) in finding::lines(finding, last, COLUMNS, self.charset) {
            let _ = writeln!(self.out, "{line}");
        }
    }
}

#[cfg(test)]
mod tests;
