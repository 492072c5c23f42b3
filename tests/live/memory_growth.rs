//! `memtrace diagnose` on memory that grows: who, of what, in which process, until when; and not a word above `info` of one
//! that filled its heap once.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made},
    in_vm, memtrace, output,
    workload::Workload,
};

fn limit(cgroup: &Cgroup, bytes: u64) {
    let file = ["memory.max", "memory.limit_in_bytes"].map(|name| cgroup.dir().join(name));
    let file = file.iter().find(|file| file.exists()).expect("a cgroup with memory has a limit");
    fs::write(file, bytes.to_string()).expect("the limit can be set");
}

fn diagnose(cgroup: &Cgroup) -> Vec<Value> {
    let told = output::of(&mut memtrace::command(&["diagnose", "-d", "8", "--json"]));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("one object is printed");
    let findings = told["findings"].as_array().cloned().expect("a list");
    findings.into_iter().filter(|finding| finding["container"]["cgroup"]["path"] == cgroup.path).collect()
}

#[test]
fn a_leak_towards_its_limit() {
    let rate = if in_vm() { 4 * MIB } else { 20 * MIB };
    let cgroup = Made::top("leak");
    limit(&cgroup, 30 * rate);
    let words =
        ["anon", "--rate", &rate.to_string(), "--total", &(25 * rate).to_string(), "--hold", "forever"];
    let leak = Workload::start(&cgroup, &words);
    thread::sleep(Duration::from_secs(2));
    let findings = diagnose(&cgroup);
    let [finding] = &findings[..] else { panic!("not one finding, but {findings:#?}") };
    assert_eq!((&finding["kind"], &finding["severity"]), (&"memory-growth".into(), &"critical".into()));
    let evidence = &finding["evidence"];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number in {evidence}"));
    assert_eq!(evidence["limit"], 30 * rate);
    assert_eq!(evidence["top_process"]["pid"], leak.pid());
    if !in_vm() {
        let told = number(&evidence["bytes_per_s"]) / rate as f64;
        assert!((0.8..1.2).contains(&told), "{told} of the true rate: {evidence}");
        let left = number(&evidence["seconds_to_limit"]);
        assert!((10.0..25.0).contains(&left), "{evidence}");
    }
    let anon = number(&evidence["by_kind"]["anon"]) / number(&evidence["bytes_per_s"]);
    assert!((0.8..1.2).contains(&anon), "{evidence}");
}

#[test]
fn a_heap_that_is_filled_once() {
    let cgroup = Made::top("heap");
    limit(&cgroup, 300 * MIB);
    let rate = (if in_vm() { 20 * MIB } else { 100 * MIB }).to_string();
    let words = ["anon", "--rate", &rate, "--total", "100M", "--hold", "forever"];
    let heap = Workload::start(&cgroup, &words);
    let findings = diagnose(&cgroup);
    assert!(findings.iter().all(|finding| finding["severity"] == "info"), "{findings:#?}");
    drop(heap);
}
