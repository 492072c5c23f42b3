//! A log line that does not end, and a reader that keeps it until it does.
//!
//! Who reads logs line by line without a bound holds a line that never ends for ever. The rule asks three things of a
//! line over 1 MiB: does what its reader holds grow with it, and does the reader's memory with that? No setting and no
//! name is asked: what a reader takes less what it writes on tells whether it hoards.

use std::{sync::Arc, time::Duration};

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    account::{Account, Accounts},
    as_daemon,
    evidence::{Evidence, Value},
    named,
    past::{Past, ReaderPast, StreamPast},
    remedy,
};
use crate::{
    aggregator::{
        row::{How, Row},
        stream::{Logs, Process, Reader, Stream},
    },
    quantity::bytes,
    resolve::label::label,
};

/// A line over this is long, and more than this is growth.
const LONG: u64 = 1 << 20;
/// An unfinished line is watched for so many intervals before anything is said of it.
const INTERVALS: u32 = 2;
/// That a line was held is said for so long after its end.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// What becomes of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// The reader holds it, and its memory grows with it.
    Swells,
    /// The reader holds it; its memory does not grow as much, or is not known.
    Hoarded,
    /// What the reader holds is not known; its memory grows with the line.
    Suspected,
    /// What it holds does not grow now.
    AtRest,
    /// Nobody knows.
    Unknown,
    /// The reader writes on what it takes.
    Harmless,
    /// Was held; it ended, or its reader let go of it.
    Ended(u64),
}

impl Verdict {
    fn severity(self) -> Severity {
        match self {
            Verdict::Swells => Severity::Critical,
            Verdict::Hoarded | Verdict::Suspected => Severity::Warning,
            Verdict::AtRest | Verdict::Unknown | Verdict::Harmless | Verdict::Ended(_) => Severity::Info,
        }
    }
}

/// How the numbers went while the line was watched.
#[derive(Debug, Clone, Copy, Default)]
struct Course {
    grown: u64,
    held_growth: Option<u64>,
    /// The part of it since the reader's memory is known, which is often one interval later.
    held_since_mark: Option<u64>,
    /// The reader's growth since then, and the part that falls to this stream by what it holds.
    growth: Option<i64>,
    share: Option<i64>,
}

pub(super) fn check(look: &Look<'_>, logs: &Logs, past: &mut Past, accounts: &Accounts) -> Vec<Finding> {
    let mut found = Vec::new();
    for stream in &logs.streams {
        let Some((past, readers)) = past.stream(stream.id) else { continue };
        if stream.open_line <= LONG && past.alarmed.is_none() {
            continue;
        }
        let reader =
            stream.reader().and_then(|process| logs.readers.iter().find(|reader| reader.process == *process));
        let course = course(stream, past, reader, reader.and_then(|reader| readers.get(&reader.process)));
        let Some(verdict) = judge(stream, past, course, look.at) else { continue };
        let run = look.at.saturating_sub(past.since);
        let account = reader.and_then(|reader| accounts.get(&reader.process));
        let case = Case { stream, reader, account, course, verdict, run, rows: look.rows };
        found.push(case.finding());
    }
    found
}

fn course(
    stream: &Stream,
    past: &StreamPast,
    reader: Option<&Reader>,
    reader_past: Option<&ReaderPast>,
) -> Course {
    let line = &past.line;
    let grown = stream.open_line.saturating_sub(line.open);
    let held_growth = stream.held.zip(line.held).map(|(now, then)| now.saturating_sub(then));
    let mark = line.mark;
    let growth =
        mark.zip(reader.and_then(|reader| reader.anon)).map(|(mark, anon)| anon as i64 - mark.anon as i64);
    let held_since_mark =
        mark.and_then(|mark| mark.held).zip(stream.held).map(|(then, now)| now.saturating_sub(then));
    let held_of_all = mark.zip(reader_past).map(|(mark, past)| past.held_of_all - mark.held_of_all);
    let share = growth.zip(held_since_mark).map(|(growth, held)| {
        let all = held_of_all.map_or(0, |all| all.max(0) as u64).max(held);
        if all == 0 { 0 } else { (i128::from(growth) * i128::from(held) / i128::from(all)) as i64 }
    });
    Course { grown, held_growth, held_since_mark, growth, share }
}

/// The rule. `None`: nothing to tell, or not yet.
fn judge(stream: &Stream, past: &mut StreamPast, course: Course, at: Duration) -> Option<Verdict> {
    let verdict = match stream.open_line > LONG && past.line.intervals >= INTERVALS {
        true => Some(of_long_line(stream, course)),
        false => None,
    };
    if verdict.is_some_and(|verdict| verdict.severity() > Severity::Info) {
        past.alarmed = Some((at, stream.open_line));
        return verdict;
    }
    match past.alarmed.filter(|(since, _)| at.saturating_sub(*since) <= AFTERWARDS) {
        Some((_, length)) if matches!(verdict, None | Some(Verdict::Harmless)) => {
            Some(Verdict::Ended(length))
        }
        still => {
            past.alarmed = still;
            verdict
        }
    }
}

