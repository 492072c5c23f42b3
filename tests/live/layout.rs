//! How the cgroups are mounted: what cannot be known for it is null and has its sentence.

use std::fs;

use serde_json::Value;

use crate::driver::{
    MIB, about,
    cgroup::{Made, hierarchy},
    doctor, guard, in_vm,
    memtrace::Memtrace,
    skip,
    workload::Workload,
};

/// v2 hands a controller on from cgroup to cgroup, beginning with the root.
#[test]
fn a_controller_that_the_root_keeps() {
    let name = "a_controller_that_the_root_keeps";
    if !hierarchy().v2 {
        return skip(name, "on cgroup v1 every cgroup has the memory controller");
    }
    if !in_vm() {
        return skip(name, "it would be taken from all that runs on this machine");
    }
    let control = hierarchy().mount.join("cgroup.subtree_control");
    let top = Made::top("kept");
    let workload = Workload::start(&top, &["anon", "--total", "8M", "--hold", "forever"]);
    let before = workload.done();
    guard::at_end(&format!("echo +memory > {}", control.display()));
    let busy =
        || fs::read_dir(&hierarchy().mount).expect("it is mounted").flatten().map(|entry| entry.path());
    let hands_on = |dir: &std::path::PathBuf| {
        fs::read_to_string(dir.join("cgroup.subtree_control")).is_ok_and(|list| list.contains("memory"))
    };
    let taken = fs::write(&control, "-memory");
    assert!(taken.is_ok(), "{taken:?}: {:?} hand it on", busy().filter(hands_on).collect::<Vec<_>>());

    let lost = doctor::report()["cgroup_lost"].clone();
    let lost = lost[0].as_str().expect("doctor says what is lost");
    assert!(lost.contains("+memory > /sys/fs/cgroup/cgroup.subtree_control"), "{lost}");
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let interval = memtrace.next();
    for row in interval.rows() {
        for unknown in [&row["memory"]["current"], &row["memory"]["anon"], &row["charged_per_s"]] {
            assert!(unknown.is_null(), "{row}");
        }
    }
    let host = &interval.0["host"];
    for unknown in [&host["attributed"], &host["unattributed"]["total"], &host["unattributed"]["root_anon"]] {
        assert_eq!(unknown, &Value::Null, "{host}");
    }
    assert!(host["used"].as_u64().is_some_and(|used| used > 0), "{host}");

    // What is used from here on is charged to the cgroup, which becomes a row. What was used before is too where the io
    // controller is handed on: it depends on the other, which then counts on unseen.
    fs::write(&control, "+memory").expect("the root has it");
    let later = Workload::start(&top, &["anon", "--total", "8M", "--hold", "forever"]);
    let truth = later.done();
    let intervals = memtrace.until("the cgroup to be a row", |interval| {
        interval.row(&top).is_some_and(|row| row["memory"]["anon"].as_u64() >= Some(truth / 2))
    });
    let row = intervals.last().and_then(|interval| interval.row(&top)).expect("it was waited for");
    let held = row["memory"]["anon"].as_u64().expect("it is known");
    let right = [truth, truth + before].iter().any(|truth| about(*truth, 2 * MIB).contains(&held));
    assert!(right, "{held}, true {truth} and {before} before");
    let errors = memtrace.stop().errors;
    assert_eq!(errors.trim_end(), format!("memtrace: {lost}"));
    drop((workload, later));
}
