//! Tasks that have been blocked for too long: one line of titles, one line a task, and in the room below them the task
//! under the cursor and how long containers slept; `detail` is everything about one of them.

pub mod detail;
mod sleeps;

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};

use crate::{
    aggregator::stuck::StuckTask,
    metric::Unit,
    resolve::Container,
    snapshot::Snapshot,
    view::{
        label,
        severity::{self, Level},
        stuck::{self, Sort},
        text::{self, Charset},
        tui::{
            page::{Page, below, instead},
            state::State,
            tab::memory::column::MARK,
            theme::Theme,
        },
        unit,
    },
};

/// A screen with fewer columns than this spares some,
const WIDE: usize = 120;
/// and with fewer than this yet more.
const NARROW: usize = 56;
/// Columns of the longest cell, where there is room and where not.
const CELL: [usize; 2] = [15, 12];
/// Columns of a container's name.
const NAME: usize = 48;
const LEAST: usize = 10;

/// What tasks are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    pub key: Sort,
    pub reverse: bool,
}

impl Order {
    /// Greatest first.
    fn is_falling(self) -> bool {
        (self.key != Sort::Container) != self.reverse
    }
}

/// What stands between the container and what the task waits on.
pub struct Column {
    pub title: &'static str,
    pub help: &'static str,
    key: Option<Sort>,
    right: bool,
    /// The narrowest screen that has it.
    least: usize,
    cell: fn(&StuckTask) -> String,
}

pub const COLUMNS: &[Column] = &[
    Column {
        title: "PID",
        help: "the process",
        key: Some(Sort::Pid),
        right: true,
        least: WIDE,
        cell: |task| task.pid.to_string(),
    },
    Column {
        title: "TID",
        help: "the thread that is blocked",
        key: Some(Sort::Pid),
        right: true,
        least: 0,
        cell: |task| task.tid.to_string(),
    },
    Column {
        title: "COMM",
        help: "the name of the process",
        key: None,
        right: false,
        least: NARROW,
        cell: |task| task.comm.to_string(),
    },
    Column {
        title: "S",
        help: "state: D, uninterruptible; S, waits for a server that does not answer, until a fatal signal comes",
        key: None,
        right: false,
        least: 0,
        cell: |task| task.state.to_string(),
    },
    Column {
        title: "BLOCKED",
        help: "for how long; ~ slept before attach, since it last ran; >= since a look found it",
        key: Some(Sort::Blocked),
        right: true,
        least: 0,
        cell: |task| unit::format_marked(Unit::Seconds, Some(task.blocked_s), task.blocked_s_how),
    },
    Column {
        title: "KILL",
        help: "whether SIGKILL is pending",
        key: None,
        right: true,
        least: NARROW,
        cell: |task| task.sigkill_pending.map_or("-", |is| if is { "yes" } else { "no" }).to_owned(),
    },
    Column {
        title: "TRIES",
        help: "SIGKILLs sent since attach, where signals are counted: `memtrace stuck` does",
        key: None,
        right: true,
        least: WIDE,
        cell: |task| unit::format(Unit::Count, task.kill_attempts.map(|count| count as f64)),
    },
];

/// What the help says of the numbers below the tasks.
pub const SLEEPS: &str = "below the tasks, by container: sleeps in D that ended since attach, how many, how long in all, \
                          how long for devices, how long one was";

