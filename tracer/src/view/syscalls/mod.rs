//! System calls of containers: which are shown and in what order, their table, and the same as JSON.

pub mod json;
pub mod table;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, sync::Arc};

use crate::{
    aggregator::call::{Call, CallReport, RowCalls},
    metric::{self, Metric, Unit},
    snapshot::Snapshot,
    view::{
        label,
        select::{Filter, known_first},
        text::{self, Charset},
    },
};

/// What calls are sorted by; greatest first, names least first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    Name,
    Metric(&'static Metric<Call>),
}

impl Key {
    /// The key of a word of `--sort`.
    pub fn find(word: &str) -> Option<Key> {
        if word == metric::NAME { Some(Key::Name) } else { metric::call::find(word).map(Key::Metric) }
    }

    pub fn word(self) -> &'static str {
        match self {
            Key::Name => metric::NAME,
            Key::Metric(metric) => metric.name,
        }
    }

    fn order(self, a: &Call, b: &Call) -> Ordering {
        match self {
            Key::Name => a.name.cmp(&b.name),
            Key::Metric(metric) => known_first(metric.of(a), metric.of(b), true),
        }
    }
}

/// A row with its calls in order.
pub struct Shown<'a> {
    pub row: &'a RowCalls,
    pub calls: Vec<&'a Call>,
}

/// What a row's calls come to: what adds up is a sum, of the rest it is the greatest.
pub fn whole(row: &RowCalls, metric: &Metric<Call>) -> Option<f64> {
    let values = || row.calls.iter().map(|call| metric.of(call));
    match metric.name {
        "p50" | "p99" => None,
        "max" => values().flatten().max_by(f64::total_cmp),
        _ if metric.unit == Unit::Share => None,
        _ => values().sum(),
    }
}

/// A row's calls in order.
pub fn sorted(row: &RowCalls, key: Key) -> Vec<&Call> {
    let mut calls: Vec<&Call> = row.calls.iter().collect();
    // Calls that are alike stay in the order of their time.
    calls.sort_by(|a, b| key.order(a, b));
    calls
}

/// The rows that pass, sorted, at most `limit`.
pub fn select<'a>(report: &'a CallReport, filter: &Filter, key: Key, limit: Option<usize>) -> Vec<Shown<'a>> {
    let mut rows: Vec<&Arc<RowCalls>> =
        report.rows.iter().filter(|row| filter.matches(&row.container)).collect();
    match key {
        Key::Name => rows.sort_by_cached_key(|row| label::label(&row.container)),
        Key::Metric(metric) => {
            let of = |row: &RowCalls| {
                let greatest = || row.calls.iter().filter_map(|call| metric.of(call)).max_by(f64::total_cmp);
                whole(row, metric).or_else(greatest)
            };
            rows.sort_by(|a, b| known_first(of(a), of(b), true));
        }
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows.into_iter().map(|row| Shown { row, calls: sorted(row, key) }).collect()
}

/// Why no system call is counted, in the words of the probe.
pub fn missing(snapshot: &Snapshot) -> Option<String> {
    let report = snapshot.calls.as_deref()?;
    (!report.running).then(|| text::clean(&report.how, Charset::Unicode).into_owned())
}

/// `ENOENT 12, EAGAIN 3`: why calls failed, most frequent first.
pub fn errors(call: &Call) -> String {
    call.by_errno.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
