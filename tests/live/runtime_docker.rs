//! docker where nothing is where and what it is elsewhere: data root, state, names of the programs; containers that
//! are renamed; a docker in a docker.

use crate::driver::{
    MIB,
    cgroup::Made,
    container::{self, Wanted},
    docker::{Binaries, Docker, docker},
    in_vm,
    known::BESIDE,
    memtrace::Memtrace,
    podman::podman,
    skip, wait_for,
    workload::Workload,
};

const NO_DAEMON: &str = "the emulated machine has no docker";

#[test]
fn programs_of_other_names() {
    if in_vm() {
        return skip("programs_of_other_names", NO_DAEMON);
    }
    let docker = Docker::start("ships", Binaries::renamed());
    let run = |name, total| {
        let words = ["anon", "--total", total, "--hold", "forever"];
        docker.run(&Wanted { name, words: &words, ..Wanted::default() }, &[])
    };
    let before = run("before", "12M");
    let truth = before.done();
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", before.shim())).expect("it runs");
    assert_eq!(comm, "tug\n");
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    before.holds(&memtrace.next(), truth);
    let after = run("after", "20M");
    let later = after.done();
    let interval = memtrace.later(2);
    before.holds(&interval, truth);
    after.holds(&interval, later);
    let workload = Workload::start(&before.cgroup, &["anon", "--total", "40M", "--hold", "forever"]);
    workload.done();
    let now = memtrace.later(2);
    for (known, bytes) in [(&before, 40 * MIB), (&after, 0)] {
        let growth = known.anon(&now).saturating_sub(known.anon(&interval));
        assert!((bytes..bytes + BESIDE).contains(&growth), "{:?} grew by {growth}", known.name);
    }
    assert_eq!(memtrace.stop().errors, "");
    drop(workload);
}

#[test]
fn a_rename_is_noticed() {
    if in_vm() {
        return skip("a_rename_is_noticed", NO_DAEMON);
    }
    let words = ["idle"];
    let mut renamed = [
        container::run(&Wanted { name: "old", words: &words, ..Wanted::default() }),
        podman().run(&Wanted { name: "old", words: &words, ..Wanted::default() }, None),
    ];
    let stays = container::run(&Wanted { name: "stays", words: &words, ..Wanted::default() });
    for container in renamed.iter().chain([&stays]) {
        container.done();
    }
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let first = memtrace.next();
    for container in &renamed {
        container.row(&first);
    }
    let name = format!("new-{}", std::process::id());
    docker().ask(&["rename", &renamed[0].id, &name]);
    podman().ask(&["rename", &renamed[1].id, &name]);
    for container in &mut renamed {
        container.name = Some(name.clone());
    }
    let intervals = memtrace.until("the new names", |interval| {
        renamed
            .iter()
            .all(|container| interval.row(&container.cgroup).is_some_and(|row| container.is(row).is_ok()))
    });
    stays.row(intervals.last().expect("one fits"));
    memtrace.stop();
}

/// The inner daemon's parent is in the outer container; the inner container is real, its daemon ours.
#[test]
fn a_docker_in_a_docker() {
    if in_vm() {
        return skip("a_docker_in_a_docker", NO_DAEMON);
    }
    let hold = |total| ["anon", "--total", total, "--hold", "forever"];
    let outer = container::run(&Wanted { name: "outer", words: &hold("12M"), ..Wanted::default() });
    let truth = outer.done();
    let parent = format!("{}/docker", outer.cgroup.path);
    let words = hold("20M");
    let wanted = Wanted { name: "inner", words: &words, ..Wanted::default() };
    let inner = docker().run(&wanted, &["--cgroup-parent", &parent]);
    let held = inner.done();
    // Of an outer cgroup the kernel may say for two seconds what it held before the inner one did.
    wait_for("the kernel to gather what both hold", || {
        (outer.cgroup.reading()["anon"] >= truth + held).then_some(())
    });
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let interval = memtrace.next();
    // The rows are disjoint: the outer one does not count what the inner one holds.
    outer.holds(&interval, truth);
    inner.holds(&interval, held);
    // A container cannot get another's name by calling a cgroup after it.
    let borrowed = Made::at(format!("{parent}/{}", "ab".repeat(32)));
    let lent = Made::at(format!("{}/{}", borrowed.path, inner.id));
    let workload = Workload::start(&lent, &["anon", "--total", "28M", "--hold", "forever"]);
    workload.done();
    let interval = memtrace.later(3);
    inner.holds(&interval, held);
    let row = interval.row(&lent).expect("it has a row");
    assert!(row["container"]["name"].is_null(), "{row}");
    memtrace.stop();
    drop(workload);
    drop((lent, borrowed));
    drop(inner);
    wait_for("the inner parent to go", || {
        let path = format!("{}{parent}", crate::driver::cgroup::hierarchy().mount.display());
        let _ = std::fs::remove_dir(&path);
        (!std::path::Path::new(&path).exists()).then_some(())
    });
}
