//! `memtrace doctor`: what this kernel allows, which hook serves each probe, what is lost; and the generated
//! page about probes, which stands on the same registry.

use std::{fmt::Write as _, io, time::SystemTime};

use serde::Serialize;

use super::{host::timestamp, json::SCHEMA, text};
use crate::{
    kernel::Facts,
    probe::{
        outcome::Outcome,
        registry::{Cost, PROBES, WRITTEN},
    },
};

/// Everything there is to report.
pub struct Report<'a> {
    pub facts: &'a Facts,
    pub outcomes: &'a [Outcome],
    pub runtimes: Vec<&'static str>,
    /// Where the kernel does not tell who is connected to whom: why.
    pub sockets: io::Result<()>,
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    kernel: &'a str,
    arch: &'a str,
    cgroup: &'static str,
    memory_controller: &'static str,
    /// What is not known because of how the cgroups are.
    cgroup_lost: Vec<String>,
    sockets_lost: Option<String>,
    btf: bool,
    tracefs: bool,
    kprobe: bool,
    lockdown: Option<&'a str>,
    capabilities_missing: &'a [String],
    runtimes: &'a [&'static str],
    probes: Vec<JsonProbe<'a>>,
}

#[derive(Serialize)]
struct JsonProbe<'a> {
    name: &'static str,
    purpose: &'static str,
    chosen: Option<&'static str>,
    chosen_target: Option<String>,
    precision: Option<&'static str>,
    alternatives: Vec<JsonAlternative<'a>>,
    lost: Option<String>,
}

#[derive(Serialize)]
struct JsonAlternative<'a> {
    attach: &'static str,
    target: String,
    usable: bool,
    why: Option<&'a str>,
    attach_ms: Option<f64>,
}

impl Report<'_> {
    pub fn json(&self) -> String {
        let facts = self.facts;
        let probes = self.outcomes.iter().map(|outcome| JsonProbe {
            name: outcome.probe.name,
            purpose: outcome.probe.purpose,
            chosen: outcome.chosen.map(|chosen| chosen.kind.as_str()),
            chosen_target: outcome.chosen.map(|chosen| chosen.target()),
            precision: outcome.chosen.map(|chosen| chosen.precision),
            alternatives: outcome
                .attempts
                .iter()
                .map(|attempt| JsonAlternative {
                    attach: attempt.alternative.kind.as_str(),
                    target: attempt.alternative.target(),
                    usable: attempt.usable,
                    why: attempt.why.as_deref(),
                    attach_ms: attempt.took.map(|took| (took.as_secs_f64() * 1e4).round() / 10.0),
                })
                .collect(),
            lost: lost(outcome),
        });
        let json = Json {
            schema: SCHEMA,
            kind: "doctor",
            ts: timestamp(SystemTime::now()),
            kernel: &facts.release,
            arch: &facts.arch,
            cgroup: facts.cgroup.version.as_str(),
            memory_controller: if facts.cgroup.memory_v2 { "v2" } else { "v1" },
            cgroup_lost: facts.cgroup.lost(),
            sockets_lost: self.sockets_lost(),
            btf: facts.btf,
            tracefs: facts.tracefs,
            kprobe: facts.kprobe,
            lockdown: facts.lockdown.as_deref(),
            capabilities_missing: &facts.capabilities_missing,
            runtimes: &self.runtimes,
            probes: probes.collect(),
        };
        // Strings, numbers and lists: nothing in it can fail to be written.
        serde_json::to_string(&json).unwrap_or_default()
    }

    fn sockets_lost(&self) -> Option<String> {
        let why = self.sockets.as_ref().err()?;
        Some(format!(
            "who is connected to whom by unix sockets ({why}; module unix_diag): a daemon that only serves shims or clients is not \
             found, and clients are not known"
        ))
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        let facts = self.facts;
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let list = |words: Vec<&str>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        let memory = format!(
            "{}, memory controller on {} at {}",
            facts.cgroup.version.as_str(),
            if facts.cgroup.memory_v2 { "v2" } else { "v1" },
            facts.cgroup.memory.display()
        );
        for (name, value) in [
            ("kernel", format!("{} {}", facts.release, facts.arch)),
            ("cgroups", memory),
            ("BTF", yes(facts.btf).to_owned()),
            ("tracefs", yes(facts.tracefs).to_owned()),
            ("kprobes", yes(facts.kprobe).to_owned()),
            ("lockdown", facts.lockdown.clone().unwrap_or_else(|| "none".to_owned())),
            ("capabilities missing", list(facts.capabilities_missing.iter().map(String::as_str).collect())),
            ("runtimes with containers", list(self.runtimes.clone())),
        ] {
            // A `String` takes every write.
            let _ = writeln!(out, "{name:<25} {}", text::clean(&value, text::Charset::of_environment()));
        }
        for lost in facts.cgroup.lost().into_iter().chain(self.sockets_lost()) {
            let _ = writeln!(out, "lost: {lost}");
        }
        for outcome in self.outcomes {
            let _ = writeln!(out, "\n{}: {}", outcome.probe.name, outcome.probe.purpose);
            for attempt in &outcome.attempts {
                let chosen = outcome.chosen.is_some_and(|chosen| std::ptr::eq(chosen, attempt.alternative));
                let mark = match (chosen, attempt.usable) {
                    (true, _) => "->",
                    (false, true) => "ok",
                    (false, false) => "--",
                };
                let why = attempt
                    .why
                    .as_deref()
                    .map(|why| format!(": {}", text::clean(why, text::Charset::of_environment())));
                let _ = writeln!(
                    out,
                    "  {mark} {:<10} {}{}",
                    attempt.alternative.kind.as_str(),
                    attempt.alternative.target(),
                    why.unwrap_or_default()
                );
            }
            if let Some(chosen) = outcome.chosen {
                let _ = writeln!(out, "     precision: {}", chosen.precision);
            }
            if let Some(lost) = lost(outcome) {
                let _ = writeln!(out, "     lost: {lost}");
            }
        }
        out
    }
}

