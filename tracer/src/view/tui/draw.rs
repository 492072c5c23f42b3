//! One screen from a state and a snapshot, pure. A terminal too small for it is told so instead.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
    widgets::{Paragraph, Wrap},
};

use crate::{
    snapshot::Snapshot,
    view::{
        text,
        tui::{
            header, help,
            page::Page,
            state::{Pane, Room, State},
            tab::{Tab, calls, findings, logs, memory, stuck},
            theme::Theme,
        },
        unit,
    },
};

const LEAST: (u16, u16) = (40, 10);
/// Below this the header keeps to the lines nobody can do without.
const LOW: u16 = 16;
/// A kernel that takes its time over programs deserves a word.
const SLOW: Duration = Duration::from_secs(5);

/// A screen's parts before the table's rows are chosen: what they have room for is the state's to know.
pub struct Screen {
    area: Rect,
    header: Vec<Line<'static>>,
    body: Rect,
    /// The open pane's lines; the table's depend on the offset.
    pane: Option<Vec<Line<'static>>>,
}

impl Screen {
    pub fn new(area: Rect, state: &State, snapshot: &Snapshot, theme: &Theme) -> Screen {
        let width = usize::from(area.width);
        // An open pane needs the room more than the host's numbers do.
        let low = area.height < LOW || state.pane != Pane::Table;
        let header = header::lines(state, snapshot, theme, width, low);
        let [_, body, _] = parts(area, header.len());
        let pane = match state.pane {
            Pane::Table => None,
            Pane::Help => Some(help::lines(theme, width)),
            Pane::Detail => match state.tab {
                Tab::Memory | Tab::Calls => memory_detail(state, snapshot, Page { theme, width }),
                Tab::Logs => logs_detail(state, snapshot, Page { theme, width }),
                Tab::Stuck => stuck_detail(state, snapshot, Page { theme, width }),
                Tab::Findings => findings::detail(state, snapshot, Page { theme, width }),
            },
        };
        Screen { area, header, body, pane }
    }

    pub fn room(&self) -> Room {
        let height = usize::from(self.body.height);
        match &self.pane {
            None => Room { page: height.saturating_sub(1), lines: 0 },
            Some(lines) => Room { page: height, lines: lines.len() },
        }
    }
}

