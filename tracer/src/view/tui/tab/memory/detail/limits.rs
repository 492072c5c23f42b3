//! The limit that the row meets first: whose it is, who fills it, until when.

use std::sync::Arc;

use ratatui::text::{Line, Span};

use super::{HEAD, Subject};
use crate::{
    aggregator::row::Row,
    metric::Unit,
    view::{host, label, text, unit},
};

const GAUGE_LEAST: usize = 10;
const GAUGE_MOST: usize = 60;

/// What fills a limit.
#[derive(Debug, PartialEq)]
struct Fill {
    limit: u64,
    /// The row's own part, and what all rows below the limit hold.
    row: u64,
    all: u64,
}

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let memory = subject.memory();
    let Some(limit) = memory.effective_limit else {
        let why = match memory.current {
            Some(_) => "none: neither its own nor one of a cgroup around it",
            None => "not known",
        };
        return subject.say("limit", why);
    };
    let rows = &subject.snapshot.rows;
    let holder = holder(subject.row, limit, rows);
    let mut words = vec![host::size(Some(limit))];
    words.push(match (&holder, memory.limit) {
        (_, Some(own)) if own == limit => String::from("its own"),
        (Some(holder), own) => {
            let own = own.map_or_else(|| String::from("none"), |own| host::size(Some(own)));
            let around = text::fit(&label::label(&holder.container), 44, subject.theme.charset);
            format!("of {around} around it, own {own}")
        }
        (None, own) => {
            let own = own.map_or_else(|| String::from("none"), |own| host::size(Some(own)));
            format!("of a cgroup around it, own {own}")
        }
    });
    words.push(until_full(subject));
    let mut lines = subject.say("limit", &words.join(", "));
    if let Some(current) = memory.current {
        let path = holder.map_or(&*subject.row.container, |holder| &*holder.container).cgroup.path.clone();
        let all = rows.iter().filter(|row| is_below(&row.container.cgroup.path, &path));
        let all = all.filter_map(|row| row.memory.current).sum::<u64>().max(current);
        lines.extend(gauge(subject, &Fill { limit, row: current, all }));
    }
    lines
}

fn until_full(subject: &Subject<'_>) -> String {
    let row = subject.row;
    match (row.seconds_to_limit, row.growth_ewma_per_s.current) {
        (Some(seconds), Some(growth)) => {
            let seconds = unit::format_marked(Unit::Seconds, Some(seconds), row.seconds_to_limit_how);
            let from = unit::format(Unit::Seconds, row.seconds_to_limit_low);
            let to = row.seconds_to_limit_high.map_or_else(|| String::from("never"), unit::seconds);
            format!("reached in {seconds} ({from} to {to}), it grows {}", unit::rate(growth))
        }
        (None, Some(_)) => String::from("not growing towards it"),
        _ => String::from("growth not known"),
    }
}

/// The row that the limit is of: the row itself, else the nearest around it with that limit.
fn holder<'a>(row: &Row, limit: u64, rows: &'a [Arc<Row>]) -> Option<&'a Arc<Row>> {
    let path = &row.container.cgroup.path;
    rows.iter()
        .filter(|other| other.memory.limit == Some(limit) && is_below(path, &other.container.cgroup.path))
        .max_by_key(|other| other.container.cgroup.path.len())
}

/// Whether a cgroup is another one or in it.
fn is_below(path: &str, around: &str) -> bool {
    match path.strip_prefix(around) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || around.ends_with('/'),
        None => false,
    }
}

/// `####====......  64 % used: # this row 1.3 GiB, = other rows 200 MiB, . left 500 MiB`
fn gauge(subject: &Subject<'_>, fill: &Fill) -> Vec<Line<'static>> {
    let [own, others, free] = subject.theme.bar();
    let share = |bytes: u64| unit::share(bytes as f64 / fill.limit.max(1) as f64);
    let size = |bytes: u64| host::size(Some(bytes));
    let width = subject.room().saturating_sub(2).clamp(GAUGE_LEAST, GAUGE_MOST);
    let [row, rest] = fill.columns(width);
    let mut words = vec![
        format!("{} used", share(fill.all)),
        format!("{own} this row {}", size(fill.row)),
        format!("{free} left {}", size(fill.limit.saturating_sub(fill.all))),
    ];
    if fill.all > fill.row {
        words.insert(2, format!("{others} other rows {}", size(fill.all - fill.row)));
    }
    let style = subject.theme.level(subject.severity.map(|severity| severity.level));
    let mut lines = vec![Line::from(vec![
        Span::raw(" ".repeat(HEAD)),
        Span::styled(own.repeat(row), style),
        Span::raw(others.repeat(rest)),
        Span::styled(free.repeat(width - row - rest), subject.theme.dim()),
    ])];
    lines.extend(subject.beside("", text::flow(words, "  ", subject.room(), subject.theme.charset)));
    lines
}

impl Fill {
    /// Of a bar's columns: the row's own, and the other rows'.
    fn columns(&self, width: usize) -> [usize; 2] {
        let columns = |bytes: u64| {
            ((bytes as f64 / self.limit.max(1) as f64 * width as f64).round() as usize).min(width)
        };
        let row = columns(self.row);
        [row, columns(self.all).saturating_sub(row)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aggregator::row::Memory, resolve::Runtime, view::example};

    fn row(path: &str, limit: Option<u64>) -> Arc<Row> {
        let mut container = example::container(Runtime::Cgroup, None);
        container.cgroup.path = path.to_owned();
        Arc::new(Row { memory: Memory { limit, ..Memory::default() }, ..example::row(container) })
    }

    #[test]
    fn the_nearest_cgroup_with_the_limit_has_it() {
        let rows = [row("/", Some(9)), row("/a", Some(9)), row("/a/b", None), row("/ab", Some(9))];
        let of = |path, limit| {
            holder(&row(path, None), limit, &rows).map(|row| row.container.cgroup.path.as_str())
        };
        assert_eq!(of("/a/b", 9), Some("/a"));
        assert_eq!(of("/c", 9), Some("/"));
        assert_eq!(of("/ab/c", 9), Some("/ab"));
        assert_eq!(of("/a/b", 7), None, "a limit that changed meanwhile");
    }

    #[test]
    fn a_gauge_is_never_longer_than_it_is() {
        assert_eq!(Fill { limit: 100, row: 30, all: 50 }.columns(10), [3, 2]);
        assert_eq!(Fill { limit: 100, row: 300, all: 500 }.columns(10), [10, 0]);
        assert_eq!(Fill { limit: 0, row: 0, all: 0 }.columns(10), [0, 0]);
    }
}
