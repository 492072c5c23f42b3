//! `memtrace doctor` says what this kernel allows, and changes nothing.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use tracer::{kernel::Facts, pipeline};

use crate::driver::{bpf::left_behind, cgroup::hierarchy, doctor, for_the_record, memtrace};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_report_has_all_that_is_promised() {
    let report = doctor::first_report();
    let promised =
        ["schema", "kind", "ts", "kernel", "cgroup", "btf", "capabilities_missing", "runtimes", "probes"];
    for key in promised {
        assert!(keys(report).contains(key), "{key} is missing");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    assert_eq!(report["kernel"], release.trim());
    // For whoever gathers what became of each kernel.
    println!("kernel {}", json!({"release": report["kernel"], "cgroup": report["cgroup"]}));
    assert_eq!(report["btf"], Path::new("/sys/kernel/btf/vmlinux").exists());
    let versions: &[&str] = if hierarchy().v2 { &["v2", "hybrid"] } else { &["v1", "hybrid"] };
    assert!(
        report["cgroup"].as_str().is_some_and(|version| versions.contains(&version)),
        "{}",
        report["cgroup"]
    );
    assert_eq!(report["capabilities_missing"], Value::Array(Vec::new()));
    assert!(report["sockets_lost"].is_null(), "{}", report["sockets_lost"]);
    let probes = report["probes"].as_array().expect("a list");
    assert!(!probes.is_empty());
    for probe in probes {
        for key in ["name", "purpose", "chosen", "alternatives", "lost"] {
            assert!(keys(probe).contains(key), "{key} of a probe is missing");
        }
        let alternatives = probe["alternatives"].as_array().expect("a list");
        for alternative in alternatives {
            for key in ["attach", "target", "usable", "why"] {
                assert!(keys(alternative).contains(key), "{key} of an alternative is missing");
            }
        }
        // The first that is usable is chosen; whatever is passed over has its reason.
        let chosen = alternatives.iter().position(|alternative| alternative["usable"] == true);
        match chosen {
            Some(at) => assert_eq!(probe["chosen"], alternatives[at]["attach"]),
            None => assert!(probe["chosen"].is_null() && probe["lost"].is_string(), "{probe}"),
        }
        for (at, alternative) in alternatives.iter().enumerate() {
            assert!(Some(at) == chosen || alternative["why"].is_string(), "{alternative} has no reason");
        }
    }
    assert_eq!(left_behind(), Vec::<String>::new());
}

/// For `cargo xtask vm --record`: what the plan's tests know of this kernel.
#[test]
fn facts_are_what_the_plan_is_made_from() {
    let output = memtrace::run(&["doctor", "--facts"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let facts: Facts = serde_json::from_str(&text).expect("facts can be read again");
    let now = pipeline::facts().expect("this host has cgroups");
    assert_eq!(Facts { refused: facts.refused.clone(), ..now }, facts, "two looks find the same");
    if for_the_record() {
        println!("facts begin\n{text}facts end");
    }
}

#[test]
fn the_text_says_the_same() {
    let report = doctor::first_report();
    let output = memtrace::run(&["doctor"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for probe in report["probes"].as_array().expect("a list") {
        assert!(text.contains(probe["name"].as_str().expect("a word")), "{text}");
        if let Some(lost) = probe["lost"].as_str() {
            assert!(text.contains(lost), "{lost:?} is not in {text}");
        }
    }
    assert_eq!(left_behind(), Vec::<String>::new());
}
