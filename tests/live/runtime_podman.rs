//! podman's containers and pods, below its own parent, each with its conmon.

use crate::driver::{
    MIB,
    container::Wanted,
    in_vm,
    known::{BESIDE, Known},
    memtrace::Memtrace,
    podman::podman,
    skip,
    workload::Workload,
};

#[test]
fn podman_containers_and_a_pod() {
    if in_vm() {
        return skip("podman_containers_and_a_pod", "the emulated machine has no podman");
    }
    let podman = podman();
    let pod = podman.pod("trio");
    let run = |name, total, pod| {
        let words = ["anon", "--total", total, "--hold", "forever"];
        podman.run(&Wanted { name, words: &words, ..Wanted::default() }, pod)
    };
    let before = [run("alone", "12M", None), run("member", "20M", Some(&pod))];
    let truths = before.each_ref().map(|container| container.done());
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let first = memtrace.next();
    for (container, truth) in before.iter().zip(truths) {
        container.holds(&first, truth);
    }
    let after = [run("later", "28M", None), run("joined", "36M", Some(&pod))];
    let later = after.each_ref().map(|container| container.done());
    let interval = memtrace.later(2);
    for (container, truth) in before.iter().chain(&after).zip(truths.iter().chain(&later)) {
        container.holds(&interval, *truth);
    }
    pod.sandbox.holds(&interval, 0);
    pod.own.holds(&interval, 0);

    let workload = Workload::start(&before[1].cgroup, &["anon", "--total", "40M", "--hold", "forever"]);
    workload.done();
    let now = memtrace.later(2);
    let all: Vec<&Known> = before.iter().chain(&after).map(|container| &**container).collect();
    for known in all.into_iter().chain([&pod.sandbox, &pod.own]) {
        let growth = known.anon(&now).saturating_sub(known.anon(&interval));
        let truth = if known.id == before[1].id { 40 * MIB } else { 0 };
        assert!((truth..truth + BESIDE).contains(&growth), "{known:?} grew by {growth}, true {truth}");
    }
    assert_eq!(memtrace.stop().errors, "");
    drop(workload);
}
