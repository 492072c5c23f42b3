//! What the plan makes of facts, as tables: a recorded kernel, one that lacks something, a way of mounting cgroups.

use std::fmt::Write as _;

use tracer::{
    kernel::Facts,
    probe::{
        plan::{Candidate, Planned, Wishes, plan},
        registry::{PROBES, Probe},
    },
};

use crate::lack::{self, Change};

/// Recorded facts by the kernel's name.
pub type Kernels = Vec<(String, Facts)>;

pub fn kernels(files: &[(String, String)]) -> Kernels {
    let parse = |text: &str| serde_json::from_str(text).expect("facts as `doctor --facts` writes them");
    files.iter().map(|(name, text)| (name.clone(), parse(text))).collect()
}

fn facts<'a>(kernels: &'a Kernels, name: &str) -> &'a Facts {
    &kernels.iter().find(|(kernel, _)| kernel == name).expect("the kernel is recorded").1
}

fn head(out: &mut String, first: &str) {
    let names: Vec<&str> = PROBES.iter().map(|probe| probe.name).collect();
    // A `String` takes every write.
    let _ = writeln!(out, "| {first} | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
}

/// What serves a probe: without asking, else on demand, else nothing.
fn cell(facts: &Facts, probe: &Probe) -> String {
    let of = |wishes: &Wishes| -> Option<Planned> {
        plan(facts, wishes).into_iter().find(|planned| planned.probe.name == probe.name)
    };
    let first = |wishes: &Wishes| {
        let may = |candidate: &Candidate| candidate.why_not.is_none() && !candidate.on_demand;
        let planned = of(wishes)?;
        let chosen = planned.candidates.iter().find(|candidate| may(candidate))?.alternative;
        Some(format!("{} `{}`", chosen.kind, chosen.target().split('+').next().unwrap_or_default()))
    };
    let asked = Wishes { per_page: true, written: true, on_demand: true, ..Wishes::default() };
    first(&Wishes::default())
        .or_else(|| first(&asked).map(|way| format!("on demand: {way}")))
        .unwrap_or_else(|| "lost".to_owned())
}

pub fn by_kernel(kernels: &Kernels) -> String {
    let mut out = String::from(
        "## What serves on which kernel\n\nThe first choice for each probe on kernels as they were found (the first of \
         its hooks is named). *On demand* is attached when asked for and for a bounded time: `charge` with key `c` or `--charges`, \
         `charge_site` for a chosen container with key `w` or `--sites`.\n\n",
    );
    head(&mut out, "kernel");
    for (name, facts) in kernels {
        let cells: Vec<String> = PROBES.iter().map(|probe| cell(facts, probe)).collect();
        let about = [
            (!facts.kprobe).then_some("no kprobes"),
            facts.refused.contains_key("fentry").then_some("trampolines refused"),
            facts
                .maps_are_locked
                .then_some("maps count against RLIMIT_MEMLOCK: CAP_SYS_RESOURCE is needed, too"),
        ];
        let about: Vec<&str> = about.into_iter().flatten().collect();
        let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
        let _ = writeln!(out, "| {name}{about} | {} |", cells.join(" | "));
    }
    out.push_str("\nA probe that is lost costs:\n\n");
    for probe in PROBES {
        let _ = writeln!(out, "- `{}` ({}): {}.", probe.name, probe.purpose, probe.lost);
    }
    out
}

/// What is missing, and a kernel to take it from.
const LACKS: &[(&str, &str, Change)] = &[
    ("no BTF (`CONFIG_DEBUG_INFO_BTF`)", "6.12", lack::no_btf),
    ("no tracefs, nor the right to mount it", "6.12", lack::no_tracefs),
    ("no fentry: trampolines are refused", "6.12", lack::no_fentry),
    ("no kprobes (`CONFIG_KPROBE_EVENTS`)", "6.12", lack::no_kprobe),
    ("neither fentry nor kprobes, before 6.13", "6.12", lack::neither),
    ("neither of them, 6.13 or later", "7.2", lack::neither),
    ("classic tracepoints alone, 6.13 or later", "7.2", lack::tracepoints_alone),
    ("lockdown for integrity", "6.12", lack::integrity),
    (
        "lockdown for confidentiality: programs get no help to read kernel memory",
        "6.12",
        lack::confidentiality,
    ),
];

pub fn by_lack(kernels: &Kernels) -> String {
    let mut out = String::from("## What serves where a kernel lacks something\n\n");
    head(&mut out, "host");
    for (what, kernel, change) in LACKS {
        let mut facts = facts(kernels, kernel).clone();
        change(&mut facts);
        let cells: Vec<String> = PROBES.iter().map(|probe| cell(&facts, probe)).collect();
        let _ = writeln!(out, "| {what} | {} |", cells.join(" | "));
    }
    out
}

/// What the files of a layout tell beyond the plan, which is the same for all of them.
const LAYOUTS: &[(&str, &str, Change)] = &[
    ("v2", "all numbers; `kernel` is inferred before 5.18, which gives no sum", |_| {}),
    ("hybrid, memory on v1", "as v1", lack::hybrid),
    ("v1", "all but what is lost; `memory.use_hierarchy` must be 1, as systemd sets it", lack::v1),
    ("v2, root keeps `memory`", "the host's sums, tasks started and ended in all", lack::root_only),
];

pub fn by_layout(kernels: &Kernels) -> String {
    let mut out = String::from(
        "## Cgroup layouts\n\nThe hooks are the same on all of them: identity is always the memory cgroup, whichever \
         hierarchy it is in.\n\n| layout | told | lost |\n|---|---|---|\n",
    );
    for (what, told, change) in LAYOUTS {
        let mut facts = facts(kernels, "6.12").clone();
        change(&mut facts);
        let lost = facts.cgroup.lost();
        let lost = if lost.is_empty() { "-".to_owned() } else { lost.join("; ") };
        let _ = writeln!(out, "| {what} | {told} | {lost} |");
    }
    out.push_str("\nIn a cgroup namespace memtrace sees what its mount shows, and no more.\n");
    out
}
