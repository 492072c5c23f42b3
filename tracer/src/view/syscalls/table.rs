//! Plain rows of system calls: each interval is a line on the whole, a line of titles, and for each container a line with
//! its sums, then its calls.

use super::{Key, Shown, errors, whole};
use crate::{
    aggregator::call::Call,
    metric::{Metric, call::find},
    snapshot::Snapshot,
    view::{
        host, label,
        text::{self, Charset},
        unit,
    },
};

/// What stands in a line, in order; the name comes last.
const COLUMNS: &[&str] = &["rate", "busy", "count", "errors", "time", "share", "p50", "p99", "max"];
/// Those that a narrow terminal does without.
const SPARED: &[&str] = &["rate", "share"];
/// A terminal with fewer columns than this is narrow.
const ENOUGH: usize = 100;

/// What is shown, and how.
pub struct Table<'a> {
    pub snapshot: &'a Snapshot,
    pub rows: &'a [Shown<'a>],
    pub key: Key,
    /// Calls of a container that are shown.
    pub calls: usize,
    /// Columns of the terminal; a pipe has none.
    pub width: Option<usize>,
    pub charset: Charset,
}

pub fn columns(narrow: bool) -> Vec<&'static Metric<Call>> {
    COLUMNS.iter().filter(|name| !(narrow && SPARED.contains(name))).filter_map(|name| find(name)).collect()
}

/// How wide a column is: enough for every number of its unit.
pub fn width(metric: &Metric<Call>) -> usize {
    unit::columns(metric.unit).max(metric.title.len())
}

/// One interval, without the empty line after it.
pub fn table(shown: &Table<'_>) -> String {
    let columns = columns(shown.width.is_some_and(|width| width < ENOUGH));
    let mut out = String::new();
    for line in text::wrap(&head(shown), shown.width.unwrap_or(usize::MAX), shown.charset) {
        push(&mut out, shown, &line);
    }
    let line = |of: &dyn Fn(&Metric<Call>) -> String, name: &str| {
        let cells = columns.iter().map(|metric| text::right(&of(metric), width(metric), shown.charset));
        let numbers = cells.collect::<Vec<_>>().join(" ");
        let room = shown.width.map(|width| width.saturating_sub(text::width(&numbers) + 1));
        let name = room.map_or_else(|| name.to_owned(), |room| text::fit(name, room, shown.charset));
        format!("{numbers} {name}")
    };
    push(&mut out, shown, &line(&|metric| metric.title.to_owned(), "NAME"));
    for Shown { row, calls } in shown.rows {
        let gone = if row.removed { " (removed)" } else { "" };
        let name = format!("{}{gone}", text::clean(&label::label(&row.container), shown.charset));
        push(&mut out, shown, &line(&|metric| unit::format(metric.unit, whole(row, metric)), &name));
        for call in calls.iter().take(shown.calls) {
            let name = match errors(call) {
                why if why.is_empty() => format!("  {}", call.name),
                why => format!("  {} ({why})", call.name),
            };
            push(&mut out, shown, &line(&|metric| unit::format(metric.unit, metric.of(call)), &name));
        }
        if let Some(more) = calls.len().checked_sub(shown.calls + 1) {
            push(&mut out, shown, &line(&|_| String::new(), &format!("  and {} more", more + 1)));
        }
    }
    out
}

fn push(out: &mut String, shown: &Table<'_>, line: &str) {
    match shown.width {
        Some(width) => out.push_str(text::fit(line, width, shown.charset).trim_end()),
        None => out.push_str(line.trim_end()),
    }
    out.push('\n');
}

/// When, where, of how many, what was lost.
fn head(shown: &Table<'_>) -> String {
    let Table { snapshot, rows, .. } = shown;
    let all = snapshot.calls.as_ref().map_or(0, |report| report.rows.len());
    let mut words = format!(
        "{} {}: {} of {all} containers that make system calls, by {}, lost {}",
        host::timestamp(snapshot.at),
        text::clean(&snapshot.hostname, shown.charset),
        rows.len(),
        shown.key.word(),
        snapshot.host.lost_events,
    );
    let losses = snapshot.host.losses.iter().filter(|loss| loss.count > 0);
    let lost: Vec<String> = losses.map(|loss| format!("{} {}", loss.count, loss.what)).collect();
    if !lost.is_empty() {
        words.push_str(&format!(" ({})", lost.join("; ")));
    }
    words
}