fn of_long_line(stream: &Stream, course: Course) -> Verdict {
    let at_least_half = |part: u64, whole: u64| part > LONG && part >= whole / 2;
    let Some(held_growth) = course.held_growth else {
        let growth = course.growth.map_or(0, |growth| growth.max(0) as u64);
        return if course.grown > LONG && at_least_half(growth, course.grown) {
            Verdict::Suspected
        } else {
            Verdict::Unknown
        };
    };
    if !at_least_half(held_growth, course.grown) {
        let holds_much = stream.held.is_some_and(|held| at_least_half(held, stream.open_line));
        return if holds_much { Verdict::AtRest } else { Verdict::Harmless };
    }
    let swells = course
        .share
        .zip(course.held_since_mark)
        .is_some_and(|(share, held)| held > 0 && at_least_half(share.max(0) as u64, held));
    if swells { Verdict::Swells } else { Verdict::Hoarded }
}

/// Everything that a finding is made of.
struct Case<'a> {
    stream: &'a Stream,
    reader: Option<&'a Reader>,
    account: Option<&'a Account>,
    course: Course,
    verdict: Verdict,
    /// Time that the stream's bytes are counted for.
    run: Duration,
    rows: &'a [Arc<Row>],
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        let stream = self.stream;
        let role = stream.role.as_str();
        let mut id = format!("{}:{}:{role}", Kind::UnterminatedLine.as_str(), stream.container.id);
        // Of these a container may have several.
        if role == "other" || role == "tty" {
            id.push_str(&format!(":{:016x}", stream.id));
        }
        Finding {
            id,
            kind: Kind::UnterminatedLine,
            severity: self.verdict.severity(),
            container: Some(Arc::clone(&stream.container)),
            daemon: self.daemon(),
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: self.refuted_by(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: self.course.held_growth.unwrap_or(stream.open_line),
            grown: self.grown(),
            nature: Nature::Plain,
        }
    }

    /// The reader, where it holds what is written.
    fn grown(&self) -> Option<Grown> {
        let seconds = self.run.as_secs_f64();
        let growth = self.daemon_growth().filter(|growth| *growth > 0 && seconds > 0.0)?;
        Some(Grown { row: self.reader?.row, bytes_per_s: growth as f64 / seconds })
    }

    fn bytes_per_s(&self) -> Option<f64> {
        let seconds = self.run.as_secs_f64();
        (seconds > 0.0).then(|| self.stream.bytes as f64 / seconds)
    }

    fn daemon(&self) -> Option<Process> {
        let row = self.reader.and_then(|reader| reader.row);
        as_daemon(self.stream.reader()?, row, &self.stream.container, self.rows)
    }

    /// Over the run.
    fn daemon_growth(&self) -> Option<i64> {
        self.reader.and_then(|reader| reader.anon_growth).or(self.course.growth)
    }

    /// What falls to this stream, where the reader holds more than it.
    fn shared(&self) -> Option<i64> {
        let (share, growth) = self.course.share.zip(self.course.growth)?;
        (growth > 0 && share < growth - growth / 20).then_some(share)
    }

    fn evidence(&self) -> Evidence {
        let stream = self.stream;
        let before = stream.open_line_before;
        let inferred = Some(How::Inferred);
        // There may be newlines in what was not looked at.
        let exact = if stream.unscanned > 0 { inferred } else { None };
        let open = Value::Bytes(Some(stream.open_line));
        let mut evidence = Evidence::default()
            .with("stream", "stream", Value::Word(stream.role.as_str()))
            .with_how("open_line_bytes", "without a newline so far", open, exact)
            .with_how("open_line_before", "besides, before the run, at most", Value::Bytes(before), inferred)
            .with("bytes_per_s", "written, over the run", Value::Rate(self.bytes_per_s()))
            .with("lines", "lines finished in the run", Value::Count(Some(stream.lines)))
            .with("max", "longest of them", Value::Bytes((stream.lines > 0).then_some(stream.max)))
            .with_how("held_bytes", "taken and not written on", Value::Bytes(stream.held), stream.held_how)
            .with("daemon_growth", "growth of the reader's memory", Value::Growth(self.daemon_growth()));
        if let Some(share) = self.shared() {
            let says = "of it by this stream";
            evidence = evidence.with_how("daemon_growth_share", says, Value::Growth(Some(share)), inferred);
        }
        evidence = Account::tell(self.account, evidence);
        if stream.unscanned > 0 {
            let says = "written but not looked at";
            evidence = evidence.with("unscanned_bytes", says, Value::Bytes(Some(stream.unscanned)));
        }
        let rss = self.reader.and_then(|reader| reader.anon);
        let row = self.rows.iter().find(|row| row.container.cgroup.id == stream.row);
        let own = row.and_then(|row| row.memory.current);
        // Who is no daemon is a shim.
        let shim = stream.reader().filter(|_| self.daemon().is_none()).cloned();
        if let Some(shim) = shim {
            evidence = evidence.with("shims", "the container's own", Value::Processes(vec![shim]));
        }
        evidence
            .with("daemon_rss", "the reader's anonymous memory", Value::Bytes(rss))
            .with("container_memory", "the container's own memory", Value::Bytes(own))
            .with("via", "relayed by", Value::Processes(stream.via().cloned().collect()))
    }

    fn summary(&self) -> String {
        let stream = self.stream;
        let who = label(&stream.container);
        let rate = match self.bytes_per_s() {
            Some(rate) => format!(" ({}/s)", bytes(rate)),
            None => String::new(),
        };
        let size = |of: u64| bytes(of as f64);
        let open = format!(
            "{who} has written {} to {} without a newline{rate}",
            size(stream.open_line),
            stream.role.as_str()
        );
        let reader = stream.reader().map_or_else(|| "its reader".to_owned(), named);
        let held = stream.held.unwrap_or(0);
        let part = match held >= stream.open_line - stream.open_line / 10 {
            true => "it all".to_owned(),
            false => format!("{} of it", size(held)),
        };
        let growth = self.daemon_growth().map(|growth| bytes(growth as f64));
        match self.verdict {
            Verdict::Swells => {
                let growth = growth.unwrap_or_default();
                let shared = self
                    .shared()
                    .map(|share| format!(", {} of that by this stream", bytes(share as f64)))
                    .unwrap_or_default();
                format!("{open}; {reader} holds {part}: its memory grew {growth} meanwhile{shared}")
            }
            Verdict::Hoarded => match growth {
                Some(growth) => {
                    format!("{open}; {reader} holds {part}, though its memory grew by {growth} only")
                }
                None => format!("{open}; {reader} holds {part}; how its memory goes is not known"),
            },
            Verdict::Suspected => format!(
                "{open}; the memory of {reader} grew {} meanwhile; what it holds of the line is not known",
                growth.unwrap_or_default()
            ),
            Verdict::AtRest => format!("{open}; {reader} holds {part}, and it does not grow now"),
            Verdict::Unknown if stream.reader().is_none() => {
                format!("{open}; who reads it was not seen")
            }
            Verdict::Unknown => format!("{open}; what {reader} holds of it is not known"),
            Verdict::Harmless => {
                format!("{open}, which is harmless: {reader} writes on what it takes (holds {})", size(held))
            }
            Verdict::Ended(length) => format!(
                "{who} had written {} to {} without a newline and its reader held it; that is over",
                size(length),
                stream.role.as_str()
            ),
        }
    }

    fn advice(&self) -> Vec<String> {
        let reader = self.stream.reader().map_or_else(|| "the reader".to_owned(), named);
        let mut advice = Vec::new();
        if self.verdict.severity() > Severity::Info {
            advice.push(format!("Stop what writes it: when the stream ends, {reader} lets go of the line."));
            advice.extend(remedy::stop(&self.stream.container));
        }
        match self.verdict {
            Verdict::Harmless => advice.push(format!(
                "Nothing has to be done now. A reader that keeps lines of any length would hold all of this: leave \
                 {reader} the bound it has."
            )),
            Verdict::Unknown => {
                advice.push("See whether a probe is missing that tells what is read and held.".to_owned());
                advice.push("$ memtrace doctor".to_owned());
            }
            _ => {
                advice.push(format!(
                    "Bound the lines that {reader} keeps, then restart it, which frees what it holds. In containerd's \
                     CRI plugin the setting is `max_container_log_line_size = 16384`; 0 or less is no bound. What is \
                     set now:"
                ));
                advice.push("$ containerd config dump | grep max_container_log_line_size".to_owned());
            }
        }
        advice.extend(Account::doubt(self.account));
        advice.push(
            "In the application: end each record with a newline, and write large data to a file or a socket, not to \
             the log."
                .to_owned(),
        );
        advice
    }

    fn refuted_by(&self) -> String {
        let status = match self.stream.reader() {
            Some(reader) => format!("RssAnon in /proc/{}/status", reader.pid),
            None => "the reader's RssAnon in /proc/PID/status".to_owned(),
        };
        match self.verdict {
            Verdict::Swells | Verdict::Hoarded | Verdict::Suspected => format!(
                "A held_bytes that stays small while open_line_bytes grows: then the reader writes on what it takes. \
                 Or {status} that grows just as much while the container is stopped."
            ),
            Verdict::AtRest | Verdict::Unknown | Verdict::Harmless | Verdict::Ended(_) => {
                format!(
                    "A held_bytes and {status} that grow with open_line_bytes: then the reader hoards it."
                )
            }
        }
    }
}
