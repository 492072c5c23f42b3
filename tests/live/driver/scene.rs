//! A scene of the lab: what was made to go wrong, and whether `memtrace diagnose` says that and nothing else. What is
//! printed is what `cargo xtask lab` makes its table of.

use std::{
    process::Output,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{memtrace, moment, output, patience};

/// What must be found.
pub struct Wanted<'a> {
    pub kind: &'a str,
    /// Of its memory cgroup; empty: of the host.
    pub path: &'a str,
}

/// What is to be found while an incident goes on: kinds, and paths of memory cgroups.
pub type Going = Vec<(&'static str, String)>;

/// What is done meanwhile.
pub type During<'a> = &'a mut dyn FnMut(Going);

/// What a run of `diagnose` told.
#[derive(Debug)]
pub struct Report {
    pub told: Value,
    /// Seconds from the start of the process to its first look.
    starting: f64,
}

/// Watches for so many seconds, beginning now: what goes wrong goes wrong already.
pub fn diagnose(seconds: &str) -> Report {
    diagnose_with(&[], seconds)
}

/// The same with more words.
pub fn diagnose_with(words: &[&str], seconds: &str) -> Report {
    let watched = Duration::from_secs(seconds.parse().expect("it is a number of seconds"));
    let mut command = memtrace::command(&["diagnose", "-d", seconds, "--json"]);
    command.args(words);
    let begun = SystemTime::now();
    Report::of(&output::of_within(&mut command, watched + patience()), begun)
}

impl Report {
    /// What a run printed that began then.
    pub fn of(told: &Output, begun: SystemTime) -> Report {
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let told: Value = serde_json::from_slice(&told.stdout).expect("one object is printed");
        let starting = moment::since(begun, moment::of(&told["started"]));
        Report { told, starting }
    }

    pub fn findings(&self) -> &[Value] {
        self.told["findings"].as_array().expect("a list")
    }

    /// By kind and container, alone or as part of a worse one.
    pub fn finding(&self, wanted: &Wanted<'_>) -> Option<&Value> {
        self.findings().iter().find(|finding| wanted.is(finding))
    }

    /// Says what was true and what was told, and holds that each that is wanted is there and nothing else above `info`.
    pub fn is(&self, scene: &str, truth: &Value, wanted: &[Wanted<'_>]) {
        let watched = self.told["duration_s"].as_f64().expect("a time");
        self.tells(watched, Some(self.starting), scene, truth, wanted);
    }

    /// The same of what went wrong no earlier than such a time before the end.
    pub fn is_since(&self, went_wrong: Duration, scene: &str, truth: &Value, wanted: &[Wanted<'_>]) {
        self.tells(went_wrong.as_secs_f64(), None, scene, truth, wanted);
    }

    fn tells(
        &self,
        went_wrong: f64,
        starting: Option<f64>,
        scene: &str,
        truth: &Value,
        wanted: &[Wanted<'_>],
    ) {
        let bad = self.findings().iter().filter(|finding| finding["severity"] != "info");
        let (right, other): (Vec<&Value>, Vec<&Value>) =
            bad.partition(|finding| wanted.iter().any(|one| one.is(finding)));
        let missing: Vec<&str> =
            wanted.iter().filter(|one| self.finding(one).is_none()).map(|one| one.kind).collect();
        let after = |finding: &Value| Some((went_wrong - finding["open_s"].as_f64()?).max(0.0));
        let brief = |finding: &&Value| {
            json!({
                "kind": finding["kind"],
                "severity": finding["severity"],
                "summary": finding["summary"],
                "after_s": after(finding),
            })
        };
        let line = json!({
            "scene": scene,
            "truth": truth,
            "starting_s": starting,
            "found": right.iter().map(brief).collect::<Vec<_>>(),
            "missing": missing,
            "besides": other.iter().map(brief).collect::<Vec<_>>(),
        });
        println!("lab {line}");
        // What it is comes first: of a long message the beginning is kept.
        let all: Vec<Value> = self.findings().iter().map(|finding| brief(&finding)).collect();
        assert!(missing.is_empty(), "not found: {missing:?}, true: {truth}, told: {}", json!(all));
        assert!(other.is_empty(), "told besides: {} {other:#?}", line["besides"]);
    }
}

impl Wanted<'_> {
    fn is(&self, finding: &Value) -> bool {
        let also = finding["also"].as_array().is_some_and(|also| also.iter().any(|kind| kind == self.kind));
        let of = finding["container"]["cgroup"]["path"].as_str();
        (finding["kind"] == self.kind || also) && (self.path.is_empty() || of == Some(self.path))
    }
}

/// A number of a finding's evidence.
pub fn number(finding: &Value, key: &str) -> f64 {
    let value = finding["evidence"].pointer(&format!("/{}", key.replace('.', "/")));
    value.and_then(Value::as_f64).unwrap_or_else(|| panic!("no {key} in {}", finding["evidence"]))
}

/// Holds that it is the truth within such a part of it.
pub fn near(what: &str, told: f64, truth: f64, within: f64) {
    println!("  {what}: told {told:.0}, true {truth:.0}");
    assert!((told / truth - 1.0).abs() <= within, "{what}: told {told}, true {truth}");
}
