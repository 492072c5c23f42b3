//! The lines above the table: the host's memory and who holds it, what was lost, what memtrace costs, what the
//! reader chose. Words for everything; colour only underlines them.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    finding::Severity,
    metric::Unit,
    snapshot::{Host, Snapshot},
    view::{
        host,
        severity::{self, Level},
        text,
        tui::{history::LastRemoved, state::State, tab::Tab, theme::Theme},
        unit,
    },
};

const CRITICAL_SECONDS: f64 = 120.0;
const WARNING_SECONDS: f64 = 600.0;
const CRITICAL_AVAILABLE: f64 = 0.05;
const WARNING_AVAILABLE: f64 = 0.10;
/// A forecast beyond this is none.
const FORECAST_S: f64 = 3600.0;
const BAR_LEAST: usize = 8;
const BAR_MOST: usize = 72;
/// Narrower screens need the room for filters.
const TABBED: usize = 72;

/// All lines, or on a low screen those that nobody can do without.
pub fn lines(
    state: &State,
    snapshot: &Snapshot,
    theme: &Theme,
    width: usize,
    low: bool,
) -> Vec<Line<'static>> {
    let mut lines = vec![first(state, snapshot, theme, width), memory(state, snapshot, theme, width)];
    lines.extend(found(snapshot, theme, width));
    if !low {
        lines.push(holders(&snapshot.host, theme));
        lines.push(costs(&snapshot.host));
        lines.extend(losses(state, theme));
        let over = snapshot.host.own.over_budget.iter();
        lines.extend(
            over.map(|says| Line::styled(format!("budget: {says}"), theme.level(Some(Level::Warning)))),
        );
    }
    lines.push(chosen(state, snapshot, theme, width));
    lines
}

/// Who, when, how often; flags at the right, which are never cut.
fn first(state: &State, snapshot: &Snapshot, theme: &Theme, width: usize) -> Line<'static> {
    let mut flags = Vec::new();
    if state.paused {
        flags.push(Span::styled(" PAUSED ", theme.flag()));
    }
    flags.push(match state.lost_events() {
        0 => Span::styled(" lost 0", theme.dim()),
        lost => Span::styled(format!(" LOST {lost} "), theme.lost()),
    });
    let taken: usize = flags.iter().map(Span::width).sum();
    // The date is on every screenshot's file already.
    let clock = host::timestamp(snapshot.at).get(11..19).map(|clock| format!("{clock}Z")).unwrap_or_default();
    let title = "memtrace";
    let about = format!(
        "  {}  kernel {}  {clock}  every {}",
        text::fit(&snapshot.hostname, 24, theme.charset),
        text::fit(&snapshot.kernel, 24, theme.charset),
        unit::format(Unit::Seconds, Some(snapshot.interval_s)),
    );
    let room = width.saturating_sub(taken + title.len());
    let mut spans =
        vec![Span::styled(title, theme.title()), Span::raw(text::left(&about, room, theme.charset))];
    spans.extend(flags);
    Line::from(spans)
}

/// How full the host is, how fast it fills, and a bar of who holds it.
fn memory(state: &State, snapshot: &Snapshot, theme: &Theme, width: usize) -> Line<'static> {
    let host = &snapshot.host;
    let growth = state.history.host_growth();
    let left = state.history.seconds_left(snapshot).filter(|seconds| *seconds < FORECAST_S);
    let mut words = format!(
        "{} of {}, {}  {}",
        host::size(host.used),
        host::size(host.mem_total),
        unit::format(Unit::Share, host::used_share(host)),
        unit::format(Unit::BytesPerSecond, growth),
    );
    if let Some(seconds) = left {
        words.push_str(&format!(" full in {}", unit::seconds(seconds)));
    }
    let level = level(host, left);
    if let Some(level) = level {
        words.push_str(&format!(" {}", level.mark()));
    }
    let title = "USED ";
    let bar = width.saturating_sub(title.len() + text::width(&words) + 1).min(BAR_MOST);
    let mut spans = vec![Span::styled(title, theme.title())];
    if bar >= BAR_LEAST {
        spans.extend(self::bar(host, theme, bar, theme.level(level)));
        spans.push(Span::raw(" "));
    }
    spans.push(Span::styled(words, theme.level(level)));
    Line::from(spans)
}

