//! A hand-made interval for the tests of every view: growth, a pod, hostile names, unknowns, a removed row, losses.

mod calls;
mod dirty;
mod logs;
pub mod stuck;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::{
    calls::calls,
    dirty::dirty,
    logs::{logs, process, stream},
};
use crate::{
    aggregator::{
        pressure::Pressure,
        row::{Growth, How, Log, Memory, Removed, Row, Tasks},
        site::{RowSites, Site, SiteReport},
        work::flight::{Child, Flight, Peer},
    },
    resolve::{Cgroup, Container, Runtime, stack::Stack},
    snapshot::{Host, Loss, Own, Snapshot, Unattributed},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Compares with `tests/golden/view/<name>.snap`.
pub fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/view"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

pub fn container(runtime: Runtime, name: Option<&str>) -> Container {
    numbered(runtime, name, 0xb5)
}

/// Ids and paths differ by `number`.
fn numbered(runtime: Runtime, name: Option<&str>, number: u64) -> Container {
    let digits = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let id = format!("{:032x}{:032x}", digits, digits.rotate_left(37));
    let (id, path) = match runtime {
        Runtime::Docker => (id.clone(), format!("/docker/{id}")),
        Runtime::Systemd | Runtime::Cgroup => {
            let path = String::from("/system.slice/example.service");
            (path.clone(), path)
        }
        _ => (id.clone(), format!("/kubepods/burstable/pod{number:08x}-11ee-4b3f/{id}")),
    };
    Container {
        runtime,
        id,
        name: name.map(str::to_owned),
        pod: None,
        namespace: None,
        image: None,
        sandbox: false,
        cgroup: Cgroup { id: 4000 + number, path },
    }
}

/// A row of which nothing is known.
pub fn row(container: Container) -> Row {
    Row {
        container: Arc::new(container),
        memory: Memory::default(),
        growth_per_s: Growth::default(),
        growth_ewma_per_s: Growth::default(),
        seconds_to_limit: None,
        seconds_to_limit_low: None,
        seconds_to_limit_high: None,
        seconds_to_limit_how: None,
        charged_per_s: None,
        uncharged_per_s: None,
        log: None,
        tasks: Tasks::default(),
        oom_kills: None,
        pressure: Pressure::default(),
        throttled_share: None,
        flight: None,
        removed: None,
        trend: Arc::new([]),
        provenance: None,
    }
}

/// Sites of two of its rows: one that has charged, one that has not yet.
pub fn sites() -> SiteReport {
    let snapshot = snapshot();
    let stack = |frames: &str| Arc::new(Stack::new(frames.split_terminator(", ").map(Arc::from).collect()));
    let site = |pid: u32, comm: &str, frames: &str, charged: u64| Site {
        pid,
        comm: Arc::from(comm),
        stack: stack(frames),
        charged,
        samples: charged / (64 * 4096),
    };
    let sites = vec![
        site(
            4711,
            "importer",
            "page_counter_try_charge, try_charge_memcg, charge_memcg, __mem_cgroup_charge, do_anonymous_page, __handle_mm_fault, handle_mm_fault, do_user_addr_fault, exc_page_fault, asm_exc_page_fault",
            412 * MIB,
        ),
        site(
            4711,
            "importer",
            "try_charge_memcg, __memcg_kmem_charge_page, __alloc_pages, pte_alloc_one, __pte_alloc, __handle_mm_fault",
            9 * MIB,
        ),
        site(
            4720,
            "qemu-img",
            "__mem_cgroup_charge, __filemap_add_folio, filemap_add_folio, __filemap_get_folio, ext4_da_write_begin [ext4], generic_perform_write, ext4_buffered_write_iter [ext4], vfs_write",
            3 * MIB,
        ),
        Site { stack: Arc::new(Stack::unknown()), ..site(4720, "qemu-img", "", MIB) },
    ];
    let row = |at: usize, sites: Vec<Site>| RowSites {
        container: Arc::clone(&snapshot.rows[at].container),
        watched_s: 12.5,
        sites,
    };
    SiteReport {
        how: "charge_site: fentry page_counter_try_charge+page_counter_charge (one kernel stack stands for each batch \
              of 32 or 64 pages)"
            .to_owned(),
        running: true,
        rows: vec![row(0, sites), row(1, Vec::new())],
    }
}

fn unit(path: &str, number: u64) -> Container {
    let mut container = numbered(Runtime::Systemd, None, number);
    container.id = path.to_owned();
    container.cgroup.path = path.to_owned();
    container
}

fn pod(namespace: &str, pod: &str, name: Option<&str>, number: u64) -> Container {
    Container {
        pod: Some(pod.to_owned()),
        namespace: Some(namespace.to_owned()),
        image: Some(String::from("registry.example/team/importer:1.42.0")),
        ..numbered(Runtime::Containerd, name, number)
    }
}

fn memory(anon: u64, file: u64, dirty: u64, kernel: u64) -> Memory {
    Memory {
        current: Some(anon + file + kernel),
        anon: Some(anon),
        file: Some(file),
        shmem: Some(0),
        dirty: Some(dirty),
        writeback: Some(dirty / 4),
        slab: Some(kernel / 2),
        kernel: Some(kernel),
        sock: Some(0),
        swap: Some(0),
        ..Memory::default()
    }
}

fn growth(anon: f64, file: f64, dirty: f64) -> Growth {
    Growth {
        current: Some(anon + file),
        anon: Some(anon),
        file: Some(file),
        shmem: Some(0.0),
        dirty: Some(dirty),
        writeback: Some(0.0),
        slab: Some(0.0),
        kernel: Some(0.0),
        sock: Some(0.0),
        swap: Some(0.0),
    }
}

fn trend(now: u64, per_tick: i64) -> Arc<[Option<u64>]> {
    (0..40).rev().map(|back| Some(now.saturating_add_signed(-per_tick * back))).collect()
}

/// A container that grows: its numbers known throughout.
fn leaking() -> Row {
    let memory = Memory {
        limit: Some(2 * GIB),
        effective_limit: Some(2 * GIB),
        kernel_how: Some(How::Inferred),
        ..memory(1204 * MIB, 96 * MIB, 3 * MIB, 18 * MIB)
    };
    let now = memory.current.unwrap_or_default();
    Row {
        growth_per_s: growth(13.1 * MIB as f64, 0.0, 0.0),
        growth_ewma_per_s: growth(12.3 * MIB as f64, 0.2 * MIB as f64, 0.0),
        seconds_to_limit: Some(58.6),
        seconds_to_limit_low: Some(51.0),
        seconds_to_limit_high: Some(70.2),
        seconds_to_limit_how: Some(How::Inferred),
        charged_per_s: Some(14.0 * MIB as f64),
        uncharged_per_s: Some(0.9 * MIB as f64),
        log: Some(Log {
            bytes_per_s: Some(32.0 * KIB as f64),
            lines_per_s: Some(210.0),
            open_line_bytes: Some(512),
        }),
        tasks: Tasks {
            total: Some(34),
            blocked: Some(0),
            stuck: Some(0),
            execs_per_s: Some(0.0),
            exits_per_s: Some(0.5),
        },
        oom_kills: Some(0),
        pressure: Pressure {
            reclaims: Some(41),
            reclaim_s: Some(1.25),
            reclaimed: Some(96 * MIB),
            reclaims_per_s: Some(3.0),
            reclaim_share: Some(0.06),
            pgmajfault_per_s: Some(12.0),
            workingset_refault_file_per_s: Some(310.0),
            memory_stall_share: Some(0.06),
            memory_stall_share_how: Some(How::Inferred),
            ..Pressure::default()
        },
        throttled_share: Some(0.31),
        flight: Some(Arc::new(flight())),
        trend: trend(now, 12 * MIB as i64),
        provenance: Some(String::from("annotations in the bundle's config.json, beside the shim's")),
        memory,
        ..row(pod("production", "importer-7d9f8c6b5-x2x4z", Some("importer"), 1))
    }
}

/// Three uploads at once, two of which wait for a converter.
fn flight() -> Flight {
    let child = |comm: &str, running, ended| Child {
        comm: Arc::from(comm),
        running,
        oldest_s: (running > 0).then_some(44.5),
        ended: Some(ended),
        p50_s: Some(12.25),
        p50_s_how: None,
        max_s: Some(44.5),
        alive_s: 0.0,
    };
    Flight {
        connections: Some(3),
        connections_growth: Some(2),
        connections_growth_how: None,
        queued: Some(0),
        arrivals: Some(9),
        completions: Some(7),
        arrivals_per_s: Some(0.4),
        completions_per_s: Some(0.2),
        peers: vec![
            Peer { addr: [10, 0, 3, 7].into(), count: 2 },
            Peer { addr: [0xfd00, 0, 0, 0, 0, 0, 0, 0x12].into(), count: 1 },
        ],
        processes: 4,
        threads: 34,
        children: vec![child("qemu-img", 2, 5), child("sh\u{1b}[2J", 0, 31)],
    }
}

fn steady(container: Container, memory: Memory, tasks: u64) -> Row {
    let now = memory.current.unwrap_or_default();
    Row {
        memory,
        growth_per_s: growth(0.0, 0.0, 0.0),
        growth_ewma_per_s: growth(0.0, 0.0, 0.0),
        tasks: Tasks { total: Some(tasks), blocked: Some(0), ..Tasks::default() },
        oom_kills: Some(0),
        trend: trend(now, 0),
        ..row(container)
    }
}

/// Removed in the interval, after 0.3 s of life.
fn short_lived() -> Row {
    let removed = Removed {
        lived_s: Some(0.3),
        peak: Some(312 * MIB),
        left: Some(40 * MIB),
        most: memory(200 * MIB, 0, 0, MIB),
    };
    Row { removed: Some(removed), ..row(pod("batch", "report-28411-q8z7k", Some("render"), 7)) }
}

/// The interval.
pub fn snapshot() -> Snapshot {
    let mut writer = steady(
        numbered(Runtime::Docker, Some("qemu-img"), 2),
        Memory {
            limit: Some(600 * MIB),
            effective_limit: Some(600 * MIB),
            ..memory(23 * MIB, 480 * MIB, 310 * MIB, 9 * MIB)
        },
        4,
    );
    writer.growth_ewma_per_s = growth(0.0, 4.0 * MIB as f64, 3.5 * MIB as f64);
    writer.seconds_to_limit = Some(22.0);
    writer.oom_kills = Some(3);
    writer.trend = (0..40).map(|tick| Some((200 + tick * 37 % 400) * MIB)).collect();

    let mut hostile = steady(
        numbered(Runtime::Docker, Some("\x1b[31mweb\u{202e}gpj.exe\u{200b}\n漢字"), 3),
        memory(64 * MIB, 12 * MIB, 0, MIB),
        9,
    );
    hostile.growth_ewma_per_s = growth(-3.0 * MIB as f64, 0.0, 0.0);
    hostile.trend = trend(76 * MIB, -(3 * MIB as i64));

    let mut daemon =
        steady(unit("/system.slice/containerd.service", 4), memory(4 * GIB, 300 * MIB, MIB, 90 * MIB), 61);
    daemon.growth_ewma_per_s = growth(0.4 * MIB as f64, 0.0, 0.0);
    daemon.tasks.stuck = Some(1);

    let mut root = numbered(Runtime::Cgroup, None, 9);
    root.id = String::from("/");
    root.cgroup.path = String::from("/");
    let root = row(root);

    let mut sandbox = pod("production", "importer-7d9f8c6b5-x2x4z", None, 6);
    sandbox.sandbox = true;

    let rows = vec![
        leaking(),
        writer,
        hostile,
        daemon,
        steady(pod("production", "importer-7d9f8c6b5-x2x4z", None, 5), memory(0, 36 * MIB, 0, 2 * MIB), 0),
        steady(sandbox, memory(200 * KIB, 40 * KIB, 0, 100 * KIB), 1),
        short_lived(),
        row(numbered(Runtime::Podman, None, 8)),
        root,
        steady(unit(r"/system.slice/system-serial\x2dgetty.slice", 10), memory(MIB, MIB / 2, 0, 64 * KIB), 1),
    ];
    Snapshot {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_237_165_250),
        sequence: 42,
        interval_s: 1.0,
        hostname: String::from("node-17"),
        kernel: String::from("6.12.57"),
        host: host(),
        rows: rows.into_iter().map(Arc::new).collect(),
        sites: None,
        calls: None,
        logs: None,
        dirty: Arc::default(),
        kills: Arc::new([]),
        dead: None,
        signals: None,
        daemons: None,
        stuck: None,
        findings: Vec::new(),
        finding_events: Arc::default(),
        probes: Arc::new([
            String::from("charge: fentry:try_charge_memcg"),
            String::from("oom: tp_btf:mark_victim"),
            String::from("log lines: none (not asked for)"),
        ]),
    }
}

