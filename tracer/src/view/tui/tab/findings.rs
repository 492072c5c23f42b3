//! What is wrong, worst first: one line of titles, one line a finding, and in the room below them the finding under the
//! cursor whole; the pane is that alone.

use ratatui::text::{Line, Span};

use crate::{
    finding::Open,
    metric::Unit,
    snapshot::Snapshot,
    view::{
        finding::{self, Part},
        severity::{self, Level},
        text,
        tui::{
            page::{Page, below, instead},
            state::State,
            tab::memory::column::MARK,
            theme::Theme,
        },
        unit,
    },
};

/// Columns of the longest kind.
const KIND: usize = 21;
const OPEN: usize = 6;
/// A screen with fewer columns needs them for the sentence, which begins with the container.
const WIDE: usize = 100;

/// The columns, as the help states them.
pub const COLUMNS: &[(&str, &str)] = &[
    ("KIND", "what kind of trouble; docs/findings.md explains each"),
    ("OPEN", "for how long; ? is not found any more, and closes unless it is found again"),
    ("FINDING", "which container does it, through what, with the number that matters most"),
];

/// The titles and `height - 1` findings from the state's offset; below them the chosen one, where there is room.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let page = Page { theme, width };
    if state.findings.is_empty() {
        let none = match snapshot.findings.is_empty() {
            true => "nothing is wrong that memtrace can see; `memtrace diagnose` says what it could not see",
            false => "no finding passes the filter",
        };
        return instead(none, page);
    }
    let kind = if width < WIDE { 0 } else { KIND + 1 };
    let mut lines = vec![titles(theme, kind)];
    let shown = state.findings.iter().enumerate().skip(state.findings.offset).take(height.saturating_sub(1));
    lines.extend(shown.map(|(place, open)| line(open, place == state.findings.cursor, theme, width, kind)));
    let Some(chosen) = state.findings.get(state.findings.cursor) else { return lines };
    below(lines, whole(chosen, snapshot, page), height, "Enter tells the rest", theme)
}

/// The finding that was opened.
pub fn detail(state: &State, snapshot: &Snapshot, page: Page<'_>) -> Option<Vec<Line<'static>>> {
    let open = state.finding.as_ref()?;
    let gone = state.detail_is_gone().then(|| Line::styled("CLOSED, as last seen", page.theme.flag()));
    Some(gone.into_iter().chain(whole(open, snapshot, page)).collect())
}

fn whole(open: &Open, snapshot: &Snapshot, page: Page<'_>) -> Vec<Line<'static>> {
    let Page { theme, width } = page;
    let level = severity::of_finding(open.severity);
    let lines = finding::lines(open, snapshot, width, theme.charset).into_iter();
    lines
        .map(|(part, line)| match part {
            Part::Sentence => Line::styled(line, theme.level(level)),
            Part::Title => Line::styled(line, theme.title()),
            Part::Body => Line::from(line),
        })
        .collect()
}

fn titles(theme: &Theme, kind: usize) -> Line<'static> {
    let kind = if kind == 0 { String::new() } else { text::left("KIND", kind, theme.charset) };
    let open = text::right("OPEN", OPEN, theme.charset);
    Line::styled(format!("{:MARK$}{kind}{open} FINDING", ""), theme.title())
}

fn line(open: &Open, chosen: bool, theme: &Theme, width: usize, kind: usize) -> Line<'static> {
    let level = severity::of_finding(open.severity);
    let sign = if chosen { ">" } else { " " };
    let mark = level.map_or("", Level::mark);
    let kind = text::left(open.kind.as_str(), kind, theme.charset);
    let unseen = if open.unseen_s.is_some() { "?" } else { "" };
    let time = format!("{}{unseen}", unit::format(Unit::Seconds, Some(open.open_s)));
    let head = format!("{sign}{mark:<2} {kind}{} ", text::right(&time, OPEN, theme.charset));
    let said = text::head(&open.summary, width.saturating_sub(text::width(&head)), theme.charset);
    let line = Line::from(vec![Span::styled(head, theme.level(level)), Span::raw(said)]);
    if chosen { line.patch_style(theme.chosen()) } else { line }
}
