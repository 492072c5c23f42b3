//! Findings about work in flight, over hand-made runs: what must be found, and what is busy and well.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    daemon_tests::{all, leaking, task},
    example::{MIB, container, row, seen},
    *,
};
use crate::{
    aggregator::{
        daemon::{Client, Daemon, Daemons, Role},
        dirty::row::Dirty,
        row::{Growth, Memory},
        stuck::{StuckReport, StuckTask},
        work::flight::{Child, Flight, Peer},
    },
    resolve::wait,
};

const GIB: u64 = 1 << 30;

/// What a row is at in a second of a run.
#[derive(Default, Clone, Copy)]
struct Second {
    anon: u64,
    connections: u64,
    queued: u64,
    arrivals: u64,
    children: u64,
    /// That are at something else all the while.
    beside: u64,
    throttled: f64,
}

fn flight(now: Second, first: Second) -> Flight {
    let stay = |second: Second| (second.connections + second.queued) as i64;
    let arrivals = now.arrivals - first.arrivals;
    let child = Child {
        comm: Arc::from(""),
        running: 0,
        oldest_s: Some(40.0),
        ended: Some(3),
        p50_s: Some(31.5),
        p50_s_how: None,
        max_s: Some(40.0),
        alive_s: 20.0 * now.children as f64,
    };
    Flight {
        connections: Some(now.connections),
        connections_growth: Some(now.connections as i64 - first.connections as i64),
        queued: Some(now.queued),
        arrivals: Some(arrivals),
        completions: Some((arrivals as i64 - (stay(now) - stay(first))) as u64),
        peers: vec![Peer { addr: IpAddr::from([10, 0, 3, 7]), count: now.connections }],
        processes: 1 + now.children + now.beside,
        threads: 9,
        children: [("sleep", now.beside), ("du", now.children)]
            .into_iter()
            .filter(|(_, running)| *running > 0)
            .map(|(comm, running)| Child { comm: Arc::from(comm), running, ..child.clone() })
            .collect(),
        ..Flight::default()
    }
}

/// What is open at the end of so many seconds.
fn last(seconds: u64, limit: Option<u64>, at: impl Fn(u64) -> Second) -> Vec<Arc<Finding>> {
    last_beside(None, None, seconds, limit, at)
}

fn last_beside(
    stuck: Option<&StuckReport>,
    daemons: Option<&Daemons>,
    seconds: u64,
    limit: Option<u64>,
    at: impl Fn(u64) -> Second,
) -> Vec<Arc<Finding>> {
    let mut watch = Watch::default();
    let (host, dirty) =
        (HostMemory { available: Some(200 * GIB), ..HostMemory::default() }, Dirty::default());
    let mut tick = |second: u64| {
        let (now, before) = (at(second), at(second.saturating_sub(1)));
        let rate = now.anon as f64 - before.anon as f64;
        let memory = Memory {
            current: Some(now.anon + 20 * MIB),
            anon: Some(now.anon),
            file: Some(0),
            effective_limit: limit,
            ..Memory::default()
        };
        let growth = Growth { current: Some(rate), anon: Some(rate), ..Growth::default() };
        let left = limit.map(|limit| limit.saturating_sub(now.anon) as f64 / rate);
        let row = Arc::new(Row {
            growth_ewma_per_s: growth,
            seconds_to_limit: left.filter(|left| left.is_finite() && *left > 0.0),
            flight: Some(Arc::new(flight(now, at(0)))),
            throttled_share: Some(now.throttled),
            ..row(Arc::new(container("kube-system", "cadvisor-x", "cadvisor")), memory)
        });
        watch.tick(&Seen { stuck, daemons, ..seen(Duration::from_secs(second), &[row], &host, &dirty) })
    };
    (0..=seconds).map(&mut tick).last().expect("a tick")
}

fn kinds(findings: &[Arc<Finding>]) -> Vec<(Kind, Severity)> {
    findings.iter().map(|finding| (finding.kind, finding.severity)).collect()
}

fn is_none_of_ours(findings: &[Arc<Finding>]) -> bool {
    findings.iter().all(|finding| !matches!(finding.kind, Kind::RequestPileup | Kind::CpuThrottledBacklog))
}