fn host() -> Host {
    Host {
        mem_total: Some(32 * GIB - 700 * MIB),
        mem_free: Some(4200 * MIB),
        mem_available: Some(6300 * MIB),
        used: Some(32 * GIB - 4900 * MIB),
        attributed: Some(18 * GIB + 200 * MIB),
        unattributed: Unattributed {
            total: Some(9 * GIB as i64),
            root_anon: Some(40 * MIB as i64),
            root_file: Some(900 * MIB as i64),
            slab: Some(6 * GIB as i64),
            slab_how: Some(How::Inferred),
            percpu: Some(120 * MIB as i64),
            other: Some(-30 * MIB as i64),
            ..Unattributed::default()
        },
        dead_cgroups: Some(312),
        dead_cgroups_how: Some(How::AtLeast),
        seconds_to_exhaustion: None,
        seconds_to_exhaustion_low: None,
        seconds_to_exhaustion_high: None,
        seconds_to_exhaustion_how: None,
        lost_events: 12,
        losses: vec![
            Loss { what: "events did not fit into the ring buffer", count: 12 },
            Loss { what: "cgroups did not fit into the counter map", count: 0 },
        ],
        own: Own {
            cpu_share: Some(0.008),
            rss: Some(21 * MIB),
            maps: Some(9 * MIB),
            tick_p50_s: Some(0.0021),
            tick_p99_s: Some(0.0065),
            programs_share: Some(0.004),
            programs_share_how: Some(How::Sampled),
            over_budget: Vec::new(),
        },
    }
}
