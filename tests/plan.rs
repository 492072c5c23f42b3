//! Which hook serves each probe, decided over recorded facts of real kernels (`memtrace doctor --facts`) and
//! over facts made by hand. Needs no kernel; a reason stands with each assertion.

#[path = "lack.rs"]
mod lack;

use std::{fs, path::PathBuf};

use lack::{
    Change, confidentiality, hybrid, integrity, neither, no_btf, no_fentry, no_kprobe, no_tracefs, root_only,
    tracepoints_alone, v1,
};
use tracer::{
    kernel::Facts,
    probe::{
        plan::{Force, Planned, Wishes, plan},
        registry::{Kind, PROBES},
    },
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/facts")
}

fn facts(kernel: &str) -> Facts {
    let text = fs::read_to_string(folder().join(format!("{kernel}.json"))).expect("a recorded kernel");
    serde_json::from_str(&text).expect("facts as doctor writes them")
}

fn planned(facts: &Facts, wishes: &Wishes, probe: &str) -> Planned {
    plan(facts, wishes).into_iter().find(|planned| planned.probe.name == probe).expect("a probe of that name")
}

/// What would be attached first without asking: kind and target.
fn choice(facts: &Facts, wishes: &Wishes, probe: &str) -> Option<(Kind, String)> {
    planned(facts, wishes, probe)
        .candidates
        .iter()
        .find(|candidate| candidate.why_not.is_none() && !candidate.on_demand)
        .map(|candidate| (candidate.alternative.kind, candidate.alternative.target()))
}

fn kind(facts: &Facts, wishes: &Wishes, probe: &str) -> Option<Kind> {
    choice(facts, wishes, probe).map(|(kind, _)| kind)
}

/// Why the first alternative of that kind is passed over.
fn why_not(facts: &Facts, probe: &str, kind: Kind) -> String {
    planned(facts, &Wishes::default(), probe)
        .candidates
        .iter()
        .find(|candidate| candidate.alternative.kind == kind)
        .and_then(|candidate| candidate.why_not.clone())
        .unwrap_or_default()
}

fn asked() -> Wishes {
    Wishes { per_page: true, written: true, on_demand: true, ..Wishes::default() }
}

