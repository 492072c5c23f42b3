//! How long the tasks of each container slept uninterruptibly, sleeps that ended: the longest in all first.

use ratatui::text::Line;

use super::name;
use crate::{
    aggregator::stuck::{BlockedTime, StuckReport},
    metric::Unit,
    snapshot::Snapshot,
    view::{
        label, text,
        tui::{page::Page, state::State, tab::memory::column::MARK},
        unit,
    },
};

const COLUMNS: [&str; 6] = ["SLEEPS", "TOTAL", "FOR I/O", "P50", "P99", "MAX"];
/// Of each, with the blank before it.
const WIDTH: usize = 8;
/// Columns of names.
const LEAST: usize = 12;
const MOST: usize = 60;

/// A line that says what they are, the titles, and those that pass the filters.
pub fn lines(state: &State, snapshot: &Snapshot, report: &StuckReport, page: Page<'_>) -> Vec<Line<'static>> {
    let (charset, dim) = (page.theme.charset, page.theme.dim());
    let told = |words: &str| {
        let lines = text::wrap(words, page.width.saturating_sub(MARK), charset).into_iter();
        lines.map(|line| Line::styled(format!("{:MARK$}{line}", ""), dim)).collect::<Vec<_>>()
    };
    if !report.served {
        let why: Vec<&str> = snapshot
            .probes
            .iter()
            .map(String::as_str)
            .filter(|probe| probe.starts_with("blocked:"))
            .collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
        return told(&format!("how long containers sleep in D is not counted{why}"));
    }
    let times: Vec<&BlockedTime> =
        report.blocked_time.iter().filter(|time| state.passes(&time.container)).collect();
    if times.is_empty() {
        return told(match report.blocked_time.is_empty() {
            true => "no sleep in D has ended since attach",
            false => "no container with a sleep in D that ended since attach passes the filter",
        });
    }
    let room = page.width.saturating_sub(MARK + COLUMNS.len() * WIDTH).clamp(LEAST, MOST);
    let widest = times.iter().map(|time| text::width(&text::clean(&label::label(&time.container), charset)));
    let columns = widest.max().unwrap_or(0).max(LEAST).min(room);
    let titles: String = COLUMNS.iter().map(|title| format!("{title:>WIDTH$}")).collect();
    let titles = format!("{:MARK$}{}{titles}", "", text::left("CONTAINER", columns, charset));
    let mut lines = told("sleeps in D that ended since attach, the longest in all first");
    lines.push(Line::styled(titles, page.theme.title()));
    lines.extend(times.into_iter().map(|time| {
        let cells: String = cells(time).iter().map(|cell| format!("{cell:>WIDTH$}")).collect();
        Line::from(format!("{:MARK$}{}{cells}", "", name(&time.container, columns, charset)))
    }));
    lines
}

fn cells(time: &BlockedTime) -> [String; COLUMNS.len()] {
    let of = |value: Option<f64>| unit::format(Unit::Time, value);
    [
        unit::format(Unit::Count, Some(time.count as f64)),
        of(Some(time.total_s)),
        of(Some(time.io_total_s)),
        of(time.p50_s),
        of(time.p99_s),
        of(Some(time.max_s)),
    ]
}
