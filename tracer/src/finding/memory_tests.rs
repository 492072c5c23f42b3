//! Findings about rows that grow and a host that runs out, over hand-made runs.

use serde_json::Value;

use super::{
    example::{MIB, container, endless, logs, process, reader, row},
    *,
};
use crate::aggregator::{
    row::{Growth, Memory},
    stream::Reader,
};

const GIB: u64 = 1 << 30;

/// A row after each second of a run, which the host may run out of memory beside.
struct Scene {
    memory: fn(u64) -> Memory,
    limit: Option<u64>,
    available: fn(u64) -> u64,
}

const PLENTY: fn(u64) -> u64 = |_| 200 * GIB;

fn anon(bytes: u64) -> Memory {
    Memory { current: Some(bytes), anon: Some(bytes), file: Some(0), shmem: Some(0), ..Memory::default() }
}

impl Scene {
    fn row(&self, second: u64) -> Arc<Row> {
        let memory = Memory { effective_limit: self.limit, ..(self.memory)(second) };
        let current = memory.current.expect("it is known");
        let before = (self.memory)(second.saturating_sub(1)).current.expect("it is known");
        let rate = current as f64 - before as f64;
        let growth = Growth { current: Some(rate), ..Growth::default() };
        let left = self.limit.map(|limit| limit.saturating_sub(current) as f64 / rate);
        Arc::new(Row {
            growth_ewma_per_s: growth,
            seconds_to_limit: left.filter(|left| left.is_finite() && *left > 0.0),
            ..row(Arc::new(container("shop", "api-3", "api")), memory)
        })
    }

    fn run(&self, seconds: u64) -> Vec<Vec<Arc<Finding>>> {
        let mut watch = Watch::default();
        (0..=seconds)
            .map(|second| {
                let at = Duration::from_secs(second);
                let row = self.row(second);
                let id = row.container.cgroup.id;
                watch.processes(at, id, vec![(process(77, "api"), (self.memory)(second).anon.unwrap_or(0))]);
                let host = HostMemory {
                    total: Some(256 * GIB),
                    free: Some((self.available)(second)),
                    available: Some((self.available)(second)),
                    ..HostMemory::default()
                };
                watch.tick(at, None, &[row], &host, Some(GIB))
            })
            .collect()
    }

    fn last(&self, seconds: u64) -> Vec<Arc<Finding>> {
        self.run(seconds).pop().expect("a tick")
    }
}

fn told(findings: &[Arc<Finding>]) -> Vec<(Kind, Severity)> {
    findings.iter().map(|finding| (finding.kind, finding.severity)).collect()
}

#[test]
fn a_leak_is_told_with_its_process_and_its_end() {
    let scene =
        Scene { memory: |second| anon(100 * MIB + 20 * MIB * second), limit: Some(GIB), available: PLENTY };
    let findings = scene.last(15);
    assert_eq!(told(&findings), [(Kind::MemoryGrowth, Severity::Critical)]);
    assert_eq!(
        findings[0].summary,
        "shop/api-3/api grows by 20.0 MiB/s, nearly all of it anonymous memory, in api[77]; it reaches its limit of \
         1.0 GiB in about 31 s"
    );
    let evidence: Value = serde_json::to_value(&findings[0].evidence).expect("JSON");
    assert_eq!(evidence["bytes_per_s"], 20.0 * MIB as f64);
    assert_eq!(evidence["by_kind"]["anon"], 20.0 * MIB as f64);
    assert_eq!(evidence["by_kind"]["slab"], Value::Null);
    assert_eq!(evidence["seconds_to_limit_how"], "inferred");
    assert_eq!(
        (&evidence["top_process"]["pid"], &evidence["top_process"]["comm"]),
        (&77.into(), &"api".into())
    );
    assert!(findings[0].advice.contains(&"$ memtrace top -c api-3 --sites".to_owned()));
    // Critical from the moment on at which it is sure, a warning while there is time.
    let first = |severity| {
        scene.run(40).iter().position(|open| open.iter().any(|finding| finding.severity == severity))
    };
    assert_eq!(first(Severity::Critical), Some(6));
    let slow =
        Scene { memory: |second| anon(100 * MIB + 5 * MIB * second), limit: Some(GIB), available: PLENTY };
    assert_eq!(told(&slow.last(15)), [(Kind::MemoryGrowth, Severity::Warning)]);
}

#[test]
fn what_fills_its_heap_once_is_none() {
    let scene =
        Scene { memory: |second| anon(100 * MIB * second.min(8)), limit: Some(2 * GIB), available: PLENTY };
    assert!(scene.last(15).is_empty());
}