/// How wide all are.
struct Layout {
    name: usize,
    columns: Vec<(&'static Column, usize)>,
    why: usize,
}

impl Layout {
    /// As wide as what is in them; what is left tells what tasks wait on.
    fn new(state: &State, width: usize, charset: Charset) -> Layout {
        let widest = |title: &str, cell: &dyn Fn(&StuckTask) -> String| {
            let cells = state.tasks.iter().map(|task| text::width(&text::clean(&cell(task), charset)));
            cells.max().unwrap_or(0).max(text::width(title))
        };
        let most = CELL[usize::from(width < WIDE)];
        let columns: Vec<_> = COLUMNS
            .iter()
            .filter(|column| width >= column.least)
            .map(|column| {
                let title = column.title.len() + usize::from(column.key.is_some());
                (column, widest(column.title, &column.cell).min(most).max(title))
            })
            .collect();
        let taken: usize = columns.iter().map(|(_, width)| width + 1).sum();
        let room = width.saturating_sub(MARK + taken + 1);
        let most = (room * 9 / 20).clamp(LEAST, NAME);
        let name = widest("CONTAINER ", &|task| label::label(&task.container)).min(most);
        Layout { name, columns, why: room.saturating_sub(name) }
    }
}

/// The titles and `height - 1` tasks from the state's offset; what there is room for below them.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let page = Page { theme, width };
    let Some(report) = snapshot.stuck.as_deref() else {
        return instead(&stuck::missing(snapshot), page);
    };
    let mut lines = Vec::new();
    if state.tasks.is_empty() {
        let none = match report.tasks.is_empty() {
            true => format!("no task is blocked for more than {} s", report.threshold_s),
            false => String::from("no task passes the filter"),
        };
        lines.extend(instead(&none, page));
    } else {
        let layout = Layout::new(state, width, theme.charset);
        lines.push(titles(state, theme, &layout));
        let shown = state.tasks.iter().enumerate().skip(state.tasks.offset).take(height.saturating_sub(1));
        lines.extend(shown.map(|(place, task)| line(task, place == state.tasks.cursor, theme, &layout)));
    }
    let story = state
        .tasks
        .get(state.tasks.cursor)
        .map(|task| detail::brief(&detail::Subject { task, gone: false, snapshot, page }));
    let sleeps = sleeps::lines(state, snapshot, report, page);
    for (part, rest) in [(story.unwrap_or_default(), "Enter tells the rest"), (sleeps, "and more")] {
        lines = below(lines, part, height, rest, theme);
    }
    lines
}

/// What a container is called in so many columns.
fn name(container: &Container, columns: usize, charset: Charset) -> String {
    let mut name = label::label(container);
    if text::width(&text::clean(&name, charset)) > columns {
        name = label::short(container);
    }
    text::left(&name, columns, charset)
}

fn aligned(text: &str, right: bool, width: usize, charset: Charset) -> String {
    if right { text::right(text, width, charset) } else { text::left(text, width, charset) }
}

fn titles(state: &State, theme: &Theme, layout: &Layout) -> Line<'static> {
    let (order, charset) = (state.stuck_order, theme.charset);
    let arrow = theme.arrow(order.is_falling());
    let titled = |title: &str, sorts: bool, right: bool, width: usize| {
        let title = if sorts { format!("{title}{arrow}") } else { title.to_owned() };
        let style = theme.title();
        let style = if sorts { style.add_modifier(Modifier::UNDERLINED) } else { style };
        Span::styled(aligned(&title, right, width, charset), style)
    };
    let mut spans = vec![
        Span::raw(" ".repeat(MARK)),
        titled("CONTAINER", order.key == Sort::Container, false, layout.name),
    ];
    let mut sorted = false;
    for (column, width) in &layout.columns {
        // The first of two that are sorted alike.
        let sorts = column.key == Some(order.key) && !sorted;
        sorted |= sorts;
        spans.push(Span::raw(" "));
        spans.push(titled(column.title, sorts, column.right, *width));
    }
    spans.push(Span::raw(" "));
    spans.push(titled("WAITS ON", false, false, layout.why));
    Line::from(spans)
}

fn line(task: &StuckTask, chosen: bool, theme: &Theme, layout: &Layout) -> Line<'static> {
    let (level, charset) = (severity::task(task).map(|severity| severity.level), theme.charset);
    let sign = if chosen { ">" } else { " " };
    let mark = level.map_or("", Level::mark);
    let name = name(&task.container, layout.name, charset);
    let mut rest = String::new();
    for (column, width) in &layout.columns {
        rest.push(' ');
        rest.push_str(&aligned(&(column.cell)(task), column.right, *width, charset));
    }
    rest.push(' ');
    rest.push_str(&text::head(task.waits_on.as_deref().unwrap_or("-"), layout.why, charset));
    let line = Line::from(vec![
        Span::styled(format!("{sign}{mark:<2} {name}"), theme.level(level)),
        Span::raw(rest),
    ]);
    if chosen { line.patch_style(theme.chosen()) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_has_its_column() {
        let begins = Order::default();
        assert!(begins.key == Sort::Blocked && begins.is_falling());
        assert!(!Order { key: Sort::Container, reverse: false }.is_falling());
        for key in stuck::SORTS.map(Sort::find) {
            let has = COLUMNS.iter().any(|column| column.key == Some(key));
            assert!(has || key == Sort::Container, "{key:?}");
        }
    }
}
