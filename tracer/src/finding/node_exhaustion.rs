//! A host that will soon have no memory left, whoever takes it: also where no row accounts for it.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    Finding, Kind, Look, Nature, Severity,
    evidence::{ContainerRate, Evidence, Value},
    foresees,
    growth::Courses,
    host::Host,
    outside::Outside,
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

pub(super) fn check(look: &Look<'_>, course: &Host, rows: &Courses) -> Option<Finding> {
    let host = look.host;
    let (total, available) = host.total.zip(host.available)?;
    let span = course.span();
    let fall = course.fall().filter(|fall| span >= SUSTAINED && *fall > SLOW);
    let left = fall.and_then(|fall| seconds_left(available, fall, bounded(look.rows, rows)));
    let little = (available as f64) < LITTLE * total as f64;
    let severity = match left {
        Some(left) if left < CRITICAL_SECONDS || little => Severity::Critical,
        Some(left) if left < WARNING_SECONDS && foresees(span, left) => Severity::Warning,
        _ if little && look.at >= SUSTAINED => Severity::Warning,
        _ => return None,
    };
    let used = host.free.map(|free| total.saturating_sub(free));
    let top = top(look.rows);
    let attributed: f64 = look.rows.iter().filter_map(|row| row.growth_ewma_per_s.current).sum();
    let outside = Outside::of(fall, attributed, course);
    let process = outside.as_ref().and_then(|outside| outside.process.clone());
    Some(Finding {
        id: Kind::NodeExhaustion.as_str().to_owned(),
        kind: Kind::NodeExhaustion,
        severity,
        container: None,
        daemon: None,
        summary: summary([available, total], fall, left, &top, outside.as_ref()),
        advice: advice(&top, outside.as_ref().filter(|outside| outside.is_most)),
        refuted_by: "An `available` that rises again without anybody's doing: then it was a burst."
            .to_owned(),
        evidence: Evidence::default()
            .with("used", "total less free", Value::Bytes(used))
            .with("available", "what programs can still have", Value::Bytes(Some(available)))
            .with("bytes_per_s", "fall of that, over at most a minute", Value::Rate(fall))
            .with_how("seconds_left", "until nothing is left", Value::Seconds(left), Some(How::Inferred))
            .with("unattributed", "used, but in no row", Value::Growth(look.unattributed))
            .with_how(
                "unattributed_per_s",
                "of the fall, in no row",
                Value::Rate(outside.as_ref().map(|outside| outside.rate)),
                Some(How::Inferred),
            )
            .with_how(
                "unattributed_by_kind",
                "growth in no row",
                Value::Parts(course.by_kind().to_vec()),
                Some(How::Inferred),
            )
            .with("top_process", "grows most, in no row", Value::Grower(process))
            .with("top_containers", "grow most:", Value::Containers(top)),
        also: Vec::new(),
        weight: fall.unwrap_or(0.0) as u64,
        grown: None,
        nature: Nature::Plain,
    })
}

/// Bytes a second of the rows that grow towards a limit, and what each may still take.
fn bounded(rows: &[Arc<Row>], courses: &Courses) -> Vec<(f64, f64)> {
    let of = |row: &Arc<Row>| {
        let rate = courses.row(row.container.cgroup.id)?.takes()?;
        let limit = row.memory.effective_limit?;
        Some((rate, limit.saturating_sub(row.memory.current?) as f64))
    };
    rows.iter().filter_map(of).collect()
}

