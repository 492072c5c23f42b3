//! Plain rows of dirty pages: each interval is a line on the whole, a line of titles, and for each row a line with its
//! numbers, then its processes and files that matter.

use std::sync::Arc;

use crate::{
    aggregator::{
        dirty::row::{DirtyRow, File, Writer},
        row::How,
    },
    metric::{Metric, Unit, dirty::find},
    snapshot::Snapshot,
    view::{
        host, label,
        text::{self, Charset},
        unit,
    },
};

/// What stands in a line, in order; the name comes last.
const COLUMNS: &[&str] =
    &["dirtied_rate", "written_rate", "dirty", "writeback", "dirtied", "written", "throttled"];
/// Processes and files of a row, each.
const PARTS: usize = 3;

/// What is shown, and how.
pub struct Shown<'a> {
    pub snapshot: &'a Snapshot,
    pub rows: &'a [&'a Arc<DirtyRow>],
    /// Columns of the terminal; a pipe has none.
    pub width: Option<usize>,
    pub charset: Charset,
}

fn columns() -> Vec<&'static Metric<DirtyRow>> {
    COLUMNS.iter().filter_map(|name| find(name)).collect()
}

/// A terminal with fewer columns than this has short numbers.
const ENOUGH: usize = 120;

/// A column's title, and how wide it is: enough for every number of its unit, with the longest mark.
fn title(metric: &Metric<DirtyRow>, short: bool) -> (&'static str, usize) {
    let mark = if metric.marked { ">=".len() } else { 0 };
    if !short {
        return (metric.title, (unit::columns(metric.unit) + mark).max(metric.title.len()));
    }
    let title = match metric.name {
        "dirtied_rate" => "B/s IN",
        "written_rate" => "B/s OUT",
        "writeback" => "WB",
        "throttled" => "SLEPT",
        _ => metric.title,
    };
    let least = if is_size(metric) { unit::SHORT } else { unit::columns(metric.unit) };
    (title, (least + mark).max(title.len()))
}

fn is_size(metric: &Metric<DirtyRow>) -> bool {
    matches!(metric.unit, Unit::Bytes | Unit::Traffic)
}

fn cell(row: &DirtyRow, metric: &Metric<DirtyRow>, short: bool) -> String {
    match short && is_size(metric) {
        true => unit::short_marked(metric.of(row), metric.how(row)),
        false => unit::format_marked(metric.unit, metric.of(row), metric.how(row)),
    }
}

/// One interval, without the empty line after it.
pub fn table(shown: &Shown<'_>) -> String {
    let columns = columns();
    let short = shown.width.is_some_and(|width| width < ENOUGH);
    let mut out = String::new();
    for line in text::wrap(&head(shown), shown.width.unwrap_or(usize::MAX), shown.charset) {
        push(&mut out, shown, &line);
    }
    let line = |of: &dyn Fn(&Metric<DirtyRow>) -> String, name: &str| {
        let cells =
            columns.iter().map(|metric| text::right(&of(metric), title(metric, short).1, shown.charset));
        let numbers = cells.collect::<Vec<_>>().join(" ");
        let room = shown.width.map(|width| width.saturating_sub(text::width(&numbers) + 1));
        let name = room.map_or_else(|| name.to_owned(), |room| text::fit(name, room, shown.charset));
        format!("{numbers} {name}")
    };
    push(&mut out, shown, &line(&|metric| title(metric, short).0.to_owned(), "NAME"));
    for row in shown.rows {
        let gone = if row.removed { " (removed)" } else { "" };
        let name = format!("{}{gone}", text::clean(&label::label(&row.container), shown.charset));
        push(&mut out, shown, &line(&|metric| cell(row, metric, short), &name));
        for writer in row.processes.iter().take(PARTS) {
            push(&mut out, shown, &process(writer, row.dirtied_how, shown.charset));
        }
        for part in row.files.iter().take(PARTS) {
            push(&mut out, shown, &file(part, row.dirtied_how, shown.charset));
        }
    }
    out
}

fn push(out: &mut String, shown: &Shown<'_>, line: &str) {
    match shown.width {
        Some(width) => out.push_str(text::fit(line, width, shown.charset).trim_end()),
        None => out.push_str(line.trim_end()),
    }
    out.push('\n');
}

fn amount(dirtied: u64, before: Option<u64>, how: Option<How>) -> String {
    let bytes = |bytes: u64, how| unit::format_marked(Unit::Bytes, Some(bytes as f64), how);
    let before = before.map(|before| format!(" and {} before attach", bytes(before, Some(How::Inferred))));
    format!("{}{}", bytes(dirtied, how), before.unwrap_or_default())
}

fn process(writer: &Writer, how: Option<How>, charset: Charset) -> String {
    let comm = text::clean(&writer.process.comm, charset);
    format!("    by {comm}[{}]: {}", writer.process.pid, amount(writer.dirtied, writer.before_attach, how))
}

fn file(file: &File, how: Option<How>, charset: Charset) -> String {
    let name = match &file.path {
        Some(path) => text::clean(path, charset).into_owned(),
        None => {
            format!("inode {} of device {}:{}", file.node.ino, file.node.dev >> 20, file.node.dev & 0xf_ffff)
        }
    };
    let mut remarks = String::new();
    if file.backing {
        remarks.push_str(", behind a loop device");
    }
    if file.open_before && file.before_attach.is_none() && file.dirtied == 0 {
        remarks.push_str(", open for writing since before attach");
    }
    format!("    to {name}: {}{remarks}", amount(file.dirtied, file.before_attach, how))
}

/// When, where, how much in all, what was lost.
fn head(shown: &Shown<'_>) -> String {
    let Shown { snapshot, rows, .. } = shown;
    let all = &snapshot.dirty.rows;
    let sum = |of: fn(&DirtyRow) -> Option<f64>| {
        let known: Vec<f64> = all.iter().filter_map(|row| of(row)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    let mut words = format!(
        "{} {}: {} of {} rows, in all {} dirtied, {} written back, {} dirty, {} being written, lost {}",
        host::timestamp(snapshot.at),
        text::clean(&snapshot.hostname, shown.charset),
        rows.len(),
        all.len(),
        unit::format(Unit::Traffic, sum(|row| row.dirtied_per_s)),
        unit::format(Unit::Traffic, sum(|row| row.written_per_s)),
        unit::format(Unit::Bytes, sum(|row| row.dirty.map(|bytes| bytes as f64))),
        unit::format(Unit::Bytes, sum(|row| row.writeback.map(|bytes| bytes as f64))),
        snapshot.host.lost_events,
    );
    let losses = snapshot.host.losses.iter().filter(|loss| loss.count > 0);
    let lost: Vec<String> = losses.map(|loss| format!("{} {}", loss.count, loss.what)).collect();
    if !lost.is_empty() {
        words.push_str(&format!(" ({})", lost.join("; ")));
    }
    words
}
