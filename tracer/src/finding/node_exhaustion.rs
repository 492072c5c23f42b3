//! A host that will soon have no memory left, whoever takes it: also where no row accounts for it.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    Finding, Kind, Look, Nature, Severity,
    evidence::{ContainerRate, Evidence, Value},
    foresees,
    growth::Courses,
};
use crate::{
    aggregator::row::{How, Row},
    quantity::{bytes, seconds, share},
    resolve::label::label,
};

const SUSTAINED: Duration = Duration::from_secs(5);
const WARNING_SECONDS: f64 = 600.0;
const CRITICAL_SECONDS: f64 = 60.0;
/// A host with less than this share of its memory available is near its end, however slowly it goes on.
const LITTLE: f64 = 0.03;
/// Slower is noise.
const SLOW: f64 = 512.0 * 1024.0;
/// Containers that are named.
const NAMED: usize = 5;

pub(super) fn check(look: &Look<'_>, courses: &Courses) -> Option<Finding> {
    let host = look.host;
    let (total, available) = host.total.zip(host.available)?;
    let line = courses.available.as_ref().filter(|line| line.span() >= SUSTAINED)?;
    let fall = line.steady().map(|rate| -rate).filter(|fall| *fall > SLOW);
    let left = fall.map(|fall| available as f64 / fall);
    let little = (available as f64) < LITTLE * total as f64;
    let severity = match left {
        Some(left) if left < CRITICAL_SECONDS || little => Severity::Critical,
        Some(left) if left < WARNING_SECONDS && foresees(line.span(), left) => Severity::Warning,
        _ if little => Severity::Warning,
        _ => return None,
    };
    let used = host.free.map(|free| total.saturating_sub(free));
    let top = top(look.rows);
    let attributed: f64 = look.rows.iter().filter_map(|row| row.growth_ewma_per_s.current).sum();
    // What grows in no row: a daemon outside every cgroup, or the kernel.
    let outside = fall.map(|fall| fall - attributed).filter(|rate| *rate > 0.0);
    Some(Finding {
        id: Kind::NodeExhaustion.as_str().to_owned(),
        kind: Kind::NodeExhaustion,
        severity,
        container: None,
        daemon: None,
        summary: summary(available, total, fall.zip(left), &top, outside),
        advice: advice(&top),
        refuted_by: "An `available` that rises again without anybody's doing: then it was a burst."
            .to_owned(),
        evidence: Evidence::default()
            .with("used", "total less free", Value::Bytes(used))
            .with("available", "what programs can still have", Value::Bytes(Some(available)))
            .with("bytes_per_s", "fall of that, over the run", Value::Rate(fall))
            .with_how("seconds_left", "until nothing is left", Value::Seconds(left), Some(How::Inferred))
            .with("unattributed", "used, but in no row", Value::Growth(look.unattributed))
            .with_how(
                "unattributed_per_s",
                "of the fall, in no row",
                Value::Rate(outside),
                Some(How::Inferred),
            )
            .with("top_containers", "grow most:", Value::Containers(top)),
        also: Vec::new(),
        weight: fall.unwrap_or(0.0) as u64,
        grown: None,
        nature: Nature::Plain,
    })
}

fn top(rows: &[Arc<Row>]) -> Vec<ContainerRate> {
    let mut top: Vec<ContainerRate> = rows
        .iter()
        .filter_map(|row| {
            let rate = row.growth_ewma_per_s.current.filter(|rate| *rate > SLOW / 8.0)?;
            Some(ContainerRate { container: Arc::clone(&row.container), bytes_per_s: rate })
        })
        .collect();
    top.sort_by_key(|rate| Reverse(rate.bytes_per_s as u64));
    top.truncate(NAMED);
    top
}

fn summary(
    available: u64,
    total: u64,
    course: Option<(f64, f64)>,
    top: &[ContainerRate],
    outside: Option<f64>,
) -> String {
    let rest = format!(
        "{} of {} is available ({})",
        bytes(available as f64),
        bytes(total as f64),
        share(available as f64 / total as f64)
    );
    let Some((fall, left)) = course else {
        return format!("the host has little memory left: {rest}, and it does not change now");
    };
    let who = match top.first() {
        Some(most) if most.bytes_per_s >= fall / 2.0 => {
            format!("; {} grows by {}/s of that", label(&most.container), bytes(most.bytes_per_s))
        }
        _ => match outside {
            Some(rate) if rate >= fall / 2.0 => {
                format!("; {}/s of that is in no container and no unit", bytes(rate))
            }
            _ => "; no single container takes half of that".to_owned(),
        },
    };
    format!("the host has no memory left in about {}: {rest}, {}/s less{who}", seconds(left), bytes(fall))
}

fn advice(top: &[ContainerRate]) -> Vec<String> {
    let mut advice = Vec::new();
    match top.first() {
        Some(_) => advice
            .push("Stop what grows most, or give it a limit, before the kernel chooses a victim.".to_owned()),
        None => advice.push(
            "No row grows: look at `unattributed` in the header of `memtrace top`, at `slabtop -o` and at \
             /proc/meminfo."
                .to_owned(),
        ),
    }
    advice.push("$ memtrace top".to_owned());
    advice
}