/// Until nothing is available, where each of those takes its part of the fall no longer than its limit leaves; `None`
/// where all end before that.
fn seconds_left(available: u64, fall: f64, mut bounded: Vec<(f64, f64)>) -> Option<f64> {
    bounded.sort_by(|(a, room), (b, more)| (room / a).total_cmp(&(more / b)));
    let (mut available, mut fall, mut at) = (available as f64, fall, 0.0);
    for (rate, room) in bounded {
        let ends = room / rate;
        if available <= fall * (ends - at) {
            break;
        }
        available -= fall * (ends - at);
        (fall, at) = (fall - rate, ends);
        if fall <= SLOW {
            return None;
        }
    }
    Some(at + available / fall)
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
    [available, total]: [u64; 2],
    fall: Option<f64>,
    left: Option<f64>,
    top: &[ContainerRate],
    outside: Option<&Outside>,
) -> String {
    let rest = format!(
        "{} of {} is available ({})",
        bytes(available as f64),
        bytes(total as f64),
        share(available as f64 / total as f64)
    );
    let Some(fall) = fall else {
        return format!("the host has little memory left: {rest}, and it does not change now");
    };
    let who = match top.first() {
        Some(most) if most.bytes_per_s >= fall / 2.0 => {
            format!("; {} grows by {}/s of that", label(&most.container), bytes(most.bytes_per_s))
        }
        _ => match outside {
            Some(outside) if outside.is_most => outside.says(),
            _ => "; no single container takes half of that".to_owned(),
        },
    };
    let fall = bytes(fall);
    match left {
        Some(left) => {
            format!("the host has no memory left in about {}: {rest}, {fall}/s less{who}", seconds(left))
        }
        None => format!(
            "the host has little memory left: {rest}, {fall}/s less until what grows meets its own limit{who}"
        ),
    }
}

