//! Tasks in uninterruptible sleep for too long: one line of titles, one line a task; `detail` is everything about one of them.

pub mod detail;

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};

use crate::{
    aggregator::stuck::{StuckReport, StuckTask},
    metric::Unit,
    resolve::label::label,
    snapshot::Snapshot,
    view::{
        severity::Level,
        stuck::{self, Sort},
        text,
        tui::{state::State, tab::memory::column::MARK, theme::Theme},
        unit,
    },
};

/// Columns of numbers.
const BLOCKED: usize = 9;
const KILLED: usize = 7;
/// The fewest columns that a name or a reason is worth.
const LEAST: usize = 12;

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

/// One that was killed and sleeps on needs a person most.
pub fn level(task: &StuckTask) -> Level {
    match task.sigkill_pending {
        Some(true) => Level::Critical,
        _ => Level::Warning,
    }
}

/// `cp[4711]`, or with its thread.
pub fn who(task: &StuckTask) -> String {
    match task.tid == task.pid {
        true => format!("{}[{}]", task.comm, task.pid),
        false => format!("{}[{}/{}]", task.comm, task.pid, task.tid),
    }
}

/// How wide the columns of words are.
struct Layout {
    name: usize,
    who: usize,
    why: usize,
}

impl Layout {
    fn new(width: usize) -> Layout {
        // Mark, the numbers, the state and a blank after each column.
        let room = width.saturating_sub(MARK + BLOCKED + KILLED + 2 + 5);
        let name = (room * 3 / 10).clamp(LEAST, 40);
        let who = (room / 4).clamp(LEAST, 26);
        Layout { name, who, why: room.saturating_sub(name + who) }
    }
}

/// The titles and `height - 1` tasks from the state's offset.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let told = |words: &str| {
        let lines = text::wrap(words, width.saturating_sub(MARK), theme.charset).into_iter();
        lines.map(|line| Line::styled(format!("{:MARK$}{line}", ""), theme.dim())).collect::<Vec<_>>()
    };
    let Some(report) = snapshot.stuck.as_deref() else {
        return told("tasks in uninterruptible sleep are not looked for here: `memtrace stuck` does");
    };
    let layout = Layout::new(width);
    let mut lines = vec![titles(state, theme, &layout)];
    let page = state.tasks.iter().enumerate().skip(state.tasks.offset).take(height.saturating_sub(1));
    lines.extend(page.map(|(place, task)| line(task, place == state.tasks.cursor, theme, &layout)));
    if let Some(task) = state.tasks.get(state.tasks.cursor) {
        lines.extend(story(task, theme, width, height.saturating_sub(lines.len())));
    }
    if state.tasks.is_empty() {
        let none = match report.tasks.is_empty() {
            true => format!(
                "no task has been blocked (in uninterruptible sleep, D) for longer than {}",
                unit::format(Unit::Seconds, Some(report.threshold_s))
            ),
            false => String::from("no task passes the filter"),
        };
        lines.extend(told(&none));
        if !report.served {
            lines.extend(told(&stuck::missing(snapshot)));
        }
        lines.extend(sleeps(report, theme, width, height.saturating_sub(lines.len())));
    }
    lines
}

/// What is known of the chosen task, below the tasks where all of them leave room for it.
fn story(task: &StuckTask, theme: &Theme, width: usize, height: usize) -> Vec<Line<'static>> {
    let wrapped = |line: String| text::wrap(&line, width.saturating_sub(MARK), theme.charset);
    let told = stuck::lines(task).into_iter().flat_map(wrapped);
    let lines: Vec<Line<'static>> =
        told.map(|line| Line::raw(format!("{:MARK$}{line}", ""))).take(height.saturating_sub(1)).collect();
    if lines.is_empty() { lines } else { [Line::raw("")].into_iter().chain(lines).collect() }
}

