//! Streams of log lines: one line of titles, one line a stream; `detail` is everything about one of them.

pub mod detail;

use std::sync::Arc;

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};

use crate::{
    aggregator::stream::{Logs, Stream},
    snapshot::Snapshot,
    view::{
        lines,
        lines::{
            column::{self, Cell, Column, Kit, Layout, READER, ROLE, TREND, Wanted},
            select::Key,
        },
        severity::{self, Level},
        text,
        tui::{state::State, tab::memory::column::MARK, theme::Theme, trend},
    },
};

/// In the order shown; of those that do not fit the one with the greatest rank goes first.
const KIT: Kit = &[
    (ROLE, 1),
    ("bytes", 2),
    ("open_line", 0),
    ("open_growth", 9),
    (TREND, 6),
    ("lines", 8),
    ("max", 7),
    ("held", 5),
    (READER, 3),
];

/// What the sort keys go through.
pub const SORTED: &[&str] = &[
    "urgent",
    "bytes",
    "open_line",
    "open_growth",
    "lines",
    "max",
    "held",
    "total_bytes",
    "unscanned",
    "name",
];

/// Beyond so many streams only those on the screen are measured for the columns.
const MEASURED: usize = 256;

/// Every column there is.
pub fn columns() -> impl Iterator<Item = Column> {
    KIT.iter().filter_map(|(word, rank)| Column::find(word, *rank))
}

/// The titles and `height - 1` streams from the state's offset.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let Some(logs) = snapshot.logs.as_deref() else {
        let why = text::wrap(&lines::missing(snapshot), width.saturating_sub(MARK), theme.charset);
        let more = [String::from("`memtrace doctor` tells what the kernel lacks")];
        let told = [String::new()].into_iter().chain(why).chain(more);
        return told.map(|line| Line::styled(format!("{:MARK$}{line}", ""), theme.dim())).collect();
    };
    let page: Vec<&Arc<Stream>> =
        state.streams.iter().skip(state.streams.offset).take(height.saturating_sub(1)).collect();
    let measured = match state.streams.len() {
        0..=MEASURED => state.streams.iter().collect(),
        _ => page.clone(),
    };
    let wanted = Wanted {
        kit: KIT,
        streams: &measured,
        order: state.stream_order,
        width: Some(width.saturating_sub(MARK)),
        beside_title: 1,
        charset: theme.charset,
    };
    let layout = wanted.layout();
    let mut lines = vec![titles(state, theme, &layout)];
    lines.extend(page.iter().enumerate().map(|(place, stream)| {
        let chosen = state.streams.offset + place == state.streams.cursor;
        line(stream, logs, chosen, theme, &layout)
    }));
    if state.streams.is_empty() {
        let none = logs.streams.is_empty();
        let why =
            if none { "no container has written a log line yet" } else { "no stream passes the filter" };
        lines.push(Line::styled(format!("{:MARK$}{why}", ""), theme.dim()));
    }
    lines
}

fn titles(state: &State, theme: &Theme, layout: &Layout) -> Line<'static> {
    let order = state.stream_order;
    let arrow = theme.arrow(order.is_falling());
    let style = theme.title();
    let titled = |title: &str, sorts: bool| if sorts { format!("{title}{arrow}") } else { title.to_owned() };
    let styled = |text: String, sorts: bool| {
        Span::styled(text, if sorts { style.add_modifier(Modifier::UNDERLINED) } else { style })
    };
    let sorts = order.key == Key::Name;
    let name = text::left(&titled("CONTAINER", sorts), layout.name, theme.charset);
    let mut spans = vec![Span::raw(" ".repeat(MARK)), styled(name, sorts)];
    for column in &layout.columns {
        let sorts = column.is_sorted_by(order);
        let title = titled(column.title(layout.short), sorts);
        spans.push(Span::raw(" "));
        spans.push(styled(column::aligned(&title, column, theme.charset), sorts));
    }
    Line::from(spans)
}

/// Whether a stream needs a person.
fn level(stream: &Stream, logs: &Logs) -> Option<Level> {
    severity::stream(stream, lines::reader(logs, stream)).map(|severity| severity.level)
}

fn line(stream: &Stream, logs: &Logs, chosen: bool, theme: &Theme, layout: &Layout) -> Line<'static> {
    let level = level(stream, logs);
    let mark = level.map_or("", Level::mark);
    let sign = if chosen { ">" } else { " " };
    let name = column::name(stream, layout.name, theme.charset);
    let mut spans = vec![Span::styled(format!("{sign}{mark:<2} {name}"), theme.level(level))];
    for column in &layout.columns {
        let cell = match column.cell {
            Cell::Trend => trend::line(&stream.trend, column.width, theme.charset),
            _ => column::cell(stream, column, layout.short, theme.charset),
        };
        let cell = column::aligned(&cell, column, theme.charset);
        let tells = matches!(column.cell, Cell::Metric(metric) if metric.name == "open_line");
        spans.push(Span::raw(" "));
        spans.push(if tells { Span::styled(cell, theme.level(level)) } else { Span::raw(cell) });
    }
    let line = Line::from(spans);
    if chosen { line.patch_style(theme.chosen()) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn every_word_is_a_column_and_every_number_sorts() {
        assert_eq!(columns().count(), KIT.len());
        let words: Vec<&str> = metric::stream::sort_words().collect();
        for word in SORTED {
            assert!(words.contains(word), "{word}");
        }
        for (word, _) in KIT.iter().filter(|(word, _)| metric::stream::find(word).is_some()) {
            assert!(SORTED.contains(word), "{word}");
        }
    }
}
