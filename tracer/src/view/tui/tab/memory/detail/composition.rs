//! What the row holds, by kind, and how each kind grows.

use ratatui::text::{Line, Span};

use super::{HEAD, Subject};
use crate::{
    aggregator::row::{Growth, How, Memory},
    metric::Unit,
    view::{
        composition::{self, Kind},
        host,
        text::{self, Charset},
        unit,
    },
};

const NUMBER: usize = 12;
const SHARE: usize = 7;
const BAR_MOST: usize = 120;
/// What current has beyond the kinds that are known.
const REST: &str = "?";

/// A line of the table: its head (indented where it is part of the one above), size, growth by kind.
type Part = (&'static str, fn(&Memory) -> Option<u64>, fn(&Growth) -> Option<f64>);

const PARTS: &[Part] = &[
    ("current", |m| m.current, |g| g.current),
    (" anon", |m| m.anon, |g| g.anon),
    (" file", |m| m.file, |g| g.file),
    ("  shmem", |m| m.shmem, |g| g.shmem),
    ("  dirty", |m| m.dirty, |g| g.dirty),
    ("  writeback", |m| m.writeback, |g| g.writeback),
    (" kernel", |m| m.kernel, |g| g.kernel),
    ("  slab", |m| m.slab, |g| g.slab),
    (" sock", |m| m.sock, |g| g.sock),
    ("swap", |m| m.swap, |g| g.swap),
];

/// A kind's letter in the bar, and what it is called there: its parts are kinds of their own.
fn sign(kind: Kind, memory: &Memory) -> (&'static str, &'static str) {
    match kind {
        Kind::Anon => ("a", "anon"),
        Kind::Cache => ("f", "clean file"),
        Kind::Shmem => ("s", "shmem"),
        Kind::Dirty => ("d", "dirty file"),
        Kind::Slab => ("l", "slab"),
        Kind::Kernel if memory.slab.is_none() => ("k", "kernel with slab"),
        Kind::Kernel => ("k", "other kernel"),
        Kind::Sock => ("n", "sock"),
    }
}

/// A letter a kind, as many of them as its share; below it what each stands for.
fn bar(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let memory = subject.memory();
    let theme = subject.theme;
    let Some(current) = memory.current.filter(|current| *current > 0) else {
        return subject.say("made of", &host::size(memory.current));
    };
    let sizes = composition::sizes(memory);
    let known: u64 = sizes.iter().filter_map(|(_, size)| *size).sum();
    let rest = current.saturating_sub(known);
    // Readings are not simultaneous: the parts may be a little more than the whole.
    let whole = current.max(known);
    let parts: Vec<(&str, &str, Option<Kind>, u64)> = sizes
        .into_iter()
        .filter_map(|(kind, size)| {
            let (letter, name) = sign(kind, memory);
            Some((letter, name, Some(kind), size?))
        })
        .chain([(REST, "not told", None, rest)])
        .filter(|(.., size)| *size > 0)
        .collect();
    let width = subject.room().saturating_sub(2).min(BAR_MOST);
    let columns = shared(width, &parts.iter().map(|(.., size)| *size).collect::<Vec<_>>());
    let mut spans = vec![subject.head("made of")];
    for ((letter, _, kind, _), columns) in parts.iter().zip(columns) {
        let style = kind.map_or(theme.dim(), |kind| theme.kind(kind));
        spans.push(Span::styled(letter.repeat(columns), style));
    }
    let words = parts.iter().map(|(letter, name, _, size)| {
        format!("{letter} {name} {}", unit::share(*size as f64 / whole as f64))
    });
    let words = text::flow(words, "  ", subject.room(), theme.charset);
    let mut lines = vec![Line::from(spans)];
    lines.extend(subject.beside("", words));
    lines
}

/// Shares a width out so that nothing is left over: who is nearest to the next column gets it.
fn shared(width: usize, sizes: &[u64]) -> Vec<usize> {
    let whole = sizes.iter().sum::<u64>().max(1) as f64;
    let exact: Vec<f64> = sizes.iter().map(|size| *size as f64 / whole * width as f64).collect();
    let mut columns: Vec<usize> = exact.iter().map(|part| part.floor() as usize).collect();
    let mut nearest: Vec<usize> = (0..sizes.len()).collect();
    nearest.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let left = width.saturating_sub(columns.iter().sum());
    for index in nearest.into_iter().take(left) {
        columns[index] += 1;
    }
    columns
}

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    [bar(subject), table(subject)].concat()
}

/// Sizes and growth by kind; of a removed row its last sizes.
fn table(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let (row, memory) = (subject.row, subject.memory());
    let titles = [("NOW", NUMBER), ("SHARE", SHARE), ("GROWTH/s", NUMBER), ("LAST/s", NUMBER)];
    let right = |text: &str, width| text::right(text, width, Charset::Unicode);
    let rate = |growth: Option<f64>| unit::format(Unit::BytesPerSecond, growth);
    // Those that do not fit are left out, the least important first.
    let shown = |index: usize| match index {
        1 => HEAD + 2 * NUMBER + SHARE <= subject.width,
        3 => HEAD + 3 * NUMBER + SHARE <= subject.width,
        _ => true,
    };
    let line = |head: Span<'static>, cells: [String; 4]| {
        let cells = cells.into_iter().zip(titles).enumerate().filter(|(index, _)| shown(*index));
        let mut spans = vec![head];
        spans.extend(cells.map(|(_, (cell, (_, width)))| Span::raw(right(&cell, width))));
        Line::from(spans)
    };
    let mut lines = vec![
        line(subject.head(""), titles.map(|(title, _)| title.to_owned())).patch_style(subject.theme.title()),
    ];
    lines.extend(PARTS.iter().map(|(head, size, growth)| {
        let how = memory.kernel_how.filter(|_| head.trim() == "kernel");
        let share = size(memory).zip(memory.current).filter(|(_, whole)| *whole > 0);
        // Swapped out is not in current.
        let share = share.filter(|_| head.trim() != "swap").map(|(size, whole)| size as f64 / whole as f64);
        let cells = [
            sized(size(memory), how),
            unit::format(Unit::Share, share),
            rate(growth(&row.growth_ewma_per_s)),
            rate(growth(&row.growth_per_s)),
        ];
        line(subject.head(head), cells)
    }));
    lines
}

fn sized(bytes: Option<u64>, how: Option<How>) -> String {
    unit::format_marked(Unit::Bytes, bytes.map(|bytes| bytes as f64), how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn every_number_named_exists() {
        for (head, ..) in PARTS {
            assert!(metric::find(head.trim()).is_some(), "{head}");
        }
    }

    #[test]
    fn a_width_is_shared_out_without_rest() {
        assert_eq!(shared(10, &[50, 30, 20]), [5, 3, 2]);
        assert_eq!(shared(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(shared(7, &[1_000_000, 1]), [7, 0]);
        assert_eq!(shared(0, &[3]), [0]);
        assert!(shared(5, &[]).is_empty());
    }
}
