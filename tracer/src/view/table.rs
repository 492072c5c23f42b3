//! Plain rows for a pipe or a log: each interval is a line on the host, a line of titles, one line a row, and an
//! empty line. Columns have the same width in every interval; the name comes last and is never cut.

use std::sync::Arc;

use crate::{
    aggregator::row::Row,
    metric::{self, Metric, Unit},
    snapshot::{Host, Snapshot},
    view::{
        composition, host, label, site,
        text::{self, Charset},
        unit,
    },
};

/// What stands in a line, in order.
const COLUMNS: &[&str] = &[
    "current",
    "growth",
    "anon",
    "file",
    "shmem",
    "dirty",
    "writeback",
    "kernel",
    "limit",
    "seconds_to_limit",
    "tasks",
    "oom_kills",
];

/// Of the growth's word and the runtime's.
const WORD: usize = 6;
const RUNTIME: usize = 10;

fn columns() -> Vec<&'static Metric> {
    COLUMNS.iter().filter_map(|name| metric::find(name)).collect()
}

/// The line of titles.
pub fn header() -> String {
    titles(&columns())
}

/// One interval, with the empty line after it.
pub fn top(snapshot: &Snapshot, rows: &[&Arc<Row>]) -> String {
    let columns = columns();
    let mut out = host_line(snapshot);
    out.push('\n');
    out.push_str(&titles(&columns));
    out.push('\n');
    for row in rows {
        out.push_str(&line(row, &columns));
        out.push('\n');
    }
    out.push('\n');
    if let Some(report) = &snapshot.sites {
        out.push_str(&site::plain(report));
    }
    out
}

fn host_line(snapshot: &Snapshot) -> String {
    let Host { mem_total, mem_available, used, attributed, own, lost_events, losses, .. } = &snapshot.host;
    let soon = host::exhaustion(&snapshot.host).map_or_else(String::new, |soon| format!(" ({soon})"));
    let available = host::size(*mem_available) + &soon;
    let mut line = format!(
        "{} {}: used {} of {}, available {}, in rows {}, {}, dead cgroups {}, self {} cpu {} rss {} maps, lost {}",
        host::timestamp(snapshot.at),
        text::clean(&snapshot.hostname, Charset::Unicode),
        host::size(*used),
        host::size(*mem_total),
        available,
        host::size(*attributed),
        host::unattributed(&snapshot.host.unattributed),
        host::dead_cgroups(&snapshot.host),
        unit::format(Unit::Share, own.share()),
        host::size(own.rss),
        host::size(own.maps),
        lost_events,
    );
    let lost: Vec<String> = losses
        .iter()
        .filter(|loss| loss.count > 0)
        .map(|loss| format!("{} {}", loss.count, text::clean(loss.what, Charset::Unicode)))
        .collect();
    if !lost.is_empty() {
        line.push_str(&format!(" ({})", lost.join("; ")));
    }
    if !own.over_budget.is_empty() {
        line.push_str(&format!("; {}", own.over_budget.join("; ")));
    }
    line
}

/// Wide enough for every number of the unit, its mark and the title.
fn columns_of(metric: &Metric) -> usize {
    (unit::columns(metric.unit) + usize::from(metric.marked)).max(metric.title.len())
}

fn titles(columns: &[&Metric]) -> String {
    let mut line = String::new();
    for metric in columns {
        line.push_str(&text::right(metric.title, columns_of(metric), Charset::Unicode));
        line.push(' ');
        if metric.name == "growth" {
            line.push_str(&text::left("OF", WORD + 1, Charset::Unicode));
        }
    }
    line.push_str(&text::left("RUNTIME", RUNTIME, Charset::Unicode));
    line.push_str(" NAME");
    line
}

fn line(row: &Row, columns: &[&Metric]) -> String {
    let mut line = String::new();
    for metric in columns {
        let cell = unit::format_marked(metric.unit, metric.of(row), metric.how(row));
        line.push_str(&text::right(&cell, columns_of(metric), Charset::Unicode));
        line.push(' ');
        if metric.name == "growth" {
            let word = composition::mostly(&row.growth_ewma_per_s).map_or("-", composition::Kind::as_str);
            line.push_str(&text::left(word, WORD + 1, Charset::Unicode));
        }
    }
    line.push_str(&text::left(row.container.runtime.as_str(), RUNTIME, Charset::Unicode));
    line.push(' ');
    line.push_str(&text::clean(&label::label(&row.container), Charset::Unicode));
    if let Some(removed) = &row.removed {
        line.push_str(&format!(
            " (removed: lived {}, peak {}, left {})",
            unit::format(Unit::Seconds, removed.lived_s),
            host::size(removed.peak),
            host::size(removed.left)
        ));
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        resolve::Runtime,
        view::{example, select},
    };

    #[test]
    fn golden() {
        let snapshot = example::snapshot();
        let rows = select::select(&snapshot, &[], select::Order::default(), None);
        example::golden("top_table", &top(&snapshot, &rows));
    }

    #[test]
    fn all_columns_exist() {
        assert!(COLUMNS.iter().all(|name| metric::find(name).is_some()));
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_line(name in any::<String>(), bytes in any::<u64>(), rate in any::<f64>()) {
            let mut row = example::row(example::container(Runtime::Docker, Some(&name)));
            row.memory.current = Some(bytes);
            row.memory.kernel = Some(bytes);
            row.growth_ewma_per_s.current = Some(rate);
            row.seconds_to_limit = Some(rate.abs());
            let mut snapshot = example::snapshot();
            snapshot.hostname = name.clone();
            let row = Arc::new(row);
            let text = top(&snapshot, &[&row]);
            prop_assert_eq!(text.lines().count(), 4);
            prop_assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{:?}", text);
            let lines: Vec<&str> = text.lines().collect();
            let start = lines[1].find("RUNTIME").unwrap();
            prop_assert_eq!(lines[2].find("docker"), Some(start), "{}", text);
        }
    }
}
