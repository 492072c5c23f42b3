//! Containers of containerd without Kubernetes: `ctr run`, in a namespace that people know, in one that no table
//! knows, and with what nerdctl writes.

use crate::driver::{
    MIB,
    containerd::{NAMESPACE, containerd},
    in_vm,
    known::BESIDE,
    memtrace::Memtrace,
    skip,
    workload::Workload,
};

const NO_RUNC: &str = "ctr wants runc, and a guest has crun";

#[test]
fn ctr_in_known_and_unknown_namespaces() {
    if in_vm() {
        return skip("ctr_in_known_and_unknown_namespaces", NO_RUNC);
    }
    let containerd = containerd();
    // One name in two namespaces, and another beside it.
    let web = format!("web-{}", std::process::id());
    let run = |namespace: &str, id: &str, total: &str| {
        containerd.run(namespace, id, &["anon", "--total", total, "--hold", "forever"], &[])
    };
    let before = [run("default", &web, "12M"), run(NAMESPACE, &web, "20M")];
    let mut truths: Vec<u64> = before.iter().map(|started| started.done()).collect();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let first = memtrace.next();
    for (started, truth) in before.iter().zip(&truths) {
        started.known.holds(&first, *truth);
    }

    let after = run(NAMESPACE, "late", "28M");
    truths.push(after.done());
    let interval = memtrace.later(2);
    let all = || before.iter().chain([&after]);
    for (started, truth) in all().zip(&truths) {
        started.known.holds(&interval, *truth);
    }
    let workload = Workload::start(&before[1].known.cgroup, &["anon", "--total", "40M", "--hold", "forever"]);
    workload.done();
    let now = memtrace.later(2);
    for started in all() {
        let known = &started.known;
        let growth = known.anon(&now).saturating_sub(known.anon(&interval));
        let truth = if known.cgroup.path == before[1].known.cgroup.path { 40 * MIB } else { 0 };
        assert!((truth..truth + BESIDE).contains(&growth), "{known:?} grew by {growth}, true {truth}");
    }
    assert_eq!(memtrace.stop().errors, "");
    drop(workload);
}

/// nerdctl is not in Debian: these are its annotations and the ids it makes, on a real container of containerd.
#[test]
fn with_nerdctls_annotations() {
    if in_vm() {
        return skip("with_nerdctls_annotations", NO_RUNC);
    }
    let id = format!("{:064x}", 0xfeed_0000_u64 + u64::from(std::process::id()));
    let words = ["anon", "--total", "16M", "--hold", "forever"];
    for namespace in ["default", NAMESPACE] {
        let mut memtrace = Memtrace::top(&["-i", "0.5"]);
        let mut started = containerd().run(namespace, &id, &words, &["--annotation", "nerdctl/name=shop"]);
        started.known.name = Some("shop".to_owned());
        let truth = started.done();
        started.known.holds(&memtrace.later(2), truth);
        memtrace.stop();
    }
}
