//! Log lines, ordinary ones, that fill the disk they are written to.
//!
//! A rate alone is no trouble: rotation may remove files as fast as they grow. So the rule asks whether the free space of
//! the reader's disk falls about as fast as its streams pass bytes on, and until when that lasts. Where the disk is not
//! known, nothing above `info` is said.

use std::{sync::Arc, time::Duration};

use super::{
    Finding, Kind, Look, Nature, Severity, as_daemon,
    evidence::{Evidence, Value},
    named,
    past::Past,
    remedy,
};
use crate::{
    aggregator::{
        row::How,
        stream::{Logs, Process, Reader, Stream},
    },
    quantity::{bytes, seconds},
    resolve::{Container, label::label},
};

/// A busy container writes a few MB/s; below this none is a flood.
const FLOOD: f64 = 8.0 * MIB;
/// So much is told even where nothing is known of the disk.
const TORRENT: f64 = 64.0 * MIB;
/// What is slower does not matter beside a flood.
const TRICKLE: f64 = MIB / 16.0;
const MIB: f64 = 1024.0 * 1024.0;
/// It must have lasted so long.
const SUSTAINED: Duration = Duration::from_secs(5);
const WARNING_SECONDS: f64 = 3600.0;
const CRITICAL_SECONDS: f64 = 600.0;

/// A stream that passes much on, and how much a second over the run.
struct Loud<'a> {
    stream: &'a Stream,
    rate: f64,
}

pub(super) fn check(look: &Look<'_>, logs: &Logs, past: &Past) -> Vec<Finding> {
    let loud: Vec<Loud<'_>> = logs.streams.iter().filter_map(|stream| loud(look.at, stream, past)).collect();
    if loud.is_empty() {
        return Vec::new();
    }
    logs.readers.iter().filter_map(|reader| flood(look, reader, past, &loud)).collect()
}

/// What a reader hoards does not reach the disk: only what it passes on counts. A burst that is over does not.
fn loud<'a>(at: Duration, stream: &'a Stream, past: &Past) -> Option<Loud<'a>> {
    let time = at.saturating_sub(past.since(stream)?);
    if time < SUSTAINED {
        return None;
    }
    let rate = stream.bytes.saturating_sub(stream.held.unwrap_or(0)) as f64 / time.as_secs_f64();
    (rate > TRICKLE && stream.bytes_per_s? > rate / 2.0).then_some(Loud { stream, rate })
}

/// How the disk of a reader goes.
struct Disk {
    free: u64,
    /// Over the run, signed.
    growth: i64,
    seconds_to_full: f64,
}

fn flood(look: &Look<'_>, reader: &Reader, past: &Past, loud: &[Loud<'_>]) -> Option<Finding> {
    let at = look.at;
    let of_reader = || loud.iter().filter(|loud| loud.stream.reader() == Some(&reader.process));
    let all: f64 = of_reader().map(|loud| loud.rate).sum();
    let of_row = |row: u64| of_reader().filter(move |loud| loud.stream.row == row);
    let rate = |row: u64| of_row(row).map(|loud| loud.rate).sum::<f64>();
    let most = of_reader().max_by(|a, b| rate(a.stream.row).total_cmp(&rate(b.stream.row)))?.stream;
    let own = rate(most.row);
    let disk = past
        .reader(reader)
        .and_then(|past| past.disk)
        .zip(reader.disk_free)
        .filter(|((since, _), _)| at.saturating_sub(*since) >= SUSTAINED)
        .map(|((since, first), free)| {
            let fall = first.saturating_sub(free) as f64 / at.saturating_sub(since).as_secs_f64();
            (fall, Disk { free, growth: free as i64 - first as i64, seconds_to_full: free as f64 / fall })
        });
    let severity = match &disk {
        Some((fall, disk)) => {
            let filled_by_logs = own >= FLOOD && all >= fall / 2.0 && *fall >= all / 2.0;
            match disk.seconds_to_full {
                seconds if filled_by_logs && seconds < CRITICAL_SECONDS => Severity::Critical,
                seconds if filled_by_logs && seconds < WARNING_SECONDS => Severity::Warning,
                _ => return None,
            }
        }
        None if own >= TORRENT => Severity::Info,
        None => return None,
    };
    let lines_per_s = of_row(most.row).filter_map(|loud| {
        let time = at.saturating_sub(past.since(loud.stream)?);
        Some(loud.stream.lines as f64 / time.as_secs_f64())
    });
    let case = Case {
        container: &most.container,
        reader,
        daemon: as_daemon(&reader.process, reader.row, &most.container, look.rows),
        own,
        all,
        lines_per_s: lines_per_s.sum(),
        disk: disk.map(|(_, disk)| disk),
    };
    Some(case.finding(severity))
}

struct Case<'a> {
    container: &'a Arc<Container>,
    reader: &'a Reader,
    daemon: Option<Process>,
    /// Bytes a second of the container, and of all that the reader serves.
    own: f64,
    all: f64,
    lines_per_s: f64,
    disk: Option<Disk>,
}

impl Case<'_> {
    fn finding(&self, severity: Severity) -> Finding {
        Finding {
            id: format!("{}:{}", Kind::LogFlood.as_str(), self.container.id),
            kind: Kind::LogFlood,
            severity,
            container: Some(Arc::clone(self.container)),
            daemon: self.daemon.clone(),
            summary: self.summary(),
            advice: self.advice(severity),
            refuted_by: "A disk_free that stops falling while bytes_per_s goes on: then rotation removes files as fast \
                         as they grow."
                .to_owned(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: self.own as u64,
            grown: None,
            nature: Nature::Plain,
        }
    }

    fn evidence(&self) -> Evidence {
        let disk = self.disk.as_ref();
        Evidence::default()
            .with("bytes_per_s", "logged, over the run", Value::Rate(Some(self.own)))
            .with("lines_per_s", "lines of it", Value::PerSecond(Some(self.lines_per_s)))
            .with("all_bytes_per_s", "logged through the same reader", Value::Rate(Some(self.all)))
            .with("disk_free", "left on the log files' disk", Value::Bytes(disk.map(|disk| disk.free)))
            .with("disk_free_growth", "growth of that", Value::Growth(disk.map(|disk| disk.growth)))
            .with_how(
                "seconds_to_full",
                "until nothing is left",
                Value::Seconds(disk.map(|disk| disk.seconds_to_full)),
                Some(How::Inferred),
            )
    }

    fn summary(&self) -> String {
        let who = label(self.container);
        let lines = self.lines_per_s.round();
        let head = format!("{who} logs {}/s in {lines} lines/s", bytes(self.own));
        let reader = named(&self.reader.process);
        match &self.disk {
            Some(disk) => format!(
                "{head}; the disk that {reader} writes it to has {} left and is full in {}",
                bytes(disk.free as f64),
                seconds(disk.seconds_to_full)
            ),
            None => format!("{head} through {reader}; what that does to the disk is not known"),
        }
    }

    fn advice(&self, severity: Severity) -> Vec<String> {
        let mut advice = Vec::new();
        if severity > Severity::Info {
            advice.push("Stop what writes it, if the disk would be full too soon.".to_owned());
            advice.extend(remedy::stop(self.container));
        }
        advice.push(
            "Bound the log files: `containerLogMaxSize` and `containerLogMaxFiles` of the kubelet; docker's \
             `--log-opt max-size=10m --log-opt max-file=3`."
                .to_owned(),
        );
        advice.push("In the application: a higher log level, or sampling of what repeats.".to_owned());
        advice
    }
}