fn level(host: &Host, seconds_left: Option<f64>) -> Option<Level> {
    let available = host
        .mem_total
        .filter(|total| *total > 0)
        .and_then(|total| Some(host.mem_available? as f64 / total as f64))
        .unwrap_or(1.0);
    let left = seconds_left.unwrap_or(f64::INFINITY);
    if available < CRITICAL_AVAILABLE || left < CRITICAL_SECONDS {
        Some(Level::Critical)
    } else if available < WARNING_AVAILABLE || left < WARNING_SECONDS {
        Some(Level::Warning)
    } else {
        None
    }
}

/// Memory in rows, used outside every row, free: three signs, so that a bar without colours says the same.
fn bar(host: &Host, theme: &Theme, width: usize, style: Style) -> Vec<Span<'static>> {
    let columns = |bytes: Option<u64>| match (bytes, host.mem_total) {
        (Some(bytes), Some(total)) if total > 0 => {
            ((bytes as f64 / total as f64 * width as f64).round() as usize).min(width)
        }
        _ => 0,
    };
    let used = columns(host.used);
    let attributed = columns(host.attributed).min(used);
    let [in_rows, outside, free] = theme.bar();
    vec![
        Span::styled(in_rows.repeat(attributed), style),
        Span::styled(outside.repeat(used - attributed), style),
        Span::styled(free.repeat(width - used), theme.dim()),
    ]
}

/// The worst of what is wrong, and how many there are; nothing where nothing is.
fn found(snapshot: &Snapshot, theme: &Theme, width: usize) -> Option<Line<'static>> {
    let bad: Vec<_> = snapshot.findings.iter().filter(|open| open.severity > Severity::Info).collect();
    let worst = bad.first()?;
    let level = severity::of_finding(worst.severity);
    let count = match bad.len() {
        1 => String::from("  f tells"),
        all => format!("  1 of {all}, f tells"),
    };
    let mark = level.map_or("", Level::mark);
    let room = width.saturating_sub(text::width(&count) + mark.len() + 1);
    let said = text::left(&text::head(&worst.summary, room, theme.charset), room, theme.charset);
    Some(Line::from(vec![
        Span::styled(format!("{mark} {said}"), theme.level(level)),
        Span::styled(count, theme.dim()),
    ]))
}

fn holders(host: &Host, theme: &Theme) -> Line<'static> {
    let [in_rows, outside, _] = theme.bar();
    let unattributed = &host.unattributed;
    let total = unattributed.total.map_or_else(|| String::from("-"), |bytes| unit::bytes(bytes as f64));
    let mut words =
        format!("in rows {in_rows} {}  unattributed {outside} {total}", host::size(host.attributed));
    if let Some(part) = host::largest_part(unattributed) {
        words.push_str(&format!(", most {}", part.text()));
    }
    Line::from(words)
}

fn costs(host: &Host) -> Line<'static> {
    let soon = host::exhaustion(host).map_or_else(String::new, |soon| format!(", {soon}"));
    Line::from(format!(
        "available {}{soon}  dead cgroups {}  self cpu {} rss {} maps {}",
        host::size(host.mem_available),
        host::dead_cgroups(host),
        unit::format(Unit::Share, host.own.share()),
        host::size(host.own.rss),
        host::size(host.own.maps)
    ))
}

/// In what way events were lost, the most frequent first.
fn losses(state: &State, theme: &Theme) -> Option<Line<'static>> {
    let mut losses: Vec<_> = state.losses().iter().filter(|loss| loss.count > 0).collect();
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.count));
    let sentences: Vec<String> = losses
        .iter()
        .map(|loss| format!("{} {}", loss.count, text::clean(loss.what, theme.charset)))
        .collect();
    (!sentences.is_empty())
        .then(|| Line::styled(format!("lost: {}", sentences.join("; ")), theme.level(Some(Level::Critical))))
}