/// What is lost for want of the best alternative, or of any.
fn lost(outcome: &Outcome) -> Option<String> {
    let best = outcome.probe.alternatives.first()?;
    let chosen = match outcome.chosen {
        None => return Some(outcome.probe.lost.to_owned()),
        Some(chosen) if std::ptr::eq(chosen, best) => return None,
        Some(chosen) => chosen,
    };
    if outcome.probe.on_demand.is_none() && chosen.cost == Cost::Page && best.cost != Cost::Page {
        let how = if outcome.probe.name == WRITTEN { "`memtrace dirty --written`" } else { "--charges" };
        return Some(format!(
            "counting runs once a page, so it is off unless asked for ({how}); then: {}",
            chosen.precision
        ));
    }
    (chosen.precision != best.precision)
        .then(|| format!("{} instead of {}", chosen.precision, best.precision))
}

/// The generated page `docs/probes.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Probes\n\nGenerated by `cargo xtask docs` from `tracer/src/probe/registry.rs`; do not edit.\n\n\
         Alternatives are tried from top to bottom; `memtrace doctor` tells which one serves on a host. *Once* says \
         how often its programs run.\n",
    );
    for probe in PROBES {
        let _ = write!(
            page,
            "\n## {}\n\n{}. Without it: {}.\n\n| attach | target | once per | precision | needs |\n|---|---|---|---|---|\n",
            probe.name, probe.purpose, probe.lost
        );
        for alternative in probe.alternatives {
            let once = match alternative.cost {
                Cost::Rare => "event",
                Cost::Batch => "batch of pages",
                Cost::Page => "page (on demand)",
                Cost::Folio => "folio dirtied or written",
                Cost::Call => "write",
                Cost::Switch => "switch",
            };
            let needs: Vec<String> =
                alternative.needs.iter().map(|symbol| format!("`{}`", symbol.spellings()[0])).collect();
            let _ = writeln!(
                page,
                "| {} | `{}` | {once} | {} | {} |",
                alternative.kind,
                alternative.target(),
                alternative.precision,
                needs.join(", ")
            );
        }
    }
    page
}
