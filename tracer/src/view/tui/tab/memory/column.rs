//! The table's columns, most important first, and how many of them a width has room for. The name takes what the
//! others leave.

use crate::{
    metric::{self, First, Metric},
    view::{
        select::{Key, Order},
        unit,
    },
};

/// The cursor's sign, the mark of severity, a blank.
pub const MARK: usize = 4;
/// What `namespace/pod/container` usually takes; the trend has better use for more.
const NAME_ENOUGH: usize = 44;
const TREND_LEAST: usize = 8;
const TREND_MOST: usize = 40;

const OF: &str = "of";
const TREND: &str = "trend";
const RUNTIME: &str = "runtime";

/// In the order shown; what does not fit is left out from the end.
const SHOWN: &[&str] = &[
    "current",
    "growth",
    OF,
    TREND,
    "seconds_to_limit",
    "anon",
    "file",
    "dirty",
    "limit_share",
    "oom_kills",
    "shmem",
    "kernel",
    "tasks",
    "open_line",
    "log_bytes",
    RUNTIME,
    "writeback",
    "slab",
    "sock",
    "swap",
    "stuck",
    "throttled",
    "limit",
    "charged",
    "uncharged",
    "log_lines",
];

/// What the sort keys go through, in the order shown.
pub const SORTED: &[&str] = &[
    "growth",
    "current",
    "seconds_to_limit",
    "anon",
    "file",
    "dirty",
    "limit_share",
    "oom_kills",
    "shmem",
    "kernel",
    "tasks",
    "open_line",
    "log_bytes",
    "writeback",
    "slab",
    "sock",
    "swap",
    "stuck",
    "throttled",
    "limit",
    "charged",
    "uncharged",
    "log_lines",
    metric::NAME,
];

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    Metric(&'static Metric),
    /// The kind that grows most.
    Of,
    Trend,
    Runtime,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    pub cell: Cell,
    pub width: usize,
}

impl Column {
    fn find(word: &str) -> Option<Column> {
        let column = |cell, width| Some(Column { cell, width });
        match word {
            OF => column(Cell::Of, "kernel".len()),
            TREND => column(Cell::Trend, TREND_LEAST),
            RUNTIME => column(Cell::Runtime, "containerd".len()),
            word => metric::find(word).map(Column::of),
        }
    }

    /// Wide enough for every number of the unit with its mark, and for the title with the arrow of the order.
    fn of(metric: &'static Metric) -> Column {
        let number = unit::columns(metric.unit) + usize::from(metric.marked);
        Column { cell: Cell::Metric(metric), width: number.max(metric.title.len() + 1) }
    }

    pub fn title(&self) -> &'static str {
        match self.cell {
            Cell::Metric(metric) => metric.title,
            Cell::Of => "OF",
            Cell::Trend => "TREND",
            Cell::Runtime => "RUNTIME",
        }
    }

    /// Words read from the left, numbers from the right.
    pub fn is_text(&self) -> bool {
        matches!(self.cell, Cell::Of | Cell::Runtime)
    }

    pub fn help(&self) -> &'static str {
        match self.cell {
            Cell::Metric(metric) => metric.help,
            Cell::Of => "the kind that grows most, or that a shrinking row gives back most of",
            Cell::Trend => "CURRENT over the last ticks, each row in its own scale, newest at the right",
            Cell::Runtime => "what manages the cgroup",
        }
    }
}

/// Every column there is.
pub fn all() -> impl Iterator<Item = Column> {
    SHOWN.iter().filter_map(|word| Column::find(word))
}

/// A row of a given width: mark, name, columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub name: usize,
    pub columns: Vec<Column>,
}

/// The columns for a screen. The one that sorts is always among them.
pub fn layout(width: usize, order: Order) -> Layout {
    let room = width.saturating_sub(MARK);
    let name = (width * 3 / 10).clamp(12, NAME_ENOUGH);
    let taken = |columns: &[Column]| columns.iter().map(|column| column.width + 1).sum::<usize>();
    let mut columns: Vec<Column> = all().collect();
    let sorts =
        |column: &Column| matches!((column.cell, order.key), (Cell::Metric(a), Key::Metric(b)) if a == b);
    if let Key::Metric(metric) = order.key
        && !columns.iter().any(&sorts)
    {
        columns.insert(0, Column::of(metric));
    }
    while taken(&columns) + name > room
        && let Some(last) = columns.iter().rposition(|column| !sorts(column))
    {
        columns.remove(last);
    }
    let spare = room.saturating_sub(taken(&columns));
    let mut name = spare.min(NAME_ENOUGH);
    if let Some(trend) = columns.iter_mut().find(|column| column.cell == Cell::Trend) {
        trend.width = (trend.width + spare - name).min(TREND_MOST);
        name = room.saturating_sub(taken(&columns));
    }
    Layout { name, columns }
}

/// Whether the sorted column's numbers fall from the top.
pub fn is_falling(order: Order) -> bool {
    match order.key {
        Key::Metric(metric) => (metric.first == First::Greatest) != order.reverse,
        Key::Name => order.reverse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(width: usize, order: Order) -> Vec<&'static str> {
        layout(width, order).columns.iter().map(Column::title).collect()
    }

    #[test]
    fn the_most_important_columns_fit_the_smallest_screen() {
        let order = Order::default();
        assert_eq!(titles(80, order), ["CURRENT", "GROWTH/s", "OF", "TREND", "TO LIMIT"]);
        assert_eq!(titles(40, order), ["CURRENT", "GROWTH/s"]);
        assert!(titles(200, order).contains(&"KERNEL"));
        assert!(layout(200, order).name >= 44);
    }

    #[test]
    fn the_sorted_column_is_always_there() {
        for word in metric::sort_words() {
            let Some(Key::Metric(metric)) = Key::find(word) else { continue };
            let order = Order { key: Key::Metric(metric), reverse: false };
            for width in [40, 80, 120, 250] {
                assert!(titles(width, order).contains(&metric.title), "{word} at {width}");
            }
        }
    }

    #[test]
    fn a_row_is_never_wider_than_the_screen() {
        for width in 0..260 {
            let layout = layout(width, Order::default());
            let taken: usize = layout.columns.iter().map(|column| column.width + 1).sum();
            assert!(width < 30 || MARK + layout.name + taken <= width, "{width}");
        }
    }

    #[test]
    fn every_word_is_a_column_and_every_number_sorts() {
        assert_eq!(all().count(), SHOWN.len());
        let mut numbers: Vec<_> = SHOWN.iter().filter(|word| metric::find(word).is_some()).copied().collect();
        let mut sorted: Vec<_> = SORTED.iter().filter(|word| **word != metric::NAME).copied().collect();
        numbers.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(numbers, sorted);
    }
}
