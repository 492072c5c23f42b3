//! Findings about kills and about what the dead hold, from records made by hand.

use std::time::SystemTime;

use serde_json::Value;

use super::{
    example::{MIB, container, process, row},
    *,
};
use crate::aggregator::{
    dead::{Maker, kinds::Pinned, origin::Origin},
    dirty::row::{DirtyRow, Recent},
    oom::{Composition, Source, Victim},
    row::Memory,
};

const GIB: u64 = 1 << 30;

fn kill(memory: Composition, before_attach: bool) -> Kill {
    Kill {
        number: 1,
        at: SystemTime::UNIX_EPOCH,
        before_attach,
        container: Some(Arc::new(container("shop", "import-1", "importer"))),
        victim: Victim { pid: Some(77), comm: Some("qemu-img".to_owned()), ..Victim::default() },
        trigger: None,
        global: Some(false),
        limit_cgroup: None,
        memory,
        source: Some(Source::Kmsg),
        grown: None,
        written_per_s: None,
        processes: Vec::new(),
        top_dirtiers: Vec::new(),
        in_row: None,
        cause: "limit 600 MiB: 590 MiB anonymous memory".to_owned(),
    }
}

fn composition(anon: u64, dirty: u64) -> Composition {
    Composition {
        limit: Some(600 * MIB),
        current: Some(600 * MIB),
        anon: Some(anon),
        file: Some(600 * MIB - anon),
        dirty: Some(dirty),
        writeback: Some(0),
        ..Composition::default()
    }
}

fn tick(
    watch: &mut Watch,
    rows: &[Arc<Row>],
    dirty: &Dirty,
    kills: &[Arc<Kill>],
    dead: Option<&DeadReport>,
) -> Vec<Arc<Finding>> {
    let host = HostMemory { total: Some(24 * GIB), ..HostMemory::default() };
    watch.tick(&Seen { kills, dead, ..example::seen(Duration::ZERO, rows, &host, dirty) })
}

fn told(findings: &[Arc<Finding>]) -> Vec<(Kind, Severity)> {
    findings.iter().map(|finding| (finding.kind, finding.severity)).collect()
}

fn evidence(finding: &Finding) -> Value {
    serde_json::to_value(&finding.evidence).expect("JSON")
}

#[test]
fn a_kill_is_critical_and_an_old_one_is_worth_knowing() {
    let nothing = Dirty::default();
    let now = [Arc::new(kill(composition(590 * MIB, 0), false))];
    let found = tick(&mut Watch::default(), &[], &nothing, &now, None);
    assert_eq!(told(&found), [(Kind::OomKill, Severity::Critical)]);
    assert_eq!(
        found[0].summary,
        "qemu-img[77] of shop/import-1/importer was killed for want of memory: limit 600 MiB: 590 MiB anonymous memory"
    );
    let evidence = evidence(&found[0]);
    assert_eq!(evidence["victim"]["pid"], 77);
    assert_eq!((&evidence["memory"]["limit"], &evidence["source"]), (&(600 * MIB).into(), &"kmsg".into()));
    assert_eq!(evidence["before_attach"], false);
    assert!(evidence["trigger"].is_null() && evidence["limit_cgroup"].is_null());
    // Several of one container are one finding.
    let twice = [Arc::new(kill(composition(590 * MIB, 0), true)), now[0].clone()];
    let found = tick(&mut Watch::default(), &[], &nothing, &twice, None);
    assert_eq!(told(&found), [(Kind::OomKill, Severity::Critical)]);
    let old = [Arc::new(kill(composition(590 * MIB, 0), true))];
    let found = tick(&mut Watch::default(), &[], &nothing, &old, None);
    assert_eq!(told(&found), [(Kind::OomKill, Severity::Info)]);
    let when = "was killed for want of memory before memtrace came, at 1970-01-01T00:00:00.000Z: limit";
    assert!(found[0].summary.contains(when), "{}", found[0].summary);
}

/// A kernel log full of them is a line.
#[test]
fn of_kills_before_attach_the_last_are_told() {
    let of = |number: u64, before_attach| {
        let container = container("shop", &format!("import-{number}"), &format!("importer-{number}"));
        let container = Some(Arc::new(Container { id: format!("{number:064}"), ..container }));
        Arc::new(Kill { container, ..kill(composition(590 * MIB, 0), before_attach) })
    };
    let kills: Vec<Arc<Kill>> = (0..10).map(|number| of(number, number != 3)).collect();
    let found = tick(&mut Watch::default(), &[], &Dirty::default(), &kills, None);
    let critical = found.iter().filter(|finding| finding.severity == Severity::Critical);
    assert_eq!((found.len(), critical.count()), (5, 1));
    let more: Vec<&str> =
        found.iter().filter_map(|finding| finding.summary.split_once("; ").map(|(_, more)| more)).collect();
    assert_eq!(more, ["5 more had kills before that, which `memtrace oom -d 1` tells"]);
}

