//! Everything known about one row: who it is, how that is known, what it holds and how each kind grows.

use ratatui::text::{Line, Span};

use crate::{
    aggregator::row::{Growth, How, Memory, Row},
    metric::{self, Unit},
    snapshot::Snapshot,
    view::{
        host, label,
        severity::Severity,
        text::{self, Charset},
        tui::theme::Theme,
        unit,
    },
};

const HEAD: usize = 14;
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

/// Numbers below the composition: a line's head, and the metrics in it.
const NUMBERS: &[(&str, &[&str])] = &[
    ("limit", &["limit", "effective_limit", "limit_share", "seconds_to_limit"]),
    ("charges", &["charged", "uncharged"]),
    ("tasks", &["tasks", "blocked", "stuck", "execs", "exits"]),
    ("trouble", &["oom_kills", "throttled"]),
    ("log", &["log_bytes", "log_lines", "open_line"]),
];

/// The pane's lines. `gone`: the row is no longer in the picture, and this is what was last known of it.
pub fn lines(
    row: &Row,
    gone: bool,
    severity: Option<&Severity>,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
) -> Vec<Line<'static>> {
    let mut lines = identity(row, gone, severity, theme, width);
    lines.push(Line::default());
    lines.extend(composition(row, theme));
    lines.push(Line::default());
    lines.extend(NUMBERS.iter().map(|(head, names)| numbers(row, head, names, theme)));
    lines.push(Line::default());
    lines.push(Line::styled("probes", theme.title()));
    let probes = snapshot.probes.iter();
    lines.extend(probes.map(|probe| Line::from(format!("  {}", text::clean(probe, theme.charset)))));
    lines
}

fn identity(
    row: &Row,
    gone: bool,
    severity: Option<&Severity>,
    theme: &Theme,
    width: usize,
) -> Vec<Line<'static>> {
    let container = &row.container;
    let mut title = vec![Span::styled(
        text::fit(&label::label(container), width.saturating_sub(34).max(20), theme.charset),
        theme.title(),
    )];
    if gone || row.removed.is_some() {
        title.push(Span::styled("  GONE, as last seen", theme.flag()));
    }
    if let Some(severity) = severity {
        let text = format!("  {} {}", severity.level.mark(), severity.why);
        title.push(Span::styled(text, theme.level(Some(severity.level))));
    }
    let mut lines = vec![Line::from(title)];
    let mut say = |head: &str, what: &str| {
        let what = text::fit(what, width.saturating_sub(HEAD).max(8), theme.charset);
        lines.push(Line::from(vec![head_of(head, theme), Span::raw(what)]));
    };
    say("runtime", container.runtime.as_str());
    if container.id != container.cgroup.path {
        say("id", &container.id);
    }
    if let Some(image) = &container.image {
        say("image", image);
    }
    say("cgroup", &format!("{}  {}", container.cgroup.id, container.cgroup.path));
    say("named by", row.provenance.as_deref().unwrap_or("not known"));
    if let Some(removed) = &row.removed {
        let lived = unit::format(Unit::Seconds, removed.lived_s);
        let (peak, left) = (host::size(removed.peak), host::size(removed.left));
        say("removed", &format!("lived {lived}, peak {peak}, left {left} to its parent"));
    }
    lines
}

/// Sizes and growth by kind; of a removed row its last sizes.
fn composition(row: &Row, theme: &Theme) -> Vec<Line<'static>> {
    let memory = row.removed.as_ref().map_or(&row.memory, |removed| &removed.most);
    let right = |text: &str| text::right(text, NUMBER, Charset::Unicode);
    let mut lines = vec![Line::styled(
        format!("{:HEAD$}{}{}{}", "", right("NOW"), right("GROWTH/s"), right("LAST/s")),
        theme.title(),
    )];
    lines.extend(COMPOSITION.iter().map(|(head, size, growth)| {
        let how = memory.kernel_how.filter(|_| head.trim() == "kernel");
        let rate = |growth: Option<f64>| right(&unit::format(Unit::BytesPerSecond, growth));
        Line::from(vec![
            head_of(head, theme),
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

fn numbers(row: &Row, head: &str, names: &[&str], theme: &Theme) -> Line<'static> {
    let words: Vec<String> = names
        .iter()
        .filter_map(|name| metric::find(name))
        .map(|metric| {
            let number = unit::format_marked(metric.unit, metric.of(row), metric.how(row));
            format!("{} {number}", metric.title.to_lowercase())
        })
        .collect();
    Line::from(vec![head_of(head, theme), Span::raw(words.join("   "))])
}

fn head_of(head: &str, theme: &Theme) -> Span<'static> {
    Span::styled(text::left(head, HEAD, theme.charset), theme.title())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_named_exists() {
        for name in NUMBERS.iter().flat_map(|(_, names)| *names) {
            assert!(metric::find(name).is_some(), "{name}");
        }
        for (head, ..) in COMPOSITION {
            assert!(metric::find(head.trim()).is_some(), "{head}");
        }
    }
}
