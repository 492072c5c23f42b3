//! Findings about rows that grow and a host that runs out, over hand-made runs.

use serde_json::Value;

use super::{
    example::{MIB, container, endless, logs, process, reader, row},
    *,
};
use crate::aggregator::{
    dirty::row::Dirty,
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
        self.run_with(seconds, |_| {})
    }

    fn run_with(&self, seconds: u64, change: impl Fn(&mut Row)) -> Vec<Vec<Arc<Finding>>> {
        let mut watch = Watch::default();
        (0..=seconds)
            .map(|second| {
                let at = Duration::from_secs(second);
                let mut row = self.row(second);
                change(Arc::make_mut(&mut row));
                let id = row.container.cgroup.id;
                watch.processes(
                    at,
                    Some(id),
                    vec![(process(77, "api"), (self.memory)(second).anon.unwrap_or(0))],
                );
                let host = HostMemory {
                    total: Some(256 * GIB),
                    free: Some((self.available)(second)),
                    available: Some((self.available)(second)),
                    ..HostMemory::default()
                };
                watch.tick(&seen(at, &[row], &host, None))
            })
            .collect()
    }

    fn last(&self, seconds: u64) -> Vec<Arc<Finding>> {
        self.run(seconds).pop().expect("a tick")
    }
}

fn seen<'a>(at: Duration, rows: &'a [Arc<Row>], host: &'a HostMemory, logs: Option<&'a Logs>) -> Seen<'a> {
    static NOTHING: Dirty = Dirty { rows: Vec::new() };
    Seen { held: Some(GIB), logs, ..example::seen(at, rows, host, &NOTHING) }
}

fn told(findings: &[Arc<Finding>]) -> Vec<(Kind, Severity)> {
    findings.iter().map(|finding| (finding.kind, finding.severity)).collect()
}

/// No forecast for the limit: it is the limit that comes first all the same, not the end of the host.
#[test]
fn what_its_limit_holds_is_no_end_of_the_host() {
    let scene =
        |limit| Scene { memory: |second| anon(100 * MIB + 20 * MIB * second), limit, available: |_| 8 * GIB };
    let last = |limit| {
        let run = scene(limit).run_with(15, |row| row.seconds_to_limit = None);
        run.into_iter().last().expect("a tick")
    };
    let limited = last(Some(GIB));
    assert_eq!(told(&limited), [(Kind::MemoryGrowth, Severity::Info)]);
    assert!(limited[0].summary.ends_with("in api[77] below its limit of 1.0 GiB"), "{}", limited[0].summary);
    let unlimited = last(None);
    assert_eq!(told(&unlimited), [(Kind::MemoryGrowth, Severity::Warning)]);
    assert!(unlimited[0].summary.contains("without a limit, the host has no memory left"));
}

/// A build takes as much in ten seconds, and is over.
#[test]
fn the_end_of_the_host_is_foreseen_from_what_was_watched_for_long_enough() {
    let scene = Scene {
        memory: |second| anon(100 * MIB + 50 * MIB * second),
        limit: None,
        available: |second| 20 * GIB - 50 * MIB * second,
    };
    let serious = |open: &Vec<Arc<Finding>>| open.iter().any(|finding| finding.severity > Severity::Info);
    let first = scene.run(40).iter().position(serious).expect("it goes on");
    assert!((12..=16).contains(&first), "after {first} s of some 400");
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

/// Every other tool sees a container that stands at its limit.
#[test]
fn what_is_swapped_out_is_growth_all_the_same() {
    let swaps = |second: u64, swap_limit| Memory {
        swap: Some(20 * MIB * second),
        swap_limit,
        anon: Some(290 * MIB),
        ..anon(300 * MIB)
    };
    let free = HostMemory { available: Some(200 * GIB), swap_free: Some(4 * GIB), ..HostMemory::default() };
    let last = |swap_limit| {
        let mut watch = Watch::default();
        let mut found = Vec::new();
        for second in 0..=12 {
            let growth = Growth { current: Some(0.0), swap: Some(20.0 * MIB as f64), ..Growth::default() };
            let memory = Memory { effective_limit: Some(300 * MIB), ..swaps(second, swap_limit) };
            let row =
                Row { growth_ewma_per_s: growth, ..row(Arc::new(container("shop", "api-3", "api")), memory) };
            let at = Duration::from_secs(second);
            found = watch.tick(&seen(at, &[Arc::new(row)], &free, None));
        }
        found
    };
    let found = last(None);
    assert_eq!(told(&found), [(Kind::MemoryGrowth, Severity::Warning)]);
    assert_eq!(
        found[0].summary,
        "shop/api-3/api grows by 20.0 MiB/s, nearly all of it anonymous memory that is swapped out within its limit of \
         300 MiB; swap is full in about 3m 25s"
    );
    let evidence: Value = serde_json::to_value(&found[0].evidence).expect("JSON");
    assert_eq!(
        (&evidence["swap"], &evidence["by_kind"]["swap"]),
        (&(240 * MIB).into(), &(20.0 * MIB as f64).into())
    );
    // What it may swap itself ends sooner.
    let found = last(Some(300 * MIB));
    assert_eq!(told(&found), [(Kind::MemoryGrowth, Severity::Critical)]);
    assert!(found[0].summary.ends_with("swap is full in about 3.0 s"), "{}", found[0].summary);
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
        findings = watch.tick(&seen(Duration::from_secs(second), &[scene.row(second)], &host, Some(&logs)));
    }
    assert_eq!(told(&findings), [(Kind::UnterminatedLine, Severity::Critical)]);
    assert_eq!(findings[0].also, [Kind::MemoryGrowth, Kind::NodeExhaustion]);
}