fn advice(top: &[ContainerRate], outside: Option<&Outside>) -> Vec<String> {
    let mut advice = match (outside, top) {
        (Some(outside), _) => outside.advice(),
        (None, []) => vec![
            "No row grows: look at `unattributed` in the header of `memtrace top`, at `slabtop -o` and at \
             /proc/meminfo."
                .to_owned(),
        ],
        _ => {
            vec!["Stop what grows most, or give it a limit, before the kernel chooses a victim.".to_owned()]
        }
    };
    advice.push("$ memtrace top".to_owned());
    advice
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        aggregator::{dirty::row::Dirty, host::Remainder, stream::Process},
        event::HostMemory,
        finding::{Seen, Watch, example},
    };

    const MIB: i64 = 1 << 20;
    const GIB: i64 = 1 << 30;

    /// After 15 s in which no row grows, with so much available at each second and so much of each kind in no row.
    fn last(available: fn(i64) -> i64, left: fn(i64) -> Remainder, process: bool) -> Option<Arc<Finding>> {
        let (mut watch, dirty) = (Watch::default(), Dirty::default());
        let mut found = Vec::new();
        for second in 0..=15 {
            let at = Duration::from_secs(second);
            let second = second as i64;
            let free = Some(available(second) as u64);
            let host =
                HostMemory { total: Some(256 * GIB as u64), free, available: free, ..HostMemory::default() };
            if process && watch.suspects().contains(&None) {
                let process = Process { pid: 812, comm: "importd".into() };
                watch.processes(at, None, vec![(process, (GIB + 300 * MIB * second) as u64)]);
            }
            let seen = Seen { left: left(second), held: Some(0), ..example::seen(at, &[], &host, &dirty) };
            found = watch.tick(&seen);
        }
        assert!(found.len() < 2);
        found.pop()
    }

    const FALLS: fn(i64) -> i64 = |second| 40 * GIB - 300 * MIB * second;

    fn says(left: fn(i64) -> Remainder) -> String {
        let found = last(FALLS, left, false).expect("it falls");
        let (_, says) = found.summary.split_once("less; ").expect("by whom");
        says.to_owned()
    }

    #[test]
    fn what_no_row_holds_is_told_as_such() {
        let found = last(FALLS, |_| Remainder::default(), false).expect("it falls");
        assert_eq!((found.kind, found.severity), (Kind::NodeExhaustion, Severity::Warning));
        assert!(
            found.summary.ends_with("; 300 MiB/s of that is in no container and no unit"),
            "{}",
            found.summary
        );
        let evidence: Value = serde_json::to_value(&found.evidence).expect("JSON");
        assert_eq!(evidence["bytes_per_s"], 300.0 * MIB as f64);
        assert_eq!(evidence["top_containers"], json!([]));
        assert_eq!(evidence["unattributed"], 256 * GIB - FALLS(15));
        assert_eq!(evidence["unattributed_by_kind"]["slab"], Value::Null);
        assert!(evidence["top_process"].is_null());
        // Nothing falls, but there is little left.
        let little = last(|_| 5 * GIB, |_| Remainder::default(), false).expect("there is little");
        assert_eq!(little.severity, Severity::Warning);
        assert!(last(|second| 200 * GIB - 10 * MIB * second, |_| Remainder::default(), false).is_none());
    }

    /// 100 GiB of which 1 GiB goes each second.
    #[test]
    fn who_has_a_limit_takes_no_more_than_that() {
        let gib = |gib: f64| gib * GIB as f64;
        let left = |bounded: &[(f64, f64)]| {
            let bounded = bounded.iter().map(|(rate, room)| (gib(*rate), gib(*room))).collect();
            seconds_left(100 * GIB as u64, gib(1.0), bounded)
        };
        assert_eq!(left(&[]), Some(100.0));
        // Its limit is too far away to help.
        assert_eq!(left(&[(0.5, 60.0)]), Some(100.0));
        // Half of it ends after 20 s: 80 GiB are left for the other half.
        assert_eq!(left(&[(0.5, 10.0)]), Some(180.0));
        assert_eq!(left(&[(0.25, 30.0), (0.5, 10.0)]), Some(20.0 + 100.0 + 30.0 / 0.25));
        assert_eq!(left(&[(1.0, 99.0)]), None);
        assert_eq!(left(&[(1.25, 0.0)]), None, "one that is at its limit");
    }

    #[test]
    fn a_process_in_no_container_is_named() {
        let anon = |second| Remainder { root_anon: Some(GIB + 290 * MIB * second), ..Remainder::default() };
        let found = last(FALLS, anon, true).expect("it falls");
        assert!(
            found.summary.ends_with("in no container and no unit: anonymous memory, in importd[812]"),
            "{}",
            found.summary
        );
        assert!(found.advice.contains(&"$ kill 812".to_owned()), "{:?}", found.advice);
        let evidence: Value = serde_json::to_value(&found.evidence).expect("JSON");
        assert_eq!(evidence["unattributed_by_kind"]["anon"], 290.0 * MIB as f64);
        assert_eq!(evidence["unattributed_by_kind_how"], "inferred");
        assert_eq!(evidence["top_process"]["pid"], 812);
    }

    #[test]
    fn what_the_kernel_takes_is_told_by_kind() {
        use crate::aggregator::host::Part;
        let slab = says(|second| Remainder {
            slab: Part { bytes: Some(250 * MIB * second), how: None },
            root_anon: Some(-5 * MIB * second),
            ..Remainder::default()
        });
        assert_eq!(slab, "300 MiB/s of that is in no container and no unit: kernel objects (slab)");
        assert!(
            says(|second| Remainder { hugetlb: Some(299 * MIB * second), ..Remainder::default() })
                .ends_with(": huge pages that are set aside")
        );
        // A kind that is not known may hold it.
        let some = |second| Remainder { root_anon: Some(MIB * second), ..Remainder::default() };
        assert!(says(some).ends_with("no unit"));
        let all = says(|_| {
            let none = Part { bytes: Some(MIB), how: None };
            Remainder {
                root_anon: Some(GIB),
                root_file: Some(0),
                root_shmem: Some(0),
                slab: none,
                percpu: none,
                vmalloc: none,
                page_tables: none,
                kernel_stack: none,
                hugetlb: Some(0),
            }
        });
        assert!(
            all.ends_with(
                ": pages that the kernel counts under no kind, as those of a driver or of a balloon"
            )
        );
    }
}
