//! Rows add up: what is in one is in no other, and all together are no more than the host uses.

use serde_json::Value;

use crate::driver::{
    MIB, about, batches,
    cgroup::{Cgroup, Made},
    container::{self, Wanted},
    docker, in_vm,
    interval::Interval,
    memtrace::Memtrace,
    scratch, skip,
    workload::Workload,
};

/// What a cgroup without processes of its own may hold: the kernel's objects for its children.
const BESIDE: u64 = 2 * MIB;

fn current(row: &Value) -> u64 {
    row["memory"]["current"].as_u64().expect("it is known of every row but the root's")
}

/// The rows of a cgroup and of all below it.
fn below<'a>(interval: &'a Interval, cgroup: &Cgroup) -> Vec<&'a Value> {
    let inside = format!("{}/", cgroup.path);
    interval
        .rows()
        .filter(|row| {
            let path = row["container"]["cgroup"]["path"].as_str().unwrap_or_default();
            path == cgroup.path || path.starts_with(&inside)
        })
        .collect()
}

/// The shapes that the kubelet makes, with a cgroup inside a container as systemd makes there.
#[test]
fn a_parent_counts_no_child() {
    let top = Made::top("nest");
    let kubepods = top.child("kubepods");
    let burstable = kubepods.child("burstable");
    let uid = "0f1e2d3c-0000-4000-8000-00000000cafe";
    let pod = burstable.child(&format!("pod{uid}"));
    let ids = ["a1".repeat(32), "b2".repeat(32)];
    let containers = [pod.child(&ids[0]), pod.child(&ids[1])];
    let inner = containers[1].child("inner.scope");
    let words = |total| ["anon", "--total", total, "--hold", "forever"];
    let workloads = [Workload::start(&containers[0], &words("24M")), Workload::start(&inner, &words("16M"))];
    let truths = workloads.each_ref().map(Workload::done);

    let mut memtrace = Memtrace::top(&["-i", "1"]);
    let interval = memtrace.next();
    let usage = top.usage();
    memtrace.stop();

    for parent in [&top, &kubepods, &burstable, &pod] {
        let row = interval.row(parent).unwrap_or_else(|| panic!("no row for {}", parent.path));
        assert!(current(row) <= BESIDE, "{} counts {}", parent.path, current(row));
    }
    for (at, container) in containers.iter().enumerate() {
        let row = interval.row(container).unwrap_or_else(|| panic!("no row for {}", container.path));
        assert_eq!(
            (&row["container"]["runtime"], &row["container"]["id"]),
            (&"containerd".into(), &ids[at].as_str().into())
        );
        assert_eq!(row["container"]["cgroup"]["id"], container.id());
        let held = row["memory"]["anon"].as_u64().expect("it is known");
        assert!(about(truths[at], BESIDE).contains(&held), "{held}, true {}", truths[at]);
    }
    assert!(interval.row(&inner).is_none(), "what is in a container is its own");
    let sum: u64 = below(&interval, &top).into_iter().map(current).sum();
    println!("rows below {}: {sum}, cgroupfs {usage}", top.path);
    assert!(sum.abs_diff(usage) <= batches(), "rows add up to {sum}, cgroupfs says {usage}");
    // Ended before their cgroups are removed, the innermost first.
    drop(workloads);
    drop((inner, containers, pod, burstable, kubepods, top));
}

/// docker's parent holds what its removed containers left, and nothing of those that live.
#[test]
fn dockers_parent_counts_no_container() {
    if in_vm() {
        return skip(
            "dockers_parent_counts_no_container",
            "no docker here; crun's containers have no parent",
        );
    }
    let words = ["anon", "--total", "48M", "--hold", "forever"];
    let container = container::run(&Wanted { name: "child", words: &words, ..Wanted::default() });
    container.done();
    let parent = Cgroup { path: docker::PARENT.to_owned() };
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    // Another docker of this machine has the same parent: its containers may move between the two looks.
    memtrace.until("docker's rows to add up", |interval| {
        let usage = parent.usage();
        let own = current(interval.row(&parent).expect("docker's parent is a row"));
        let child = current(interval.row(&container.cgroup).expect("the container is a row"));
        let sum: u64 = below(interval, &parent).into_iter().map(current).sum();
        println!("{}: own {own}, rows {sum}, cgroupfs {usage}", parent.path);
        assert!(child >= 48 * MIB);
        sum.abs_diff(usage) <= batches()
    });
    memtrace.stop();
}

#[test]
fn all_rows_are_no_more_than_is_used() {
    let top = Made::top("sum");
    let child = top.child("child");
    let workload = Workload::start(&child, &["anon", "--total", "64M", "--hold", "forever"]);
    workload.done();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    for interval in memtrace.take(4) {
        let sum: u64 = interval.rows().filter_map(|row| row["memory"]["current"].as_u64()).sum();
        let host = &interval.0["host"];
        let used = host["used"].as_u64().expect("it is known");
        assert_eq!(host["attributed"], sum);
        assert_eq!(
            used,
            host["mem_total"].as_u64().expect("known") - host["mem_free"].as_u64().expect("known")
        );
        assert!(sum as f64 <= 1.02 * used as f64, "rows add up to {sum}, {used} are used");
        let left = host["unattributed"]["total"].as_i64().expect("it is known");
        assert_eq!(left, used as i64 - sum as i64);
        let root = interval.rows().find(|row| row["container"]["cgroup"]["path"] == "/").expect("a row");
        assert!(root["memory"]["current"].is_null());
    }
    memtrace.stop();
    drop(workload);
}

#[test]
fn what_a_removed_child_leaves_is_its_parents() {
    let file = scratch::dir("left").join("file");
    let top = Made::top("left");
    let child = top.child("child");
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let words = ["write", &file.to_string_lossy(), "--total", "16M"];
    let workload = Workload::start(&child, &words);
    let truth = workload.done();
    workload.wait();
    let path = child.path.clone();
    child.remove();
    memtrace.until("the child to go", |interval| interval.removed(&path).is_some());
    let interval = memtrace.take(2).pop().expect("two were asked for");
    memtrace.stop();
    let row = interval.row(&top).expect("the parent is a row");
    let held = row["memory"]["file"].as_u64().expect("it is known");
    println!("left behind: true {truth}, told {held}");
    assert!(
        held >= truth / 100 * 95 && held <= truth + BESIDE,
        "parent holds {held}, its child left {truth}"
    );
    assert!(current(row) >= held);
}