mod dirty {
    //! A limit full of pages that are not written back yet.

    use super::*;
    use crate::{
        aggregator::dirty::row::{DirtyRow, File, Recent, Writer},
        resolve::stream::Node,
    };

    const NODE: Node = Node { dev: 7, ino: 12 };

    fn pages(row: &Row, inflow: f64, outflow: f64, by: &str) -> DirtyRow {
        let process = process(4242, by);
        DirtyRow {
            row: row.container.cgroup.id,
            container: Arc::clone(&row.container),
            removed: false,
            dirtied: Some(900 * MIB),
            dirtied_how: None,
            written: Some(300 * MIB),
            written_how: None,
            cleaned: None,
            dirtied_per_s: Some(inflow),
            written_per_s: Some(outflow),
            dirty: row.memory.dirty,
            writeback: row.memory.writeback,
            throttled_s: None,
            throttled_per_s: None,
            processes: Vec::new(),
            files: Vec::new(),
            recent: vec![Recent {
                process,
                path: Some(Arc::from("/data/disk.img")),
                node: NODE,
                backing: false,
                dirtied: 800 * MIB,
            }],
            before_attach: None,
        }
    }

    fn importer(dirty: u64, current: u64) -> Arc<Row> {
        let memory = Memory {
            current: Some(current),
            effective_limit: Some(600 * MIB),
            anon: Some(23 * MIB),
            file: Some(current - 23 * MIB),
            shmem: Some(0),
            dirty: Some(dirty),
            writeback: Some(0),
            ..Memory::default()
        };
        Arc::new(row(Arc::new(container("shop", "import-1", "importer")), memory))
    }

    /// Sums as if the rates had been the same since the beginning.
    fn tick(watch: &mut Watch, second: u64, row: &Arc<Row>, mut pages: DirtyRow) -> Vec<Arc<Finding>> {
        let sum = |rate: Option<f64>| rate.map(|rate| (rate * second as f64) as u64);
        (pages.dirtied, pages.written) = (sum(pages.dirtied_per_s), sum(pages.written_per_s));
        tick_with(watch, second, row, pages)
    }

    fn tick_with(watch: &mut Watch, second: u64, row: &Arc<Row>, pages: DirtyRow) -> Vec<Arc<Finding>> {
        let (host, dirty) = (HostMemory::default(), Dirty { rows: vec![Arc::new(pages)] });
        let at = Duration::from_secs(second);
        watch.tick(&example::seen(at, std::slice::from_ref(row), &host, &dirty))
    }

    #[test]
    fn the_worst_moment_is_told_and_stays_for_a_minute() {
        let mut watch = Watch::default();
        let calm = importer(10 * MIB, 100 * MIB);
        assert!(tick(&mut watch, 0, &calm, pages(&calm, 5e6, 5e6, "qemu-img")).is_empty());
        let near = importer(200 * MIB, 400 * MIB);
        let found = tick(&mut watch, 1, &near, pages(&near, 90e6, 40e6, "qemu-img"));
        assert_eq!(told(&found), [(Kind::DirtyPagePressure, Severity::Warning)]);
        let full = importer(541 * MIB, 599 * MIB);
        let found = tick(&mut watch, 2, &full, pages(&full, 90e6, 40e6, "qemu-img"));
        assert_eq!(told(&found), [(Kind::DirtyPagePressure, Severity::Critical)]);
        assert_eq!(
            found[0].summary,
            "541 MiB of the limit of 600 MiB (90 %) of shop/import-1/importer is page cache not yet on disk, written by \
             qemu-img[4242] to /data/disk.img (85.8 MiB/s in, 38.1 MiB/s written back over 2.0 s); its processes hold only 23.0 MiB \
             themselves"
        );
        let evidence: Value = serde_json::to_value(&found[0].evidence).expect("JSON");
        assert_eq!((&evidence["limit"], &evidence["dirty"]), (&(600 * MIB).into(), &(541 * MIB).into()));
        assert_eq!(evidence["top_dirtiers"][0]["path"], "/data/disk.img");
        assert!(found[0].advice.contains(&"$ memtrace dirty -c import-1".to_owned()));
        // It was killed, or written back: the picture is empty, the story is not.
        let found = tick(&mut watch, 30, &calm, pages(&calm, 0.0, 0.0, "qemu-img"));
        assert_eq!(told(&found), [(Kind::DirtyPagePressure, Severity::Critical)]);
        assert!(tick(&mut watch, 100, &calm, pages(&calm, 0.0, 0.0, "qemu-img")).is_empty());
    }

