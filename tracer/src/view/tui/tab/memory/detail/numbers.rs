//! Numbers of the row beside its memory.

use ratatui::text::Line;

use super::Subject;
use crate::{
    metric,
    view::{text, unit},
};

/// A line's head, and the metrics in it.
const NUMBERS: &[(&str, &[&str])] = &[
    ("tasks", &["tasks", "blocked", "stuck", "execs", "exits"]),
    ("charges", &["charged", "uncharged"]),
    ("pressure", &["memory_stall", "reclaims", "reclaim_time", "major_faults", "refaults"]),
    ("trouble", &["oom_kills", "throttled"]),
    ("log", &["log_bytes", "log_lines", "open_line"]),
];

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    NUMBERS.iter().flat_map(|(head, names)| line(subject, head, names)).collect()
}

fn line(subject: &Subject<'_>, head: &str, names: &[&str]) -> Vec<Line<'static>> {
    let words = names.iter().filter_map(|name| metric::find(name)).map(|metric| {
        let number = unit::format_marked(metric.unit, metric.of(subject.row), metric.how(subject.row));
        format!("{} {number}", metric.title.to_lowercase())
    });
    subject.beside(head, text::flow(words, "   ", subject.room(), subject.theme.charset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_named_exists() {
        for name in NUMBERS.iter().flat_map(|(_, names)| *names) {
            assert!(metric::find(name).is_some(), "{name}");
        }
    }
}
