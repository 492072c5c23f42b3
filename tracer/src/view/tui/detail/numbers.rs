//! Numbers of the row beside its composition.

use ratatui::text::{Line, Span};

use super::Subject;
use crate::{metric, view::unit};

/// A line's head, and the metrics in it.
const NUMBERS: &[(&str, &[&str])] = &[
    ("limit", &["limit", "effective_limit", "limit_share", "seconds_to_limit"]),
    ("charges", &["charged", "uncharged"]),
    ("tasks", &["tasks", "blocked", "stuck", "execs", "exits"]),
    ("trouble", &["oom_kills", "throttled"]),
    ("log", &["log_bytes", "log_lines", "open_line"]),
];

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    NUMBERS.iter().map(|(head, names)| line(subject, head, names)).collect()
}

fn line(subject: &Subject<'_>, head: &str, names: &[&str]) -> Line<'static> {
    let words: Vec<String> = names
        .iter()
        .filter_map(|name| metric::find(name))
        .map(|metric| {
            let number = unit::format_marked(metric.unit, metric.of(subject.row), metric.how(subject.row));
            format!("{} {number}", metric.title.to_lowercase())
        })
        .collect();
    Line::from(vec![subject.head(head), Span::raw(words.join("   "))])
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
