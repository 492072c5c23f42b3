//! What the row holds, by kind, and how each kind grows.

use ratatui::text::{Line, Span};

use super::{HEAD, Subject};
use crate::{
    aggregator::row::{Growth, How, Memory},
    metric::Unit,
    view::{
        text::{self, Charset},
        unit,
    },
};

const NUMBER: usize = 12;

/// A line of the composition: its head (indented where it is part of the one above), size, growth by kind.
type Kind = (&'static str, fn(&Memory) -> Option<u64>, fn(&Growth) -> Option<f64>);

const COMPOSITION: &[Kind] = &[
    ("current", |m| m.current, |g| g.current),
    ("  anon", |m| m.anon, |g| g.anon),
    ("  file", |m| m.file, |g| g.file),
    ("    shmem", |m| m.shmem, |g| g.shmem),
    ("    dirty", |m| m.dirty, |g| g.dirty),
    ("    writeback", |m| m.writeback, |g| g.writeback),
    ("  kernel", |m| m.kernel, |g| g.kernel),
    ("    slab", |m| m.slab, |g| g.slab),
    ("  sock", |m| m.sock, |g| g.sock),
    ("swap", |m| m.swap, |g| g.swap),
];

/// Sizes and growth by kind; of a removed row its last sizes.
pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let row = subject.row;
    let memory = row.removed.as_ref().map_or(&row.memory, |removed| &removed.most);
    let right = |text: &str| text::right(text, NUMBER, Charset::Unicode);
    let mut lines = vec![Line::styled(
        format!("{:HEAD$}{}{}{}", "", right("NOW"), right("GROWTH/s"), right("LAST/s")),
        subject.theme.title(),
    )];
    lines.extend(COMPOSITION.iter().map(|(head, size, growth)| {
        let how = memory.kernel_how.filter(|_| head.trim() == "kernel");
        let rate = |growth: Option<f64>| right(&unit::format(Unit::BytesPerSecond, growth));
        Line::from(vec![
            subject.head(head),
            Span::raw(right(&sized(size(memory), how))),
            Span::raw(rate(growth(&row.growth_ewma_per_s))),
            Span::raw(rate(growth(&row.growth_per_s))),
        ])
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
        for (head, ..) in COMPOSITION {
            assert!(metric::find(head.trim()).is_some(), "{head}");
        }
    }
}
