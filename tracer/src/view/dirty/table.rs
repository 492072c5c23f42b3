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

/// Wide enough for every number of the unit, its mark and the title.
fn columns_of(metric: &Metric<DirtyRow>) -> usize {
    (unit::columns(metric.unit) + usize::from(metric.marked)).max(metric.title.len())
}

/// One interval, without the empty line after it.
pub fn table(shown: &Shown<'_>) -> String {
    let columns = columns();
    let mut out = String::new();
    for line in text::wrap(&head(shown), shown.width.unwrap_or(usize::MAX), shown.charset) {
        push(&mut out, shown, &line);
    }
    let titles: Vec<String> = columns
        .iter()
        .map(|metric| text::right(metric.title, columns_of(metric), shown.charset))
        .chain(["NAME".to_owned()])
        .collect();
    push(&mut out, shown, &titles.join(" "));
    for row in shown.rows {
        let cell = |metric: &&Metric<DirtyRow>| {
            let text = unit::format_marked(metric.unit, metric.of(row), metric.how(row));
            text::right(&text, columns_of(metric), shown.charset)
        };
        let mut cells: Vec<String> = columns.iter().map(cell).collect();
        let gone = if row.removed { " (removed)" } else { "" };
        cells.push(format!("{}{gone}", text::clean(&label::label(&row.container), shown.charset)));
        push(&mut out, shown, &cells.join(" "));
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
