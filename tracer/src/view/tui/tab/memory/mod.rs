//! Rows: one line of titles, one line a row; `column` says which columns fit, `detail` is everything about one row.

pub mod column;
pub mod detail;

use std::sync::Arc;

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};

use crate::{
    aggregator::row::Row,
    finding::Open,
    snapshot::Snapshot,
    view::{
        composition::{self, Kind},
        label,
        select::Key,
        severity::{self, Level, Severity},
        text,
        tui::{
            state::State,
            tab::memory::column::{Cell, Column, Layout},
            theme::Theme,
            trend,
        },
        unit,
    },
};

/// Whether a row needs a person, with what the reader's session has seen of it.
pub fn severity(row: &Row, state: &State, snapshot: &Snapshot) -> Option<Severity> {
    let killed = state.history.killed(row.container.cgroup.id, snapshot.at);
    let own = severity::severity(row, snapshot.host.mem_total, killed);
    let found = about(row, snapshot).find_map(|open| {
        let level = severity::of_finding(open.severity)?;
        Some(Severity { level, why: open.summary.clone() })
    });
    // What has a cause is told before what has none.
    match (found, own) {
        (Some(found), Some(own)) if own.level > found.level => Some(own),
        (found, own) => found.or(own),
    }
}

/// Findings about a row, worst first.
fn about<'a>(row: &'a Row, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Open>> {
    let is_it =
        |open: &&Arc<Open>| open.container.as_ref().is_some_and(|c| c.cgroup.id == row.container.cgroup.id);
    snapshot.findings.iter().filter(is_it)
}

/// The titles and `height - 1` rows from the state's offset.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let layout = column::layout(width, state.order);
    let mut lines = vec![titles(state, theme, &layout)];
    let rows = state.rows.iter().enumerate().skip(state.rows.offset).take(height.saturating_sub(1));
    lines.extend(rows.map(|(index, row)| {
        let level = severity(row, state, snapshot).map(|severity| severity.level);
        line(row, level, index == state.rows.cursor, theme, &layout)
    }));
    if state.rows.is_empty() {
        let why = if snapshot.rows.is_empty() { "no rows yet" } else { "no row passes the filter" };
        lines.push(Line::styled(format!("    {why}"), theme.dim()));
    }
    lines
}

fn titles(state: &State, theme: &Theme, layout: &Layout) -> Line<'static> {
    let arrow = theme.arrow(column::is_falling(state.order));
    let titled = |title: &str, sorts: bool| if sorts { format!("{title}{arrow}") } else { title.to_owned() };
    let style = theme.title();
    let styled = |text: String, sorts: bool| {
        Span::styled(text, if sorts { style.add_modifier(Modifier::UNDERLINED) } else { style })
    };
    let sorts = state.order.key == Key::Name;
    let name = text::left(&titled("NAME", sorts), layout.name, theme.charset);
    let mut spans = vec![Span::raw(" ".repeat(column::MARK)), styled(name, sorts)];
    for column in &layout.columns {
        let sorts = matches!((column.cell, state.order.key), (Cell::Metric(a), Key::Metric(b)) if a == b);
        spans.push(Span::raw(" "));
        spans.push(styled(aligned(&titled(column.title(), sorts), column, theme), sorts));
    }
    Line::from(spans)
}

fn aligned(text: &str, column: &Column, theme: &Theme) -> String {
    if column.is_text() {
        text::left(text, column.width, theme.charset)
    } else {
        text::right(text, column.width, theme.charset)
    }
}

fn line(row: &Row, level: Option<Level>, chosen: bool, theme: &Theme, layout: &Layout) -> Line<'static> {
    let mark = match level {
        Some(level) => level.mark(),
        None if row.removed.is_some() => "x",
        None => "",
    };
    let sign = if chosen { ">" } else { " " };
    let mut name = label::label(&row.container);
    if text::width(&text::clean(&name, theme.charset)) > layout.name {
        name = label::short(&row.container);
    }
    let name = text::left(&name, layout.name, theme.charset);
    let mut spans = vec![Span::styled(format!("{sign}{mark:<2} {name}"), theme.level(level))];
    for column in &layout.columns {
        let cell = aligned(&cell(row, column, theme), column, theme);
        let tells = matches!(column.cell, Cell::Metric(metric) if ["growth", "seconds_to_limit"].contains(&metric.name));
        spans.push(Span::raw(" "));
        spans.push(if tells { Span::styled(cell, theme.level(level)) } else { Span::raw(cell) });
    }
    let line = Line::from(spans);
    match (chosen, row.removed.is_some()) {
        (true, _) => line.patch_style(theme.chosen()),
        (false, true) => line.patch_style(theme.dim()),
        (false, false) => line,
    }
}

fn cell(row: &Row, column: &Column, theme: &Theme) -> String {
    match column.cell {
        Cell::Metric(metric) => unit::format_marked(metric.unit, metric.of(row), metric.how(row)),
        Cell::Of => composition::mostly(&row.growth_ewma_per_s).map_or("-", Kind::as_str).to_owned(),
        Cell::Trend => trend::line(&row.trend, column.width, theme.charset),
        Cell::Runtime => row.container.runtime.as_str().to_owned(),
    }
}
