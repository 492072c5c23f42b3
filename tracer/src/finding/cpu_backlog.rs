//! Work that waits for a CPU that its quota does not give: the row is throttled, and what is in flight grows, though memory
//! does not.

use std::sync::Arc;

use super::{
    Finding, Kind, Look, Nature, Severity,
    evidence::{Evidence, Value},
    remedy, request_pileup,
    work::{Course, Courses, Moment},
};
use crate::{aggregator::row::Row, quantity::share, resolve::label::label};

/// Throttled in so many of its periods, on average and now.
const HIGH: f64 = 0.25;

pub(super) fn check(look: &Look<'_>, courses: &Courses) -> Vec<Finding> {
    let finding = |row: &Arc<Row>| {
        let course = courses.row(row.container.cgroup.id).filter(|course| course.is_long_enough())?;
        let throttled = course.mean(|moment| moment.throttled)?;
        let high = throttled >= HIGH && row.throttled_share.is_some_and(|now| now >= HIGH);
        if !high || request_pileup::is_pile(course) {
            return None;
        }
        grows(course).then(|| told(row, course, throttled))
    };
    look.rows.iter().filter_map(finding).collect()
}

fn children(moment: &Moment) -> Option<f64> {
    Some(moment.children)
}

/// Accepted or waiting for that; or children.
fn grows(course: &Course) -> bool {
    course.piles_up(|moment| moment.backlog) || course.piles_up(children)
}

fn told(row: &Arc<Row>, course: &Course, throttled: f64) -> Finding {
    let container = &row.container;
    let flight = row.flight.clone().unwrap_or_default();
    let rate = |of: fn(&Moment) -> Option<f64>| course.per_second(of);
    let (come, end) = (rate(|moment| moment.arrivals), rate(|moment| moment.completions));
    let words = match flight.connections.zip(flight.queued) {
        Some((open, queued)) if course.piles_up(|moment| moment.backlog) => {
            let more = course.change(|moment| moment.backlog).unwrap_or(0.0);
            format!("{} connections are open or wait, {more:+.0} since it is watched", open + queued)
        }
        _ => format!("{} children are at work at once", flight.running()),
    };
    Finding {
        id: format!("{}:{}", Kind::CpuThrottledBacklog.as_str(), container.id),
        kind: Kind::CpuThrottledBacklog,
        severity: Severity::Warning,
        container: Some(Arc::clone(container)),
        daemon: None,
        summary: format!(
            "{} is throttled in {} of its CPU periods, and its work piles up: {words}",
            label(container),
            share(throttled)
        ),
        advice: [
            "Raise its CPU limit, or take it away: the quota is what makes it wait.".to_owned(),
            "Ask it for less at once.".to_owned(),
        ]
        .into_iter()
        .chain(remedy::view(container, "top"))
        .collect(),
        refuted_by: "A backlog that goes on growing with a higher quota, or while the throttled share is low: then it waits \
                     for something else."
            .to_owned(),
        evidence: Evidence::default()
            .with("throttled_share", "CPU periods throttled", Value::Share(Some(throttled)))
            .with("in_flight", "connections accepted and still open", Value::Count(flight.connections))
            .with("in_flight_growth", "more than when it began", Value::Change(flight.connections_growth))
            .with("queued", "wait to be accepted", Value::Count(flight.queued))
            .with("children", "children alive", Value::Count(Some(flight.running())))
            .with("arrivals_per_s", "connections that came", Value::PerSecond(come))
            .with("completions_per_s", "connections that ended", Value::PerSecond(end)),
        also: Vec::new(),
        weight: 0,
        grown: None,
        nature: Nature::Plain,
    }
}