fn memory_detail(state: &State, snapshot: &Snapshot, page: Page<'_>) -> Option<Vec<Line<'static>>> {
    let row = state.detail.as_ref()?;
    let severity = memory::severity(row, state, snapshot);
    let (gone, severity) = (state.detail_is_gone(), severity.as_ref());
    let subject = memory::detail::Subject { row, gone, severity, snapshot, trails: state.trails(), page };
    Some(memory::detail::lines(&subject))
}

fn logs_detail(state: &State, snapshot: &Snapshot, page: Page<'_>) -> Option<Vec<Line<'static>>> {
    let stream = state.stream.as_ref()?;
    let gone = state.detail_is_gone();
    Some(logs::detail::lines(&logs::detail::Subject { stream, gone, snapshot, page }))
}

fn stuck_detail(state: &State, snapshot: &Snapshot, page: Page<'_>) -> Option<Vec<Line<'static>>> {
    let task = state.task.as_ref()?;
    let gone = state.detail_is_gone();
    Some(stuck::detail::lines(&stuck::detail::Subject { task, gone, snapshot, page }))
}

/// Header, body, footer: the footer keeps its line, then the header its own.
fn parts(area: Rect, header: usize) -> [Rect; 3] {
    let footer = area.height.min(1);
    let header = (header as u16).min(area.height - footer);
    let line = |y, height| Rect { y: area.y + y, height, ..area };
    let body = area.height - footer - header;
    [line(0, header), line(header, body), line(header + body, footer)]
}

/// `screen` as it was prepared; a terminal that became another size meanwhile has it prepared again.
pub fn screen(frame: &mut Frame<'_>, mut screen: Screen, state: &State, snapshot: &Snapshot, theme: &Theme) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        too_small(frame, area);
        return;
    }
    if screen.area != area {
        screen = Screen::new(area, state, snapshot, theme);
    }
    let footer = footer(state, screen.room(), theme, area.width.into());
    let [header, body, foot] = parts(area, screen.header.len());
    frame.render_widget(Text::from(screen.header), header);
    let lines = match screen.pane {
        Some(lines) => lines.into_iter().skip(state.scroll).take(body.height.into()).collect(),
        None => {
            let lines = match state.tab {
                Tab::Memory => memory::lines,
                Tab::Logs => logs::lines,
                Tab::Calls => calls::lines,
                Tab::Stuck => stuck::lines,
                Tab::Findings => findings::lines,
            };
            lines(state, snapshot, theme, body.width.into(), body.height.into())
        }
    };
    frame.render_widget(Text::from(lines), body);
    frame.render_widget(footer, foot);
}

fn footer(state: &State, room: Room, theme: &Theme, width: usize) -> Line<'static> {
    if state.is_typing() {
        let text = text::fit(state.typed.pattern(), width.saturating_sub(34).max(4), theme.charset);
        return Line::from(vec![
            Span::styled(format!("filter: {text}_"), theme.flag()),
            Span::raw("  Enter keeps, Esc drops"),
        ]);
    }
    let keys = match (state.pane, state.tab) {
        (Pane::Table, Tab::Calls) => {
            String::from("q quit  h help  Tab stuck  <> sort  j k container  PgUp PgDn calls")
        }
        (Pane::Table, Tab::Findings) => {
            String::from("q quit  h help  Tab memory  / filter  j k finding  Enter whole")
        }
        (Pane::Table, tab) => {
            format!("q quit  h help  Tab {}  / filter  <> sort  Enter detail", tab.next().title())
        }
        (Pane::Detail, Tab::Memory) => String::from("Esc back  j k PgUp PgDn scroll  w who charges  q quit"),
        (Pane::Detail | Pane::Help, _) => String::from("Esc back  j k PgUp PgDn scroll  q quit"),
    };
    let (cursor, entries) = match state.tab {
        Tab::Memory | Tab::Calls => (state.rows.cursor, state.rows.len()),
        Tab::Logs => (state.streams.cursor, state.streams.len()),
        Tab::Stuck => (state.tasks.cursor, state.tasks.len()),
        Tab::Findings => (state.findings.cursor, state.findings.len()),
    };
    let count = match state.pane {
        Pane::Table if entries > 0 => format!("  row {} of {entries}", cursor + 1),
        Pane::Table => String::new(),
        Pane::Detail | Pane::Help => scrolled(state.scroll, room, theme),
    };
    let left = width.saturating_sub(text::width(&count));
    // What else there is, where there is room.
    let all = format!("{keys}  r reverse  p pause");
    let roomy = state.pane == Pane::Table && text::width(&all) <= left;
    let keys = if roomy { all } else { keys };
    let more = state.pane != Pane::Table && state.scroll + room.page < room.lines;
    let keys = Span::styled(text::left(&keys, left, theme.charset), theme.dim());
    Line::from(vec![keys, Span::styled(count, if more { theme.title() } else { theme.dim() })])
}

/// Which lines of a pane are to be seen, and whether there are more below; nothing when all are.
fn scrolled(scroll: usize, room: Room, theme: &Theme) -> String {
    if room.lines <= room.page {
        return String::new();
    }
    let last = (scroll + room.page).min(room.lines);
    let more = if last < room.lines { format!(", more {}", theme.more()) } else { String::from(", end") };
    format!("  lines {}-{last} of {}{more}", scroll + 1, room.lines)
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let words = format!("memtrace needs {}x{}: this is {}x{}", LEAST.0, LEAST.1, area.width, area.height);
    frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
}

/// Before the first snapshot.
pub fn attaching(frame: &mut Frame<'_>, waited: Duration) {
    let mut words = format!("memtrace: attaching... {}  (q quits)", unit::seconds(waited.as_secs_f64()));
    if waited >= SLOW {
        words.push_str("\nThe kernel checks each program before it runs; a small machine takes a while.");
    }
    frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), frame.area());
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
