//! `memtrace doctor --json`: which alternatives of each probe there are, and which of them this kernel allows.

use std::sync::OnceLock;

use serde_json::Value;

use super::{for_the_record, in_vm, memtrace};

/// One way of attaching one probe.
#[derive(Debug, Clone)]
pub struct Alternative {
    /// Its place in doctor's list.
    pub order: usize,
    pub probe: String,
    pub kind: String,
    pub target: String,
    pub usable: bool,
    pub why: Option<String>,
    /// What attaching took here.
    pub attach_ms: Option<f64>,
}

impl Alternative {
    /// The word for `--attach`.
    pub fn word(&self) -> String {
        format!("{}={}:{}", self.probe, self.kind, self.target)
    }
}

pub fn report() -> Value {
    let output = memtrace::run(&["doctor", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("doctor prints JSON")
}

/// The first report of this run: what a kernel allows stays, and emulated each report takes minutes.
pub fn first_report() -> &'static Value {
    static FIRST: OnceLock<Value> = OnceLock::new();
    FIRST.get_or_init(report)
}

/// All of them, probe by probe, in the order in which they are tried.
pub fn alternatives() -> Vec<Alternative> {
    alternatives_of(first_report())
}

/// The same of any report.
pub fn alternatives_of(report: &Value) -> Vec<Alternative> {
    let list = |value: &Value| value.as_array().cloned().expect("a list");
    let text = |value: &Value| value.as_str().map(str::to_owned).expect("a word");
    let probes = list(&report["probes"]);
    let all = probes.iter().flat_map(|probe| {
        list(&probe["alternatives"]).into_iter().map(move |alternative| (probe, alternative))
    });
    all.enumerate()
        .map(|(order, (probe, alternative))| Alternative {
            order,
            probe: text(&probe["name"]),
            kind: text(&alternative["attach"]),
            target: text(&alternative["target"]),
            usable: alternative["usable"] == true,
            why: alternative["why"].as_str().map(str::to_owned),
            attach_ms: alternative["attach_ms"].as_f64(),
        })
        .collect()
}

/// Those of a probe that this kernel allows. Emulated, where each takes a minute, and not for the record: those by functions,
/// as tracepoints are tried on whatever machine this is.
pub fn usable(probe: &str) -> Vec<Alternative> {
    let mut ways = alternatives();
    ways.retain(|way| way.probe == probe && way.usable);
    assert!(!ways.is_empty(), "nothing serves {probe} here");
    let by_functions = |way: &Alternative| matches!(way.kind.as_str(), "fentry" | "kprobe");
    if in_vm() && !for_the_record() && ways.iter().any(by_functions) {
        ways.retain(by_functions);
    }
    ways
}