/// Whose tasks slept so longest since attach.
fn sleeps(report: &StuckReport, theme: &Theme, width: usize, height: usize) -> Vec<Line<'static>> {
    let times = report.blocked_time.iter().filter(|time| time.count > 0);
    let numbers = |all: [&str; 5]| all.map(|one| text::right(one, BLOCKED, theme.charset)).join(" ");
    let name = width.saturating_sub(MARK + 1 + 5 * (BLOCKED + 1)).max(LEAST);
    let titles = numbers(["SLEEPS", "TOTAL", "FOR I/O", "P99", "MAX"]);
    let titles = format!("{:MARK$}{} {titles}", "", text::left("SLEPT SINCE ATTACH", name, theme.charset));
    let of = |value: Option<f64>| unit::format(Unit::Time, value);
    let lines = times.map(|time| {
        let [total, io, p99, max] =
            [Some(time.total_s), Some(time.io_total_s), time.p99_s, Some(time.max_s)].map(of);
        let numbers = numbers([&time.count.to_string(), &total, &io, &p99, &max]);
        Line::raw(format!(
            "{:MARK$}{} {numbers}",
            "",
            text::left(&label(&time.container), name, theme.charset)
        ))
    });
    let lines: Vec<Line<'static>> = lines.take(height.saturating_sub(2)).collect();
    match lines.is_empty() {
        true => Vec::new(),
        false => [Line::raw(""), Line::styled(titles, theme.title())].into_iter().chain(lines).collect(),
    }
}

fn titles(state: &State, theme: &Theme, layout: &Layout) -> Line<'static> {
    let (order, charset) = (state.stuck_order, theme.charset);
    let arrow = theme.arrow(order.is_falling());
    let span = |title: &str, key: &str, width: usize, right: bool| {
        let sorts = key == order.key.word();
        let title = if sorts { format!("{title}{arrow}") } else { title.to_owned() };
        let fitted =
            if right { text::right(&title, width, charset) } else { text::left(&title, width, charset) };
        let style = theme.title();
        Span::styled(fitted, if sorts { style.add_modifier(Modifier::UNDERLINED) } else { style })
    };
    let blank = || Span::raw(" ");
    Line::from(vec![
        Span::raw(" ".repeat(MARK)),
        span("CONTAINER", "container", layout.name, false),
        blank(),
        span("TASK", "pid", layout.who, false),
        blank(),
        span("S", "", 1, false),
        blank(),
        span("BLOCKED", "blocked", BLOCKED, true),
        blank(),
        span("KILLED", "", KILLED, true),
        blank(),
        span("WAITS ON", "", layout.why, false),
    ])
}

fn line(task: &StuckTask, chosen: bool, theme: &Theme, layout: &Layout) -> Line<'static> {
    let (level, charset) = (Some(level(task)), theme.charset);
    let mark = level.map_or("", Level::mark);
    let sign = if chosen { ">" } else { " " };
    let blocked = unit::format_marked(Unit::Seconds, Some(task.blocked_s), task.blocked_s_how);
    let waits_on = task.waits_on.as_deref().or(task.wchan.as_deref()).unwrap_or("-");
    let name = text::left(&label(&task.container), layout.name, charset);
    let line = Line::from(vec![
        Span::styled(format!("{sign}{mark:<2} {name}"), theme.level(level)),
        Span::raw(format!(
            " {} {} {} {} {}",
            text::left(&who(task), layout.who, charset),
            text::left(&task.state.to_string(), 1, charset),
            text::right(&blocked, BLOCKED, charset),
            text::right(&stuck::killed(task), KILLED, charset),
            text::left(waits_on, layout.why, charset),
        )),
    ]);
    if chosen { line.patch_style(theme.chosen()) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_it_begins_with_is_one_of_the_words() {
        assert!(stuck::SORTS.contains(&Order::default().key.word()));
        assert!(Order::default().is_falling());
        assert!(!Order { key: Sort::Container, reverse: false }.is_falling());
    }
}