    #[test]
    fn a_write_back_that_keeps_up_is_none() {
        let mut watch = Watch::default();
        let row = importer(130 * MIB, 400 * MIB);
        assert!(tick(&mut watch, 0, &row, pages(&row, 40e6, 60e6, "dd")).is_empty());
        let idle = importer(90 * MIB, 590 * MIB);
        assert!(tick(&mut watch, 1, &idle, pages(&idle, 60e6, 40e6, "dd")).is_empty());
    }

    /// Pages wait half a minute for their turn: nothing is known of the disk before.
    #[test]
    fn what_is_not_written_yet_is_no_pressure_until_the_limit_is_full() {
        let mut watch = Watch::default();
        let young = importer(200 * MIB, 400 * MIB);
        assert!(tick(&mut watch, 0, &young, pages(&young, 16e6, 0.0, "app")).is_empty());
        assert!(tick(&mut watch, 1, &young, pages(&young, 16e6, 0.0, "app")).is_empty());
        // A page of the file system's own.
        let page =
            Row { memory: Memory { writeback: Some(4096), ..young.memory.clone() }, ..(*young).clone() };
        let page = Arc::new(page);
        assert!(tick(&mut watch, 1, &page, pages(&page, 16e6, 455.0, "app")).is_empty());
        let begun =
            Row { memory: Memory { writeback: Some(MIB), ..young.memory.clone() }, ..(*young).clone() };
        let begun = Arc::new(begun);
        let found = tick(&mut watch, 2, &begun, pages(&begun, 16e6, 0.0, "app"));
        assert_eq!(told(&found), [(Kind::DirtyPagePressure, Severity::Warning)]);
    }

    /// It comes to an end when the kernel writes it: no forecast of a limit is made of it.
    #[test]
    fn growth_that_is_to_be_written_is_worth_a_word_at_most() {
        let mut watch = Watch::default();
        let (host, none) = (HostMemory::default(), Dirty::default());
        let mut found = Vec::new();
        for second in 0..=12_u64 {
            let young = importer(16 * MIB * second, 100 * MIB + 16 * MIB * second);
            let grows = Growth { current: Some(16e6), ..Growth::default() };
            let young = Row { growth_ewma_per_s: grows, seconds_to_limit: Some(20.0), ..(*young).clone() };
            let at = Duration::from_secs(second);
            found = watch.tick(&example::seen(at, &[Arc::new(young)], &host, &none));
        }
        assert_eq!(told(&found), [(Kind::MemoryGrowth, Severity::Info)]);
    }

    /// It takes 40 MB each fourth second, all at once.
    #[test]
    fn rates_are_of_a_window_not_of_what_a_disk_completes_at_once() {
        let mut watch = Watch::default();
        let mut found = Vec::new();
        for second in 0..=12_u64 {
            let filled = importer((second + 1) * 41 * MIB, if second < 12 { 400 * MIB } else { 599 * MIB });
            let mut pages = pages(&filled, 40e6, if second % 4 == 0 { 40e6 } else { 0.0 }, "qemu-img");
            (pages.dirtied, pages.written) = (Some(40_000_000 * second), Some(40_000_000 * (second / 4)));
            found = tick_with(&mut watch, second, &filled, pages);
        }
        let evidence: Value = serde_json::to_value(&found[0].evidence).expect("JSON");
        // In the worst interval as much was written as became dirty; in the ten seconds before a quarter or so.
        assert_eq!((&evidence["dirtied_per_s"], &evidence["rates_over_s"]), (&40e6.into(), &10.0.into()));
        assert_eq!(evidence["written_per_s"], 12e6);
        assert!(
            found[0].summary.contains("(38.1 MiB/s in, 11.4 MiB/s written back over 10 s)"),
            "{}",
            found[0].summary
        );
    }

    #[test]
    fn who_did_it_before_attach_is_inferred() {
        let full = importer(541 * MIB, 599 * MIB);
        let mut still = pages(&full, 0.0, 0.0, "none");
        still.recent.clear();
        still.processes =
            vec![Writer { process: process(4242, "qemu-img"), dirtied: 0, before_attach: Some(700 * MIB) }];
        still.files = vec![File {
            path: Some(Arc::from("/data/disk.img")),
            node: NODE,
            dirtied: 0,
            backing: false,
            before_attach: Some(700 * MIB),
            open_before: true,
        }];
        let found = tick(&mut Watch::default(), 0, &full, still);
        let evidence: Value = serde_json::to_value(&found[0].evidence).expect("JSON");
        assert_eq!(evidence["top_dirtiers_how"], "inferred");
        assert_eq!(evidence["top_dirtiers"][0]["comm"], "qemu-img");
        assert_eq!(evidence["top_dirtiers"][0]["path"], "/data/disk.img");
    }
}
