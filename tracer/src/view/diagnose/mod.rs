//! `memtrace diagnose`: findings, worst first, each with its evidence, what would refute it and what to do; or that
//! nothing is wrong, as far as could be seen.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    host::timestamp,
    json::{self, SCHEMA},
    lines,
    select::Filter,
    text::{self, Charset},
    unit,
};
use crate::{
    aggregator::row::How,
    finding::{
        Finding, Grower, Severity,
        evidence::{ContainerRate, Dirtier, Fact, Value},
    },
    metric::Unit,
    resolve::label::label,
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
    findings: Vec<&'a Finding>,
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
    /// What passes the filter; what is about no container does.
    pub fn findings(&self) -> Vec<&Finding> {
        chosen(self.last, self.filter).collect()
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
            page.finding(finding);
            page.out.push('\n');
        }
        page.paragraph("", "", &self.course());
        for sentence in self.not_seen() {
            page.paragraph("Not seen: ", "  ", &sentence);
        }
        for loss in self.last.host.losses.iter().filter(|loss| loss.count > 0) {
            page.paragraph("Lost: ", "  ", &format!("{} {}", loss.count, loss.what));
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

fn chosen<'a>(snapshot: &'a Snapshot, filter: &Filter) -> impl Iterator<Item = &'a Finding> {
    let passes =
        |finding: &&Finding| finding.container.as_ref().is_none_or(|container| filter.matches(container));
    snapshot.findings.iter().map(AsRef::as_ref).filter(passes)
}

/// Tells a finding above `info` once when it opens, and again when it gets worse.
#[derive(Default)]
pub struct Teller {
    told: Vec<(String, Severity)>,
}