#[test]
fn a_kill_by_dirty_pages_is_one_story_with_their_pressure() {
    let memory = Memory {
        current: Some(599 * MIB),
        effective_limit: Some(600 * MIB),
        anon: Some(23 * MIB),
        file: Some(570 * MIB),
        dirty: Some(540 * MIB),
        writeback: Some(0),
        ..Memory::default()
    };
    let row = Arc::new(row(Arc::new(container("shop", "import-1", "importer")), memory));
    let dirty = Dirty {
        rows: vec![Arc::new(DirtyRow {
            row: row.container.cgroup.id,
            container: Arc::clone(&row.container),
            removed: false,
            dirtied: None,
            dirtied_how: None,
            written: None,
            written_how: None,
            cleaned: None,
            dirtied_per_s: None,
            written_per_s: None,
            dirty: None,
            writeback: None,
            throttled_s: None,
            throttled_per_s: None,
            processes: Vec::new(),
            files: Vec::new(),
            recent: vec![Recent {
                process: process(77, "qemu-img"),
                path: None,
                node: crate::resolve::stream::Node { dev: 1, ino: 2 },
                backing: false,
                dirtied: 540 * MIB,
            }],
            before_attach: None,
        })],
    };
    let kills = [Arc::new(kill(composition(23 * MIB, 540 * MIB), false))];
    let found = tick(&mut Watch::default(), &[Arc::clone(&row)], &dirty, &kills, None);
    assert_eq!(told(&found), [(Kind::DirtyPagePressure, Severity::Critical)]);
    assert_eq!(found[0].also, [Kind::OomKill]);
    // A heap that was full has another cause, whatever was dirty beside it.
    let heap = [Arc::new(kill(composition(580 * MIB, 10 * MIB), false))];
    let found = tick(&mut Watch::default(), &[row], &dirty, &heap, None);
    assert_eq!(found.len(), 2, "{found:?}");
}

fn dead(count: u64, pinned: u64) -> DeadReport {
    let origin = Origin {
        origin: "shop/crasher".to_owned(),
        count,
        pinned: Some(pinned),
        pinned_how: None,
        oldest_s: Some(60.0),
        oldest_s_how: None,
        seen_alive: true,
        runtime: None,
        pod: None,
        namespace: None,
        image: None,
        parent: None,
        examples: Vec::new(),
    };
    let workload = Arc::new(container("shop", "crasher-1", "crasher"));
    DeadReport {
        dead: count,
        pinned: Pinned { total: Some(pinned), shmem: Some(pinned / 2), ..Pinned::default() },
        inherited_slab: Some(19 * MIB),
        made_per_s: Some(2.0),
        by_origin: vec![origin],
        makers: vec![Maker {
            parent: None,
            workload: Some(workload),
            origin: "shop/crasher".to_owned(),
            made: 60,
            per_s: Some(2.0),
        }],
        ..DeadReport::default()
    }
}

#[test]
fn the_dead_are_trouble_by_what_they_pin_or_by_their_number() {
    let of = |count, pinned| {
        let dead = dead(count, pinned);
        tick(&mut Watch::default(), &[], &Dirty::default(), &[], Some(&dead))
    };
    assert!(of(11, 50 * MIB).is_empty(), "a handful is ordinary");
    assert!(of(40, 3 * GIB).is_empty(), "as is one large cache");
    assert_eq!(told(&of(150, 20 * MIB)), [(Kind::DeadCgroups, Severity::Info)]);
    assert_eq!(told(&of(500, 600 * MIB)), [(Kind::DeadCgroups, Severity::Warning)]);
    assert_eq!(told(&of(5000, 10 * MIB)), [(Kind::DeadCgroups, Severity::Warning)]);
    let found = of(500, 8 * GIB);
    assert_eq!(told(&found), [(Kind::DeadCgroups, Severity::Critical)]);
    assert_eq!(
        found[0].summary,
        "500 removed memory cgroups are still kept by the kernel and pin 8.0 GiB (33 % of the host's memory): no container \
         shows it; most came from shop/crasher (500 of them); 60 more were made by shop/crasher-1/crasher in the last half \
         minute"
    );
    assert_eq!(found[0].container.as_ref().and_then(|of| of.pod.as_deref()), Some("crasher-1"));
    let evidence = evidence(&found[0]);
    assert_eq!(evidence["count"], 500);
    assert_eq!(
        (&evidence["pinned"]["total"], &evidence["pinned"]["anon"]),
        (&(8 * GIB).into(), &Value::Null)
    );
    assert_eq!(evidence["inherited_slab_how"], "inferred");
    assert_eq!(evidence["by_origin"][0]["origin"], "shop/crasher");
}
