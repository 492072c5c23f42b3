//! Work in flight: connections that are open and who has them, children and how long they take, threads, throttling.

use ratatui::text::Line;

use super::Subject;
use crate::{
    aggregator::work::flight::{Child, Flight},
    metric::Unit,
    view::{text, unit},
};

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Some(flight) = subject.row.flight.as_deref() else {
        return subject.say("in flight", "not looked at: neither its memory nor its work moves");
    };
    let mut lines = flow(subject, "in flight", connections(flight));
    lines.extend(flow(subject, "from", peers(flight)));
    lines.extend(flow(subject, "processes", processes(subject, flight)));
    let children = flight.children.iter().map(child).collect();
    lines.extend(flow(subject, "children", children));
    lines
}

fn flow(subject: &Subject<'_>, head: &str, words: Vec<String>) -> Vec<Line<'static>> {
    subject.beside(head, text::flow(words, "   ", subject.room(), subject.theme.charset))
}

fn count(of: Option<u64>) -> String {
    unit::format(Unit::Count, of.map(|count| count as f64))
}

fn connections(flight: &Flight) -> Vec<String> {
    let growth = flight.connections_growth.map_or_else(String::new, |growth| {
        let least = if flight.connections_growth_how.is_some() { "at least " } else { "" };
        format!(" ({least}{growth:+} since the start)")
    });
    let rate = |of: Option<f64>| unit::format(Unit::PerSecond, of);
    vec![
        format!("connections {}{growth}", count(flight.connections)),
        format!("waiting {}", count(flight.queued)),
        format!("come {}", rate(flight.arrivals_per_s)),
        format!("end {}", rate(flight.completions_per_s)),
    ]
}

fn peers(flight: &Flight) -> Vec<String> {
    flight.peers.iter().map(|peer| format!("{} {}", peer.addr, peer.count)).collect()
}

fn processes(subject: &Subject<'_>, flight: &Flight) -> Vec<String> {
    vec![
        count(Some(flight.processes)),
        format!("threads {}", count(Some(flight.threads))),
        format!("throttled {}", unit::format(Unit::Share, subject.row.throttled_share)),
    ]
}

/// `du 58 (eldest 40s), 12 ended, median 31s, longest 40s`
fn child(child: &Child) -> String {
    let time = |of: Option<f64>| unit::format(Unit::Seconds, of);
    let mut words = format!("{} {}", child.comm, child.running);
    if child.oldest_s.is_some() {
        words += &format!(" (eldest {})", time(child.oldest_s));
    }
    if child.ended.is_some_and(|ended| ended > 0) {
        words += &format!(
            ", {} ended, median {}, longest {}",
            count(child.ended),
            time(child.p50_s),
            time(child.max_s)
        );
    }
    words
}
