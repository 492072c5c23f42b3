//! System calls of the container under the cursor: a line that says whose, one of titles, one a call. They are counted
//! while this is on the screen, and of this container only.

use ratatui::{
    style::Modifier,
    text::{Line, Span},
};

use crate::{
    aggregator::call::{Call, RowCalls},
    metric::Metric,
    snapshot::Snapshot,
    view::{
        label,
        syscalls::{self, Key, table},
        text,
        tui::{state::State, tab::memory::column::MARK, theme::Theme},
        unit,
    },
};

/// What the sort keys go through.
pub const SORTED: &[&str] = &["time", "busy", "rate", "count", "errors", "p50", "p99", "max", "name"];

/// A screen with fewer columns than this spares some.
const ENOUGH: usize = 100;
/// Lines above the calls: whose they are, their titles.
pub const HEAD: usize = 2;

/// What calls are ordered by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order {
    pub key: Key,
    pub reverse: bool,
}

impl Default for Order {
    fn default() -> Self {
        Order { key: Key::find(SORTED[0]).unwrap_or(Key::Name), reverse: false }
    }
}

/// Every column there is.
pub fn columns() -> Vec<&'static Metric<Call>> {
    table::columns(false)
}

/// The container whose calls are shown, and those; `None` before the first interval that counts them.
fn shown<'a>(state: &State, snapshot: &'a Snapshot) -> Option<&'a RowCalls> {
    let row = state.rows.get(state.rows.cursor)?;
    snapshot.calls.as_deref()?.of(row.container.cgroup.id).map(|calls| &**calls)
}

/// How many calls there are to scroll through.
pub fn count(state: &State, snapshot: &Snapshot) -> usize {
    shown(state, snapshot).map_or(0, |row| row.calls.len())
}

/// Whose they are, the titles, and `height` less these of the calls, from the state's place on.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let Some(row) = state.rows.get(state.rows.cursor) else {
        return vec![Line::styled(format!("{:MARK$}no row passes the filter", ""), theme.dim())];
    };
    let name = text::clean(&label::label(&row.container), theme.charset).into_owned();
    let Some(calls) = shown(state, snapshot) else {
        let why =
            syscalls::missing(snapshot).unwrap_or_else(|| String::from("attaching to every system call..."));
        let told = text::wrap(&why, width.saturating_sub(MARK), theme.charset).into_iter();
        let told = told.map(|line| Line::styled(format!("{:MARK$}{line}", ""), theme.dim()));
        return std::iter::once(whose(&name, "", theme, width)).chain(told).collect();
    };
    let columns = table::columns(width < ENOUGH);
    let sum = |name: &str| {
        let metric = columns.iter().find(|metric| metric.name == name);
        metric.map_or_else(String::new, |metric| unit::format(metric.unit, syscalls::whole(calls, metric)))
    };
    let about = format!(
        "  {} calls, {} failed, {} in them, for {}",
        sum("count"),
        sum("errors"),
        sum("time"),
        unit::seconds(calls.watched_s)
    );
    let mut lines = vec![whose(&name, &about, theme, width), titles(state, &columns, theme, width)];
    let mut sorted = syscalls::sorted(calls, state.call_order.key);
    if state.call_order.reverse {
        sorted.reverse();
    }
    let room = height.saturating_sub(HEAD);
    lines.extend(
        sorted.into_iter().skip(state.scroll).take(room).map(|call| line(call, &columns, theme, width)),
    );
    if calls.calls.is_empty() {
        let why = "no system call has returned since it is watched";
        lines.push(Line::styled(format!("{:MARK$}{why}", ""), theme.dim()));
    }
    lines
}

fn whose(name: &str, about: &str, theme: &Theme, width: usize) -> Line<'static> {
    let room = width.saturating_sub(text::width(about)).max(width / 3);
    let name = text::fit(name, room, theme.charset);
    let left = width.saturating_sub(text::width(&name));
    Line::from(vec![Span::styled(name, theme.chosen()), Span::raw(text::left(about, left, theme.charset))])
}

fn titles(state: &State, columns: &[&Metric<Call>], theme: &Theme, width: usize) -> Line<'static> {
    let order = state.call_order;
    let style = theme.title();
    let arrow = theme.arrow(!order.reverse);
    let titled = |title: &str, sorts: bool| match sorts {
        true => Span::styled(format!("{title}{arrow}"), style.add_modifier(Modifier::UNDERLINED)),
        false => Span::styled(title.to_owned(), style),
    };
    let mut spans = Vec::new();
    for metric in columns {
        let sorts = order.key == Key::Metric(find(metric));
        let span = titled(metric.title, sorts);
        // One column more than in plain rows, for the arrow.
        let blank = (table::width(metric) + 1).saturating_sub(span.width());
        spans.push(Span::raw(" ".repeat(blank)));
        spans.push(span);
    }
    let taken: usize = spans.iter().map(Span::width).sum();
    spans.push(Span::raw("  "));
    if width > taken + 2 {
        spans.push(titled("CALL", order.key == Key::Name));
    }
    Line::from(spans)
}

/// The same one for good: keys hold those of the registry.
fn find(metric: &Metric<Call>) -> &'static Metric<Call> {
    let all = crate::metric::call::CALLS;
    all.iter().find(|known| *known == metric).unwrap_or(&all[0])
}

fn line(call: &Call, columns: &[&Metric<Call>], theme: &Theme, width: usize) -> Line<'static> {
    let cell = |metric: &&Metric<Call>| {
        let text = unit::format(metric.unit, metric.of(call));
        text::right(&text, table::width(metric) + 1, theme.charset)
    };
    let numbers: String = columns.iter().map(cell).collect();
    let room = width.saturating_sub(text::width(&numbers) + 2);
    // The name is whole, where the errors are not.
    let why = syscalls::errors(call);
    let first = why.split(", ").next().unwrap_or_default();
    let named = [format!("{} ({why})", call.name), format!("{} ({first}, ...)", call.name)];
    let fitting = named.into_iter().find(|name| !why.is_empty() && text::width(name) <= room);
    let name = fitting.unwrap_or_else(|| call.name.to_string());
    Line::from(vec![Span::raw(numbers), Span::raw("  "), Span::raw(text::left(&name, room, theme.charset))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_sorts() {
        for word in SORTED {
            assert!(Key::find(word).is_some(), "{word}");
        }
        assert_eq!(Order::default().key.word(), SORTED[0]);
    }
}