/// A probe, what serves it by default, and what does if it is asked for.
type Choice = (&'static str, Option<&'static str>, &'static str);

const LIFE: Choice = ("cgroup_life", Some("tp_btf cgroup_mkdir"), "tp_btf cgroup_mkdir");
const TASKS: Choice = ("task_life", Some("tp_btf sched_process_exec"), "tp_btf sched_process_exec");
/// fentry is cheaper than kprobe, a hook once a batch than one once a page.
const BATCHED: Choice = ("charge", Some("fentry page_counter_try_charge"), "fentry page_counter_try_charge");
const PAGED: Choice = ("charge", None, "tp_btf mod_memcg_lruvec_state");
/// Always waits for a container to be chosen.
const SITES: Choice = ("charge_site", None, "fentry page_counter_try_charge");
const SITES_PAGED: Choice = ("charge_site", None, "tp_btf mod_memcg_lruvec_state");

/// Hooked where pipes are written to, only those pay who do; else every system call does. kprobes would be cheaper, but
/// have no room for all that wait in pipes.
const LINES: Choice = ("log_write", Some("fentry anon_pipe_write"), "fentry anon_pipe_write");
const LINES_BTF: Choice = ("log_write", Some("tp_btf sys_exit"), "tp_btf sys_exit");
const NO_LINES: Choice = ("log_write", None, "");

const DIRTY: Choice = ("dirty", Some("tp_btf writeback_dirty_folio"), "tp_btf writeback_dirty_folio");
/// A function that ends the write-back of a folio runs once for it, statistics do for each of their kinds: only on request.
const WRITTEN: Choice =
    ("writeback_done", Some("fentry __folio_end_writeback"), "fentry __folio_end_writeback");
/// Up to 5.15 there are no folios.
const DIRTY_PAGES: Choice = ("dirty", Some("tp_btf writeback_dirty_page"), "tp_btf writeback_dirty_page");
const WRITTEN_PAGED: Choice = ("writeback_done", None, "tp_btf mod_memcg_lruvec_state");
const NO_WRITTEN: Choice = ("writeback_done", None, "");
const NO_THROTTLE: Choice = ("dirty_throttle", None, "");
const NO_ARRIVALS: Choice = ("arrivals", None, "");
const NO_DEAD: Choice = ("dead_cgroups", None, "");
const NO_RECLAIM: Choice = ("reclaim", None, "");
const NO_DIRTY: Choice = ("dirty", None, "");

/// What serves everywhere, where nothing else is said.
const ELSE: [Choice; 11] = [
    ("blocked", Some("tp_btf sched_switch"), "tp_btf sched_switch"),
    ("blocked_before", Some("iter task"), "iter task"),
    // Always waits to be asked for.
    ("syscall", None, "tp_btf sys_exit"),
    ("arrivals", Some("tp_btf inet_sock_set_state"), "tp_btf inet_sock_set_state"),
    DIRTY,
    WRITTEN,
    ("dirty_throttle", Some("tracepoint balance_dirty_pages"), "tracepoint balance_dirty_pages"),
    ("oom_kill", Some("tp_btf mark_victim"), "tp_btf mark_victim"),
    ("reclaim", Some("tp_btf mm_vmscan_direct_reclaim_begin"), "tp_btf mm_vmscan_direct_reclaim_begin"),
    ("dead_cgroups", Some("iter task"), "iter task"),
    ("signal", Some("tp_btf signal_generate"), "tp_btf signal_generate"),
];

/// Every recorded kernel.
const RECORDED: &[(&str, &[Choice])] = &[
    ("5.10", &[LIFE, TASKS, BATCHED, SITES, LINES, DIRTY_PAGES]),
    ("6.1", &[LIFE, TASKS, BATCHED, SITES, LINES]),
    ("6.12", &[LIFE, TASKS, BATCHED, SITES, LINES]),
    // No kprobes, and trampolines are refused: only hooks on every page are there, and those wait to be asked for.
    ("6.18", &[LIFE, TASKS, PAGED, SITES_PAGED, LINES_BTF, WRITTEN_PAGED]),
    ("7.2", &[LIFE, TASKS, BATCHED, SITES, LINES]),
];

#[test]
fn every_recorded_kernel_has_the_plan_that_is_expected() {
    for (kernel, probes) in RECORDED {
        let facts = facts(kernel);
        expect(kernel, &facts, probes);
    }
    let mut recorded: Vec<String> =
        fs::read_dir(folder()).expect("the fixtures").flatten().map(name).collect();
    recorded.sort();
    let mut expected: Vec<&str> = RECORDED.iter().map(|(kernel, _)| *kernel).collect();
    expected.sort_unstable();
    assert_eq!(recorded, expected, "a recorded kernel without an expectation, or the other way round");
}

fn name(entry: fs::DirEntry) -> String {
    entry.path().file_stem().expect("a name").to_string_lossy().into_owned()
}

/// Names the choice of every probe there is: one that is forgotten here fails as well.
fn expect(what: &str, facts: &Facts, probes: &[Choice]) {
    let said = |wishes: &Wishes, probe| {
        choice(facts, wishes, probe)
            .map(|(kind, target)| format!("{kind} {}", target.split('+').next().unwrap_or_default()))
    };
    for probe in PROBES {
        let expected = probes.iter().chain(&ELSE).find(|(name, ..)| *name == probe.name);
        let (_, by_default, asked_for) =
            expected.unwrap_or_else(|| panic!("{what}: nothing is expected of {}", probe.name));
        assert_eq!(said(&Wishes::default(), probe.name).as_deref(), *by_default, "{what}: {}", probe.name);
        let asked_for = Some(*asked_for).filter(|choice| !choice.is_empty());
        assert_eq!(said(&asked(), probe.name).as_deref(), asked_for, "{what}: {} when asked for", probe.name);
    }
}

/// Kernels and hosts that nobody recorded, made from one that was: what is taken away, and what serves then.
#[test]
fn what_a_kernel_lacks_moves_the_choice() {
    const NO_LIFE: Choice = ("cgroup_life", None, "");
    const NO_TASKS: Choice = ("task_life", None, "");
    const NO_CHARGE: Choice = ("charge", None, "");
    const NO_SITES: Choice = ("charge_site", None, "");
    const CLASSIC: Choice = ("cgroup_life", Some("tracepoint cgroup_mkdir"), "tracepoint cgroup_mkdir");
    const KPROBE: Choice =
        ("charge", Some("kprobe page_counter_try_charge"), "kprobe page_counter_try_charge");
    const NO_OOM: Choice = ("oom_kill", None, "");
    const MARK_VICTIM: Choice = ("oom_kill", Some("tracepoint mark_victim"), "tracepoint mark_victim");
    const NO_CALLS: Choice = ("syscall", None, "");
    const NO_SIGNAL: Choice = ("signal", None, "");
    const NO_BLOCKED: Choice = ("blocked", None, "");
    const NO_BLOCKED_BEFORE: Choice = ("blocked_before", None, "");
    const NO_BTF: &[Choice] = &[
        NO_BLOCKED,
        NO_BLOCKED_BEFORE,
        NO_SIGNAL,
        NO_CALLS,
        CLASSIC,
        NO_TASKS,
        NO_CHARGE,
        NO_SITES,
        NO_LINES,
        NO_ARRIVALS,
        NO_DEAD,
        NO_DIRTY,
        NO_WRITTEN,
        NO_THROTTLE,
        NO_RECLAIM,
        MARK_VICTIM,
    ];
    let cases: &[(&str, &str, Change, &[Choice])] = &[
        ("6.12", "no BTF", no_btf, NO_BTF),
        ("7.2", "no BTF, where charges have tracepoints: their items are not known", no_btf, NO_BTF),
        ("6.12", "no tracefs", no_tracefs, &[LIFE, TASKS, BATCHED, SITES, LINES, NO_THROTTLE]),
        (
            "6.12",
            "no fentry",
            no_fentry,
            &[
                LIFE,
                TASKS,
                KPROBE,
                ("charge_site", None, "kprobe page_counter_try_charge"),
                LINES_BTF,
                ("writeback_done", Some("kprobe __folio_end_writeback"), "kprobe __folio_end_writeback"),
            ],
        ),
        ("6.12", "no kprobe", no_kprobe, &[LIFE, TASKS, BATCHED, SITES, LINES]),
        ("6.12", "neither", neither, &[LIFE, TASKS, NO_CHARGE, NO_SITES, LINES_BTF, NO_WRITTEN]),
        (
            "7.2",
            "neither, where charges have tracepoints",
            neither,
            &[LIFE, TASKS, PAGED, SITES_PAGED, LINES_BTF, WRITTEN_PAGED],
        ),
        (
            "7.2",
            "tracepoints alone",
            tracepoints_alone,
            &[
                CLASSIC,
                ("task_life", Some("tracepoint sched_process_exec"), "tracepoint sched_process_exec"),
                ("charge", None, "tracepoint mod_memcg_lruvec_state"),
                ("charge_site", None, "tracepoint mod_memcg_lruvec_state"),
                ("log_write", Some("tracepoint sys_enter"), "tracepoint sys_enter"),
                ("syscall", None, "tracepoint sys_exit"),
                ("blocked", Some("tracepoint sched_switch"), "tracepoint sched_switch"),
                ("signal", Some("tracepoint signal_generate"), "tracepoint signal_generate"),
                ("arrivals", Some("tracepoint inet_sock_set_state"), "tracepoint inet_sock_set_state"),
                ("dirty", Some("tracepoint writeback_dirty_folio"), "tracepoint writeback_dirty_folio"),
                ("writeback_done", None, "tracepoint mod_memcg_lruvec_state"),
                (
                    "reclaim",
                    Some("tracepoint mm_vmscan_direct_reclaim_begin"),
                    "tracepoint mm_vmscan_direct_reclaim_begin",
                ),
                MARK_VICTIM,
            ],
        ),
        (
            "6.1",
            "lockdown for confidentiality: one program needs no helper to read",
            confidentiality,
            &[
                NO_LIFE,
                NO_TASKS,
                NO_BLOCKED,
                NO_BLOCKED_BEFORE,
                ("charge", None, "fentry try_charge_memcg"),
                NO_SITES,
                NO_LINES,
                NO_ARRIVALS,
                NO_DEAD,
                NO_DIRTY,
                NO_WRITTEN,
                NO_THROTTLE,
                NO_RECLAIM,
                NO_OOM,
                NO_CALLS,
                NO_SIGNAL,
            ],
        ),
        ("6.1", "lockdown for integrity", integrity, &[LIFE, TASKS, BATCHED, SITES, LINES]),
        // The numbers that programs are given differ, the choice does not.
        ("5.10", "v1 only", v1, &[LIFE, TASKS, BATCHED, SITES, LINES, DIRTY_PAGES]),
        ("6.1", "hybrid", hybrid, &[LIFE, TASKS, BATCHED, SITES, LINES]),
        ("6.12", "v2 whose root keeps the controller", root_only, &[LIFE, TASKS, BATCHED, SITES, LINES]),
    ];
    for (kernel, what, change, probes) in cases {
        let mut facts = facts(kernel);
        change(&mut facts);
        expect(what, &facts, probes);
        for planned in plan(&facts, &Wishes::default()) {
            for candidate in planned.candidates {
                let why = candidate.why_not.unwrap_or_default();
                assert!(!why.contains("EPERM") && !why.ends_with('.'), "{what}: {why:?} is no sentence part");
            }
        }
    }
}

#[test]
fn each_lack_has_its_sentence() {
    for (change, probe, kind, said) in [
        (no_btf as Change, "cgroup_life", Kind::TpBtf, "no BTF (CONFIG_DEBUG_INFO_BTF)"),
        (no_btf, "task_life", Kind::Tracepoint, "task_struct.cgroups"),
        (no_btf, "charge", Kind::Kprobe, "no function page_counter_try_charge in this kernel's BTF"),
        (no_tracefs, "cgroup_life", Kind::Tracepoint, "tracefs cannot be read: mount it"),
        (no_fentry, "charge", Kind::Fentry, "refuses trampolines"),
        (no_btf, "log_write", Kind::Tracepoint, "needs enum bpf_func_id.BPF_FUNC_loop"),
        (no_kprobe, "charge", Kind::Kprobe, "no kprobes (CONFIG_KPROBE_EVENTS)"),
        (confidentiality, "task_life", Kind::Tracepoint, "lockdown (confidentiality)"),
        (confidentiality, "charge", Kind::Fentry, "lockdown (confidentiality)"),
    ] {
        let mut facts = facts("6.12");
        change(&mut facts);
        let why = why_not(&facts, probe, kind);
        assert!(why.contains(said), "{probe} {kind}: {why:?} does not say {said:?}");
    }
}

#[test]
fn before_6_13_there_are_no_memcg_tracepoints() {
    for kernel in ["5.10", "6.1", "6.12"] {
        assert!(why_not(&facts(kernel), "charge", Kind::TpBtf).contains("no tracepoint memcg:"), "{kernel}");
    }
}

/// Where the kernel waits for throttled tasks to put a trampoline there, what it need not wait for serves; who asks for one waits.
#[test]
fn beside_a_crowd_nothing_waits_for_a_trampoline() {
    let mut facts = facts("6.1");
    facts.crowd = Some("/kubepods/pod1/exporter".to_owned());
    for probe in PROBES {
        assert_ne!(kind(&facts, &Wishes::default(), probe.name), Some(Kind::Fentry), "{}", probe.name);
    }
    assert_eq!(kind(&facts, &Wishes::default(), "log_write"), Some(Kind::TpBtf));
    let candidates = planned(&facts, &Wishes::default(), "log_write").candidates;
    let mut reasons = candidates.iter().filter_map(|candidate| candidate.why_not.as_deref());
    assert!(reasons.any(|why| why.contains("/kubepods/pod1/exporter")));
    let force = vec![Force::parse("log_write=fentry").expect("it names one")];
    assert_eq!(kind(&facts, &Wishes { force, ..Wishes::default() }, "log_write"), Some(Kind::Fentry));
    // Without another way it is worth the wait.
    for kind in ["tp_btf", "raw_tp", "tracepoint", "kprobe"] {
        facts.refused.insert(kind.to_owned(), "refused".to_owned());
    }
    assert_eq!(kind(&facts, &Wishes::default(), "log_write"), Some(Kind::Fentry));
}

/// There a program can be interrupted by another's turn: copies stand in for each other.
#[test]
fn where_the_kernel_preempts_itself_there_are_copies() {
    for (kernel, copies) in [("5.10", false), ("6.12", false), ("7.2", true)] {
        let (_, target) = choice(&facts(kernel), &Wishes::default(), "log_write").expect("it is served");
        assert_eq!(target.ends_with(".copies"), copies, "{kernel}: {target}");
    }
}

/// Before 5.17 there is no `bpf_loop`: programs of another make do without.
#[test]
fn without_bpf_loop_bounded_loops_serve() {
    for (kernel, bounded) in
        [("5.10", true), ("6.1", false), ("6.12", false), ("6.18", false), ("7.2", false)]
    {
        let (_, target) = choice(&facts(kernel), &Wishes::default(), "log_write").expect("it is served");
        assert_eq!(target.ends_with(".bounded"), bounded, "{kernel}: {target}");
    }
}

#[test]
fn without_tp_btf_raw_tracepoints_serve() {
    let mut facts = facts("6.1");
    facts.refused.insert("tp_btf".to_owned(), "refused".to_owned());
    for probe in ["cgroup_life", "task_life"] {
        assert_eq!(kind(&facts, &Wishes::default(), probe), Some(Kind::RawTp), "{probe}");
    }
}

#[test]
fn a_function_that_takes_other_arguments_is_not_hooked() {
    let mut facts = facts("6.12");
    facts.functions.insert("page_counter_try_charge".to_owned(), 4);
    assert!(why_not(&facts, "charge", Kind::Fentry).contains("takes 4 arguments, 3 are expected"));
    assert_eq!(choice(&facts, &Wishes::default(), "charge"), None, "the kprobe reads the same arguments");
}

#[test]
fn a_tracepoint_that_passes_less_is_not_read() {
    let mut facts = facts("7.2");
    facts.tracepoints.get_mut("cgroup/cgroup_attach_task").expect("it was asked for").btf_args = Some(3);
    assert!(why_not(&facts, "cgroup_life", Kind::TpBtf).contains("passes 3 arguments, 4 are needed"));
    assert_eq!(kind(&facts, &Wishes::default(), "cgroup_life"), Some(Kind::Tracepoint));
}

#[test]
fn an_absent_field_is_named() {
    let mut facts = facts("6.12");
    facts.symbols.remove("MemcgMemory");
    assert!(why_not(&facts, "charge", Kind::Fentry).contains("mem_cgroup.memory"));
}

#[test]
fn what_the_user_names_is_required_and_alone() {
    for (force, expected) in [
        ("charge=kprobe", "page_counter_try_charge"),
        ("charge=kprobe:try_charge_memcg", "try_charge_memcg"),
        ("charge=fentry:try_charge_memcg", "try_charge_memcg"),
    ] {
        let wishes = Wishes { force: vec![Force::parse(force).expect(force)], ..Wishes::default() };
        let facts = facts("6.12");
        let (_, target) =
            choice(&facts, &wishes, "charge").expect("it is there, and need not be asked for twice");
        assert!(target.starts_with(expected), "{force}: {target}");
        assert!(planned(&facts, &wishes, "charge").required);
        assert!(!planned(&facts, &wishes, "task_life").required, "the others are free");
    }
}

/// 7.2 charges folios to object cgroups; the numbers tell, not the version.
#[test]
fn the_gather_names_its_owner_in_one_of_two_ways() {
    for (kernel, field) in [("5.10", "UnchargeMemcg"), ("6.18", "UnchargeMemcg"), ("7.2", "UnchargeObjcg")] {
        let facts = facts(kernel);
        assert!(facts.symbols.contains_key(field), "{kernel} has {field}");
    }
    let mut neither = facts("7.2");
    neither.symbols.remove("UnchargeObjcg");
    neither.symbols.remove("UnchargeMemcg");
    let force = Wishes {
        force: vec![Force::parse("charge=fentry:uncharge_batch").expect("a target")],
        ..Wishes::default()
    };
    assert_eq!(choice(&neither, &force, "charge"), None);
}

/// Facts decide, not the name of a kernel: one with another's number has the plan of its facts.
#[test]
fn a_version_decides_nothing() {
    for (kernel, _) in RECORDED {
        let real = facts(kernel);
        let renamed = Facts { release: "2.6.32".to_owned(), ..real.clone() };
        let plans = [real, renamed].map(|facts| format!("{:?}", plan(&facts, &asked())));
        assert_eq!(plans[0], plans[1], "{kernel}");
    }
}

/// The table of `kernel-hooks`: offsets that differ between kernels are the recorded ones.
#[test]
fn numbers_follow_the_kernel() {
    for (kernel, task_cgroups, kn, id) in [
        ("5.10", 3328, 248, 104),
        ("6.1", 3600, 248, 104),
        ("6.12", 3584, 256, 96),
        ("6.18", 2376, 256, 96),
        ("7.2", 4000, 296, 96),
    ] {
        let symbols = facts(kernel).symbols;
        let found = (symbols["TaskCgroups"], symbols["CgroupKn"], symbols["KernfsNodeId"]);
        assert_eq!(found, (task_cgroups, kn, id), "{kernel}");
    }
}