/// How many rows, by what order and filter, how many need a look, what is gone.
fn chosen(state: &State, snapshot: &Snapshot, theme: &Theme, width: usize) -> Line<'static> {
    let mut spans = if width >= TABBED { tabs(state.tab, theme) } else { Vec::new() };
    let (shown, of, order, reverse) = match state.tab {
        Tab::Memory => {
            let order = state.order;
            (state.rows.len(), format!("{} rows", snapshot.rows.len()), order.key.word(), order.reverse)
        }
        Tab::Logs => {
            let all = snapshot.logs.as_ref().map_or(0, |logs| logs.streams.len());
            let order = state.stream_order;
            (state.streams.len(), format!("{all} streams"), order.key.word(), order.reverse)
        }
        Tab::Stuck => {
            let all = snapshot.stuck.as_ref().map_or(0, |report| report.tasks.len());
            let order = state.stuck_order;
            (state.tasks.len(), format!("{all} stuck tasks"), order.key.word(), order.reverse)
        }
        Tab::Calls => {
            let order = state.call_order;
            let all = format!("{} rows, calls", snapshot.rows.len());
            (state.rows.len(), all, order.key.word(), order.reverse)
        }
        Tab::Findings => {
            (state.findings.len(), format!("{} findings", snapshot.findings.len()), "severity", false)
        }
    };
    let reversed = if reverse { ", reversed" } else { "" };
    spans.push(Span::raw(format!("{shown} of {of} by {order}{reversed}")));
    let patterns = [("  -c ", state.pattern()), ("  filter ", state.typed.pattern())];
    for (word, pattern) in patterns.into_iter().filter(|(_, pattern)| !pattern.is_empty()) {
        spans.push(Span::raw(word));
        spans.push(Span::styled(text::fit(pattern, 30, theme.charset), theme.flag()));
    }
    let alarms = [Level::Critical, Level::Warning].map(|level| (level, state.alarms(level)));
    for (level, count) in alarms.into_iter().filter(|(_, count)| *count > 0) {
        spans.push(Span::styled(format!("  {count} {}", level.mark()), theme.level(Some(level))));
    }
    if let Some(last) = state.history.last_removed.as_ref().filter(|_| state.tab == Tab::Memory) {
        let taken: usize = spans.iter().map(Span::width).sum();
        spans.push(Span::styled(
            removed(state.history.removed, last, width.saturating_sub(taken), theme),
            theme.dim(),
        ));
    }
    Line::from(spans)
}

/// The one that is shown in brackets.
fn tabs(shown: Tab, theme: &Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for tab in Tab::ALL {
        match tab == shown {
            true => spans.push(Span::styled(format!("[{}]", tab.title()), theme.title())),
            false => spans.push(Span::styled(tab.title(), theme.dim())),
        }
        spans.push(Span::raw(" "));
    }
    spans.push(Span::raw(" "));
    spans
}

/// As much as there is room for, the count first, then the name.
fn removed(count: u64, last: &LastRemoved, room: usize, theme: &Theme) -> String {
    const NAME_LEAST: usize = 16;
    let head = format!("  removed {count}");
    let numbers =
        format!(" (lived {}, peak {})", unit::format(Unit::Seconds, last.lived_s), host::size(last.peak));
    let name = |beside: usize| {
        let columns = room.saturating_sub(head.len() + ", last ".len() + beside);
        (columns >= NAME_LEAST).then(|| text::fit(&last.label, columns, theme.charset))
    };
    match (name(numbers.len()), name(0)) {
        (Some(name), _) => format!("{head}, last {name}{numbers}"),
        (None, Some(name)) => format!("{head}, last {name}"),
        (None, None) => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_about_to_be_full_is_marked() {
        let host =
            |available| Host { mem_total: Some(100), mem_available: Some(available), ..Host::default() };
        assert_eq!(level(&host(50), None), None);
        assert_eq!(level(&host(50), Some(500.0)), Some(Level::Warning));
        assert_eq!(level(&host(50), Some(100.0)), Some(Level::Critical));
        assert_eq!(level(&host(9), None), Some(Level::Warning));
        assert_eq!(level(&host(4), None), Some(Level::Critical));
        assert_eq!(level(&Host::default(), None), None);
    }
}