#[test]
fn clean_page_cache_fills_a_limit_without_harm() {
    let cache = |second: u64| {
        let file = 60 * MIB * second;
        let (current, file) = (Some(50 * MIB + file), Some(file));
        Memory { current, file, anon: Some(50 * MIB), shmem: Some(0), ..Memory::default() }
    };
    let scene = Scene { memory: cache, limit: Some(GIB), available: PLENTY };
    assert!(scene.run(16).iter().all(Vec::is_empty));
    // The same bytes in a tmpfs are lost.
    let tmpfs = |second: u64| Memory {
        shmem: Some(60 * MIB * second),
        current: Some(50 * MIB + 60 * MIB * second),
        file: Some(60 * MIB * second),
        anon: Some(50 * MIB),
        ..Memory::default()
    };
    let findings = Scene { memory: tmpfs, limit: Some(GIB), available: PLENTY }.last(12);
    assert_eq!(told(&findings), [(Kind::MemoryGrowth, Severity::Critical)]);
    assert!(findings[0].summary.contains("nearly all of it tmpfs"), "{}", findings[0].summary);
}

#[test]
fn steady_growth_far_from_any_end_is_worth_a_word() {
    let scene = Scene { memory: |second| anon(100 * MIB + 8 * MIB * second), limit: None, available: PLENTY };
    assert_eq!(told(&scene.last(15)), [(Kind::MemoryGrowth, Severity::Info)]);
    let small = Scene { memory: |second| anon(100 * MIB + MIB * second), ..scene };
    assert!(small.last(15).is_empty());
}

#[test]
fn a_host_that_runs_out_is_one_story_with_who_takes_it() {
    let scene = Scene {
        memory: |second| anon(GIB + 500 * MIB * second),
        limit: None,
        available: |second| 20 * GIB - 500 * MIB * second,
    };
    let findings = scene.last(15);
    assert_eq!(told(&findings), [(Kind::MemoryGrowth, Severity::Critical)]);
    assert_eq!(findings[0].also, [Kind::NodeExhaustion]);
    assert!(
        findings[0].summary.ends_with("the host has no memory left in about 26 s"),
        "{}",
        findings[0].summary
    );
}

#[test]
fn what_no_row_holds_is_told_as_such() {
    let scene =
        Scene { memory: |_| anon(GIB), limit: None, available: |second| 40 * GIB - 300 * MIB * second };
    let findings = scene.last(15);
    assert_eq!(told(&findings), [(Kind::NodeExhaustion, Severity::Warning)]);
    assert!(findings[0].summary.ends_with("is in no container and no unit"), "{}", findings[0].summary);
    let evidence: Value = serde_json::to_value(&findings[0].evidence).expect("JSON");
    assert_eq!(evidence["bytes_per_s"], 300.0 * MIB as f64);
    assert_eq!(evidence["top_containers"], serde_json::json!([]));
    assert_eq!(evidence["unattributed"], (256 * GIB - scene_available(15) - GIB));
    // Nothing falls, but there is little left.
    let still = Scene { available: |_| 5 * GIB, ..scene };
    assert_eq!(told(&still.last(15)), [(Kind::NodeExhaustion, Severity::Warning)]);
    let plenty = Scene { available: |second| 200 * GIB - 10 * MIB * second, ..still };
    assert!(plenty.last(15).is_empty());
}

fn scene_available(second: u64) -> u64 {
    40 * GIB - 300 * MIB * second
}

/// A daemon that hoards a line grows, and the host with it: that is the line's doing.
#[test]
fn growth_that_a_line_explains_is_told_with_the_line() {
    let mut watch = Watch::default();
    let mut findings = Vec::new();
    for second in 0..=15_u64 {
        let written = 50 * MIB * second;
        let daemon =
            Reader { row: Some(4711), anon_growth: Some(written as i64), ..reader(400 * MIB + written) };
        let logs = logs([endless(1, "web-7", written, written)], [daemon]);
        let scene =
            Scene { memory: |second| anon(400 * MIB + 50 * MIB * second), limit: None, available: PLENTY };
        let available = 20 * GIB - written;
        let host = HostMemory {
            total: Some(24 * GIB),
            free: Some(available),
            available: Some(available),
            ..HostMemory::default()
        };
        findings =
            watch.tick(Duration::from_secs(second), Some(&logs), &[scene.row(second)], &host, Some(GIB));
    }
    assert_eq!(told(&findings), [(Kind::UnterminatedLine, Severity::Critical)]);
    assert_eq!(findings[0].also, [Kind::MemoryGrowth, Kind::NodeExhaustion]);
}