/// Up to `most` more, in an order that looks like chance and is the same each time.
fn noise(second: u64, most: u64) -> u64 {
    (second.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % (most + 1)
}

#[test]
fn slow_children_hold_requests_and_requests_hold_memory() {
    // Two a second come, one in two seconds ends; it had been going on before.
    let pile = |second: u64| Second {
        anon: 100 * MIB + 2 * MIB * (40 + second * 3 / 2),
        connections: 40 + second * 3 / 2,
        arrivals: 7 + 2 * second,
        children: 40 + second * 3 / 2,
        throttled: 0.97,
        ..Second::default()
    };
    let findings = last(12, Some(GIB), pile);
    // One story: that its memory grows is the effect.
    assert_eq!(kinds(&findings), [(Kind::RequestPileup, Severity::Warning)]);
    assert_eq!(findings[0].also, [Kind::MemoryGrowth]);
    assert_eq!(
        findings[0].summary,
        "requests of kube-system/cadvisor-x/cadvisor pile up: 58 connections in flight (+18, 2.0 a second come and 0.5 end), \
         and its anonymous memory grows with them by 3.0 MiB/s; 58 `du` run at once, for up to 40 s; its CPU is \
         throttled in 97 % of the periods"
    );
    let evidence: Value = serde_json::to_value(&findings[0].evidence).expect("JSON");
    for key in [
        "anon_growth_per_s",
        "in_flight",
        "in_flight_growth",
        "arrivals_per_s",
        "completions_per_s",
        "peers",
        "slow_child",
        "top_syscalls",
        "throttled_share",
    ] {
        assert!(evidence.get(key).is_some(), "{key}: {evidence}");
    }
    assert_eq!((&evidence["in_flight"], &evidence["in_flight_growth"]), (&58.into(), &18.into()));
    assert_eq!((&evidence["arrivals_per_s"], &evidence["completions_per_s"]), (&2.0.into(), &0.5.into()));
    assert_eq!(evidence["peers"], serde_json::json!([{"addr": "10.0.3.7", "count": 58}]));
    let child = &evidence["slow_child"];
    assert_eq!((&child["comm"], &child["running"]), (&"du".into(), &58.into()));
    assert_eq!((&child["p50_s"], &child["max_s"]), (&31.5.into(), &40.0.into()));
    assert_eq!(last(12, Some(220 * MIB), pile)[0].severity, Severity::Critical, "the limit is near");
    // Without a limit near it is the slow children that make it trouble.
    assert_eq!(last(12, None, pile)[0].severity, Severity::Warning);
    // A queue's worker has no connections.
    let worker = |second: u64| Second { connections: 0, arrivals: 0, ..pile(second) };
    let findings = last(12, Some(GIB), worker);
    assert_eq!(kinds(&findings), [(Kind::RequestPileup, Severity::Warning)]);
    assert!(findings[0].summary.contains("58 children at work at once"), "{}", findings[0].summary);
}

#[test]
fn a_scrape_every_three_seconds_piles_up_as_well() {
    let slow = |second: u64| Second {
        anon: 300 * MIB + 4 * MIB * (second / 3),
        connections: 70 + second / 3,
        arrivals: second / 3,
        children: 70 + second / 3,
        ..Second::default()
    };
    let findings = last(14, Some(600 * MIB), slow);
    assert_eq!(kinds(&findings), [(Kind::RequestPileup, Severity::Warning)]);
}

#[test]
fn busy_and_steady_is_well() {
    let busy = |second: u64| Second {
        anon: 400 * MIB + noise(second, 40) * MIB,
        connections: 480 + noise(second, 60),
        arrivals: 5_000 + 900 * second,
        children: 20 + noise(second + 7, 9),
        throttled: 0.4,
        ..Second::default()
    };
    for seconds in 6..40 {
        assert!(is_none_of_ours(&last(seconds, Some(GIB), busy)), "after {seconds} s");
    }
}

#[test]
fn a_leak_in_a_busy_server_is_a_leak() {
    let leak = |second: u64| Second { anon: 100 * MIB + 10 * MIB * second, ..busy_beside(second) };
    fn busy_beside(second: u64) -> Second {
        Second { connections: 30 + noise(second, 12), arrivals: 100 * second + 50, ..Second::default() }
    }
    for seconds in 10..40 {
        let findings = last(seconds, Some(GIB), leak);
        assert!(is_none_of_ours(&findings), "after {seconds} s");
        assert_eq!(findings.first().map(|finding| finding.kind), Some(Kind::MemoryGrowth));
    }
}

#[test]
fn connections_that_stay_and_hold_nothing_are_well() {
    // Clients of a web socket: more and more, each for good, and next to nothing for each.
    let idle = |second: u64| Second {
        anon: 200 * MIB + 4096 * 5 * second,
        connections: 1000 + 5 * second,
        arrivals: 5 * second,
        ..Second::default()
    };
    assert!(last(30, Some(GIB), idle).is_empty());
    // The same where memory grows for another reason, and they do not.
    let kept =
        |second: u64| Second { anon: 200 * MIB + 8 * MIB * second, connections: 1000, ..Second::default() };
    assert!(is_none_of_ours(&last(30, Some(GIB), kept)));
}

#[test]
fn a_build_that_forks_is_well() {
    let build = |second: u64| Second {
        anon: 300 * MIB + 30 * MIB * noise(second, 12),
        children: 4 + noise(second + 3, 12),
        throttled: 0.8,
        ..Second::default()
    };
    for seconds in 6..40 {
        assert!(is_none_of_ours(&last(seconds, Some(4 * GIB), build)), "after {seconds} s");
    }
}

/// One process after the other, each of which takes memory.
#[test]
fn what_a_start_brings_up_is_no_pile() {
    let start = |names: u64| {
        move |second: u64| Second {
            anon: 100 * MIB + 12 * MIB * second,
            children: 1 + second / 3,
            beside: 1 + (names - 1) * second / 3,
            ..Second::default()
        }
    };
    for seconds in 6..9 {
        assert!(is_none_of_ours(&last(seconds, None, start(2))), "after {seconds} s");
    }
    assert_eq!(kinds(&last(12, Some(600 * MIB), start(1)))[0].0, Kind::RequestPileup, "of one name");
}

#[test]
fn a_quota_that_makes_work_wait_is_told_where_memory_is_not_the_trouble() {
    let waits = |second: u64| Second {
        anon: 80 * MIB,
        connections: 8,
        queued: 2 * second,
        arrivals: 6 * second,
        throttled: 0.9,
        ..Second::default()
    };
    let findings = last(10, Some(GIB), waits);
    assert_eq!(kinds(&findings), [(Kind::CpuThrottledBacklog, Severity::Warning)]);
    let evidence: Value = serde_json::to_value(&findings[0].evidence).expect("JSON");
    assert!((evidence["throttled_share"].as_f64().expect("it is known") - 0.9).abs() < 1e-9);
    assert_eq!((&evidence["in_flight"], &evidence["queued"]), (&8.into(), &20.into()));
    assert_eq!(
        findings[0].summary,
        "kube-system/cadvisor-x/cadvisor is throttled in 90 % of its CPU periods, and its work piles up: 28 connections are \
         open or wait, +20 since it is watched"
    );
    assert!(last(10, Some(GIB), |second| Second { throttled: 0.05, ..waits(second) }).is_empty());
    assert!(last(10, Some(GIB), |second| Second { queued: noise(second, 3), ..waits(second) }).is_empty());
}

/// Whoever tries again and again to end what cannot end piles up himself: that is not another trouble.
#[test]
fn callers_of_a_daemon_that_waits_for_what_cannot_end_are_told_with_it() {
    let pile = |second: u64| Second {
        anon: (100 + 16 * second) * MIB,
        children: second,
        beside: 12,
        ..Second::default()
    };
    let own = container("kube-system", "cadvisor-x", "cadvisor").cgroup.id;
    let stuck = StuckReport { tasks: vec![Arc::new(task(500, &[]))], ..StuckReport::default() };
    let told = |connected: u32, row: u64| {
        let client = |pid| Client { pid, comm: "du".into(), open: 1, row: Some(row) };
        let daemon = Daemon {
            clients: Some((0..connected).map(client).collect()),
            ..leaking(812, "harbour", Role::Server)
        };
        kinds(&last_beside(Some(&stuck), Some(&all([daemon])), 15, None, pile))
    };
    let both = [(Kind::UnkillableTask, Severity::Critical), (Kind::RequestPileup, Severity::Warning)];
    assert_eq!(told(12, own), both[..1], "whatever else runs there");
    assert_eq!(told(14, own + 1), both, "somebody else's callers");
    assert_eq!(told(3, own), both, "most of its children have nothing to do with it");
}

/// Without a limit there is room for an hour: by itself the pile is worth knowing only.
#[test]
fn tasks_that_wait_for_each_other_are_their_piles_story() {
    let pile = |second: u64| Second {
        anon: 100 * MIB + 2 * MIB * (40 + second),
        connections: 40 + second,
        arrivals: 7 + 2 * second,
        ..Second::default()
    };
    let waits = |on: &str| {
        let own = Arc::new(container("kube-system", "cadvisor-x", "cadvisor"));
        let waiter = StuckTask {
            container: own,
            waits_on: Some(on.to_owned()),
            wait: wait::Kind::Lock,
            sigkill_pending: Some(false),
            ..task(501, &[])
        };
        let stuck = StuckReport { tasks: vec![Arc::new(waiter)], ..StuckReport::default() };
        last_beside(Some(&stuck), None, 12, None, pile)
    };
    let crowd = waits("address space lock (rwsem), held by server[77]");
    assert_eq!(kinds(&crowd), [(Kind::RequestPileup, Severity::Warning)]);
    assert_eq!(crowd[0].also, [Kind::BlockedIo]);
    let disk = waits("inode lock (rwsem), ext4 at /data");
    assert_eq!(kinds(&disk), [(Kind::BlockedIo, Severity::Warning)]);
    assert_eq!(disk[0].also, [Kind::RequestPileup]);
}
