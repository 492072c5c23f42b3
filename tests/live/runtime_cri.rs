//! Kubernetes' pods by containerd's CRI: sandbox, containers and the pod's own cgroup, in every class, by the paths of
//! both of the kubelet's drivers.

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made, hierarchy},
    containerd::{self, containerd},
    cri::{BEST_EFFORT, BURSTABLE, GUARANTEED, Pod, uid},
    in_vm,
    known::BESIDE,
    memtrace::Memtrace,
    skip,
    workload::Workload,
};

#[test]
fn pods_of_every_class() {
    if let Some(reason) = containerd::missing() {
        return skip("pods_of_every_class", reason);
    }
    let containerd = containerd();
    let hold = |total| ["anon", "--total", total, "--hold", "forever"];
    let pods = [("whole", GUARANTEED), ("some", BURSTABLE)];
    let before = pods.map(|(name, class)| Pod::run(containerd, name, class));
    let mut containers = vec![
        before[0].start("web", 0, &hold("12M")),
        before[0].start("log", 0, &hold("18M")),
        // The same name in another pod.
        before[1].start("web", 0, &hold("24M")),
    ];
    let mut truths: Vec<u64> = containers.iter().map(|container| container.done()).collect();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let first = memtrace.next();
    for (container, truth) in containers.iter().zip(&truths) {
        container.known.holds(&first, *truth);
    }

    let after = Pod::run(containerd, "rest", BEST_EFFORT);
    containers.push(after.start("web", 0, &hold("30M")));
    truths.push(containers[3].done());
    let interval = memtrace.later(2);
    for pod in before.iter().chain([&after]) {
        pod.sandbox.holds(&interval, 0);
        pod.own.holds(&interval, 0);
    }
    for (container, truth) in containers.iter().zip(&truths) {
        container.known.holds(&interval, *truth);
    }

    // In one container, then in a pod beside its containers.
    let mut growing = vec![(&containers[0].known, 40 * MIB)];
    // On v2 nobody is in a cgroup beside others.
    if !hierarchy().v2 {
        growing.push((&before[1].own, 20 * MIB));
    }
    for (grown, bytes) in growing {
        let workload =
            Workload::start(&grown.cgroup, &["anon", "--total", &bytes.to_string(), "--hold", "9"]);
        assert_eq!(workload.done(), bytes);
        let now = memtrace.later(2);
        let rows = containers.iter().map(|container| &container.known);
        let rows = rows.chain(before.iter().chain([&after]).flat_map(|pod| [&pod.own, &pod.sandbox]));
        for row in rows {
            let growth = row.anon(&now).saturating_sub(row.anon(&interval));
            let truth = if row.id == grown.id { bytes } else { 0 };
            assert!((truth..truth + BESIDE).contains(&growth), "{row:?} grew by {growth}, true {truth}");
        }
        drop(workload);
        memtrace.until("it to be given back", |interval| grown.anon(interval) < bytes);
    }
    assert_eq!(memtrace.stop().errors, "");
}

#[test]
fn a_restarted_container_is_another() {
    if let Some(reason) = containerd::missing() {
        return skip("a_restarted_container_is_another", reason);
    }
    let pod = Pod::run(containerd(), "restarts", BURSTABLE);
    let first = pod.start("web", 0, &["anon", "--total", "12M", "--hold", "forever"]);
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let old = first.known.clone();
    old.holds(&memtrace.next(), first.done());
    first.remove();
    let second = pod.start("web", 1, &["anon", "--total", "20M", "--hold", "forever"]);
    let truth = second.done();
    assert_ne!(old.id, second.known.id);
    let mut told = memtrace.waiting();
    told.extend(memtrace.take(2));
    memtrace.stop();
    let ends: Vec<_> = told.iter().filter_map(|interval| interval.removed(&old.cgroup.path)).collect();
    assert_eq!(ends.len(), 1, "the old one was removed once");
    old.is(ends[0]).expect("it is named rightly to the end");
    assert!(ends[0]["removed"]["peak"].as_u64().is_some_and(|peak| (12 * MIB..20 * MIB).contains(&peak)));
    let last = told.last().expect("two were taken");
    second.known.holds(last, truth);
    assert!(last.row(&old.cgroup).is_none(), "it is not told any more");
}

/// A kubelet with the systemd driver above a containerd with cgroupfs makes one directory of a slice's words; where
/// both use systemd a scope holds the container, made here by hand, because there is no systemd.
#[test]
fn the_systemd_drivers_paths() {
    if in_vm() {
        return skip(
            "the_systemd_drivers_paths",
            "crun, which a guest has, takes a slice's path in another way",
        );
    }
    let uid = uid();
    let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    let parent = format!("/kubepods.slice/kubepods-burstable.slice/{slice}");
    let pod = Pod::below(containerd(), "sliced", &uid, &parent, |id| {
        // Below the daemon's cgroup, which is ours.
        format!("{}/{slice}:cri-containerd:{id}", Cgroup::ours().path.trim_end_matches('/'))
    });
    let container = pod.start("web", 0, &["anon", "--total", "14M", "--hold", "forever"]);
    let truth = container.done();

    let kubepods = Made::shared("/kubepods.slice");
    let burstable = kubepods.shared_child("kubepods-burstable.slice");
    let own = burstable.child(&slice);
    let mut scoped = container.known.clone();
    let scope = own.child(&format!("cri-containerd-{}.scope", scoped.id));
    scoped.cgroup = scope.cgroup();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    container.known.holds(&memtrace.next(), truth);
    pod.sandbox.holds(&memtrace.next(), 0);

    // What was charged stays where it was; what comes next is the scope's.
    scope.take_all(&container.known.cgroup);
    let workload = Workload::start(&scope, &["anon", "--total", "22M", "--hold", "forever"]);
    let grown = workload.done();
    let interval = memtrace.until("the scope's name", |interval| {
        interval.row(&scope).is_some_and(|row| row["container"]["name"] == "web")
    });
    scoped.holds(interval.last().expect("one fits"), grown);
    let mut pods_row = pod.own.clone();
    pods_row.runtime = "systemd";
    pods_row.cgroup = own.cgroup();
    pods_row.holds(&memtrace.later(1), 0);
    memtrace.stop();
    drop(workload);
    drop((container, pod, scope, own, burstable, kubepods));
}
