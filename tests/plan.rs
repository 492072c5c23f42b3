//! Which hook serves each probe, decided over recorded facts of real kernels (`memtrace doctor --facts`) and
//! over facts made by hand. Needs no kernel; a reason stands with each assertion.

use std::{fs, path::PathBuf};

use tracer::{
    kernel::Facts,
    probe::{
        plan::{Force, Planned, Wishes, plan},
        registry::Kind,
    },
};

fn facts(kernel: &str) -> Facts {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/facts")
        .join(format!("{kernel}.json"));
    let text = fs::read_to_string(&path).expect("a recorded kernel");
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
    Wishes { per_page: true, ..Wishes::default() }
}

#[test]
fn kernels_with_trampolines_count_charges_by_the_batch() {
    for kernel in ["5.10", "6.1", "6.12", "7.2"] {
        let facts = facts(kernel);
        let (kind, target) = choice(&facts, &Wishes::default(), "charge").expect("a batch hook");
        assert_eq!(kind, Kind::Fentry, "{kernel}: fentry is cheaper than kprobe");
        assert!(target.starts_with("page_counter_try_charge"), "{kernel}: once a batch, not once a page");
        for probe in ["cgroup_life", "task_life"] {
            assert_eq!(self::kind(&facts, &Wishes::default(), probe), Some(Kind::TpBtf), "{kernel} {probe}");
        }
    }
}

#[test]
fn the_kernel_that_refuses_trampolines_counts_on_demand_only() {
    let facts = facts("6.18");
    assert_eq!(choice(&facts, &Wishes::default(), "charge"), None, "only per-page hooks are there");
    let (kind, target) = choice(&facts, &asked(), "charge").expect("when asked for");
    assert_eq!((kind, target.as_str()), (Kind::TpBtf, "mod_memcg_lruvec_state+mod_memcg_state"));
    assert!(
        why_not(&facts, "charge", Kind::Fentry).contains("refuses trampolines"),
        "its own words are kept"
    );
    assert!(why_not(&facts, "charge", Kind::Kprobe).contains("no kprobes"));
}

#[test]
fn without_fentry_the_kprobe_serves() {
    let mut facts = facts("6.12");
    facts.refused.insert("fentry".to_owned(), "refused".to_owned());
    assert_eq!(kind(&facts, &Wishes::default(), "charge"), Some(Kind::Kprobe), "still once a batch");
    facts.kprobe = false;
    assert_eq!(kind(&facts, &asked(), "charge"), None, "6.12 has no memcg tracepoints");
}

#[test]
fn before_6_13_there_are_no_memcg_tracepoints() {
    for kernel in ["5.10", "6.1", "6.12"] {
        assert!(why_not(&facts(kernel), "charge", Kind::TpBtf).contains("no tracepoint memcg:"), "{kernel}");
    }
}

#[test]
fn without_btf_classic_tracepoints_are_left() {
    let mut facts = facts("6.12");
    facts.btf = false;
    facts.functions.clear();
    facts.symbols.retain(|name, _| name.starts_with("Tp"));
    for tracepoint in facts.tracepoints.values_mut() {
        tracepoint.btf_args = None;
    }
    assert_eq!(
        kind(&facts, &Wishes::default(), "cgroup_life"),
        Some(Kind::Tracepoint),
        "its record has the id"
    );
    assert_eq!(kind(&facts, &asked(), "charge"), None, "no offset is known");
    assert_eq!(kind(&facts, &Wishes::default(), "task_life"), None, "a task's cgroup cannot be found");
    assert!(why_not(&facts, "cgroup_life", Kind::TpBtf).contains("no BTF"));
    assert!(
        why_not(&facts, "task_life", Kind::Tracepoint).contains("task_struct.cgroups"),
        "it says what it needs"
    );
}

#[test]
fn without_tracefs_only_classic_tracepoints_are_lost() {
    let mut facts = facts("6.12");
    facts.tracefs = false;
    facts.symbols.retain(|name, _| !name.starts_with("Tp"));
    for tracepoint in facts.tracepoints.values_mut() {
        tracepoint.classic = false;
    }
    assert_eq!(kind(&facts, &Wishes::default(), "cgroup_life"), Some(Kind::TpBtf));
    assert!(why_not(&facts, "cgroup_life", Kind::Tracepoint).contains("tracefs"));
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