impl Teller {
    /// Lines for what is new in this interval.
    pub fn news(&mut self, snapshot: &Snapshot, filter: &Filter, charset: Charset) -> String {
        let mut news = String::new();
        for finding in chosen(snapshot, filter).filter(|finding| finding.severity > Severity::Info) {
            let place = match self.told.iter().position(|(id, _)| *id == finding.id) {
                Some(place) if self.told[place].1 >= finding.severity => continue,
                Some(place) => place,
                None => {
                    self.told.push((finding.id.clone(), finding.severity));
                    self.told.len() - 1
                }
            };
            self.told[place].1 = finding.severity;
            let summary = text::clean(&finding.summary, charset);
            // A `String` takes every write.
            let _ = writeln!(news, "found: {}: {summary}", finding.severity.as_str());
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

    fn finding(&mut self, finding: &Finding) {
        let head = finding.severity.as_str().to_uppercase() + " ";
        self.paragraph(&head, &" ".repeat(head.len()), &finding.summary);
        let also: String = finding.also.iter().map(|kind| format!(", also {}", kind.as_str())).collect();
        let _ = writeln!(self.out, "  evidence ({}{also})", finding.kind.as_str());
        let facts = finding.evidence.facts();
        let keys = facts.iter().map(|fact| fact.key.len()).max().unwrap_or(0);
        for fact in facts {
            if let Some((value, how, says)) = cells(fact) {
                let line = format!("    {:<keys$}  {value:>10}  {how:<8}  {says}", fact.key);
                let _ = writeln!(self.out, "{}", text::fit(&line, COLUMNS, self.charset));
            }
        }
        let _ = writeln!(self.out, "  refuted by");
        self.paragraph("    ", "    ", &finding.refuted_by);
        let _ = writeln!(self.out, "  what to do");
        let mut number = 0;
        for advice in &finding.advice {
            match advice.strip_prefix("$ ") {
                // Whole, to be pasted.
                Some(command) => {
                    let _ = writeln!(self.out, "       {}", text::clean(command, self.charset));
                }
                None => {
                    number += 1;
                    self.paragraph(&format!("    {number}. "), "       ", advice);
                }
            }
        }
    }
}

/// The value, how it is known, what it is; `None` where there is nothing to show.
fn cells(fact: &Fact) -> Option<(String, &'static str, String)> {
    let how = match fact.how {
        _ if !fact.value.is_known() => "unknown",
        None => "measured",
        Some(How::Inferred) => "inferred",
        Some(How::Sampled) => "sampled",
        Some(How::AtLeast) => "at least",
    };
    let size = |bytes: Option<f64>| unit::format(Unit::Bytes, bytes);
    let value = match &fact.value {
        Value::Word(word) => (*word).to_owned(),
        Value::Bytes(bytes) => size(bytes.map(|bytes| bytes as f64)),
        Value::Growth(Some(bytes)) if *bytes > 0 => format!("+{}", size(Some(*bytes as f64))),
        Value::Growth(bytes) => size(bytes.map(|bytes| bytes as f64)),
        Value::Rate(rate) => unit::format(Unit::Traffic, *rate),
        Value::PerSecond(rate) => unit::format(Unit::PerSecond, *rate),
        Value::Seconds(seconds) => unit::format(Unit::Seconds, *seconds),
        Value::Count(count) => unit::format(Unit::Count, count.map(|count| count as f64)),
        Value::Difference(difference) => {
            difference.map_or_else(|| "-".to_owned(), |difference| format!("{difference:+}"))
        }
        Value::Clients(None) => "-".to_owned(),
        Value::Clients(Some(clients)) if clients.is_empty() => return None,
        Value::Clients(Some(clients)) => {
            let names = clients.iter().map(|one| format!("{}[{}] {}", one.comm, one.pid, one.open));
            let names = names.collect::<Vec<_>>().join(", ");
            let open: u64 = clients.iter().map(|one| one.open).sum();
            return Some((open.to_string(), how, format!("{} {names}", fact.says)));
        }
        Value::Change(change) => change.map_or_else(|| "-".to_owned(), |change| format!("{change:+}")),
        Value::Share(of) => unit::format(Unit::Share, *of),
        Value::Peers(peers) if peers.is_empty() => return None,
        Value::Peers(peers) => {
            let names = peers.iter().map(|peer| format!("{} ({})", peer.addr, peer.count));
            return Some((
                peers.len().to_string(),
                how,
                format!("{} {}", fact.says, names.collect::<Vec<_>>().join(", ")),
            ));
        }
        Value::Calls(None) => "-".to_owned(),
        Value::Calls(Some(calls)) => {
            let told = calls.iter().map(|call| {
                format!("{} {} in {}", call.count, call.name, unit::format(Unit::Seconds, Some(call.total_s)))
            });
            let names = told.collect::<Vec<_>>().join(", ");
            return Some((calls.len().to_string(), how, format!("{}: {names}", fact.says)));
        }
        Value::Child(None) => "-".to_owned(),
        Value::Child(Some(child)) => {
            let time = |of: Option<f64>| unit::format(Unit::Seconds, of);
            let says = format!(
                "{} {}, median {}, longest {}",
                fact.says,
                child.comm,
                time(child.p50_s),
                time(child.max_s)
            );
            return Some((child.running.to_string(), how, says));
        }
        Value::Processes(processes) if processes.is_empty() => return None,
        Value::Processes(processes) => {
            let names = processes.iter().map(|process| format!("{}[{}]", process.comm, process.pid));
            let names = names.collect::<Vec<_>>().join(", ");
            return Some((processes.len().to_string(), how, format!("{} {names}", fact.says)));
        }
        Value::Parts(parts) => {
            let mut known: Vec<(&str, f64)> =
                parts.iter().filter_map(|(kind, rate)| Some((*kind, (*rate)?))).collect();
            known.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (most, rate) = known.first()?;
            let rest = known[1..].iter().filter(|(_, rate)| rate.abs() >= 1024.0);
            let rest = rest
                .map(|(kind, rate)| format!(", {kind} {}", unit::format(Unit::BytesPerSecond, Some(*rate))));
            let says = format!("{} {most}{}", fact.says, rest.collect::<String>());
            return Some((unit::format(Unit::BytesPerSecond, Some(*rate)), how, says));
        }
        Value::Grower(None) => "-".to_owned(),
        Value::Grower(Some(Grower { process, anon, bytes_per_s })) => {
            let holds = size(Some(*anon as f64));
            let says = format!("{} {}[{}], holds {holds}", fact.says, process.comm, process.pid);
            return Some((unit::format(Unit::BytesPerSecond, *bytes_per_s), how, says));
        }
        Value::Record(_) => return None,
        Value::Dirtiers(dirtiers) if dirtiers.is_empty() => return None,
        Value::Dirtiers(dirtiers) => {
            let told = |dirtier: &Dirtier| {
                let path = dirtier.path.as_deref().map_or_else(String::new, |path| format!(" to {path}"));
                format!("{}[{}]{path}", dirtier.process.comm, dirtier.process.pid)
            };
            let most = size(dirtiers.first().map(|dirtier| dirtier.dirtied as f64));
            let names = dirtiers.iter().map(told).collect::<Vec<_>>().join(", ");
            return Some((most, how, format!("{} {names}", fact.says)));
        }
        Value::Containers(rates) if rates.is_empty() => return None,
        Value::Containers(rates) => {
            let told = |rate: &ContainerRate| {
                format!(
                    "{} {}",
                    label(&rate.container),
                    unit::format(Unit::BytesPerSecond, Some(rate.bytes_per_s))
                )
            };
            let names = rates.iter().map(told).collect::<Vec<_>>().join(", ");
            return Some((rates.len().to_string(), how, format!("{} {names}", fact.says)));
        }
    };
    Some((value, how, fact.says.to_owned()))
}

#[cfg(test)]
mod tests;
