//! Runtimes in trouble: daemons, shims and conmons that are stopped or killed, files that are gone or hidden. Whose
//! memory it is stays told: the id always, the name if it was ever seen or can still be read.

use std::{fs, iter, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use crate::driver::{
    MIB,
    confined::blind_to,
    container::{Container, Wanted},
    containerd::{Containerd, forget},
    cri::{BURSTABLE, Pod},
    docker::{Binaries, Docker},
    guard, in_vm,
    interval::Interval,
    known::{BESIDE, Known},
    memtrace::{self, Memtrace},
    podman::podman,
    skip,
    workload::Workload,
};

const NO_DAEMON: &str = "the emulated machine has no daemons";

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("no process has the id 0");
    kill_process(pid, signal).expect("it runs");
}

/// Stopped processes, which go on with the end of the value.
struct Stopped(Vec<u32>);

impl Stopped {
    fn stop(pids: &[u32]) -> Stopped {
        for pid in pids {
            signal(*pid, Signal::STOP);
        }
        Stopped(pids.to_vec())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(Pid::from_raw(*pid as i32).expect("no process has the id 0"), Signal::CONT);
        }
    }
}

/// A memtrace that starts now: what it says in its third interval.
fn fresh(known: &[&Known]) -> Interval {
    let mut memtrace = Memtrace::top(&["-i", "0.3"]);
    let interval = memtrace.take(2).pop().expect("two were taken");
    memtrace.stop();
    for known in known {
        assert!(interval.row(&known.cgroup).is_some(), "no row for {}", known.cgroup.path);
    }
    interval
}

/// One that starts now and cannot see the runtime's files where they are, but where the shim sees them: that is what a
/// memtrace in a container sees, and of a runtime in a container the host.
fn blind(hidden: &Path) -> Interval {
    let mut command = memtrace::command(&["top", "--json", "-i", "0.3"]);
    let mut memtrace = Memtrace::spawn(blind_to(&mut command, &[&hidden.to_string_lossy()]));
    let interval = memtrace.take(2).pop().expect("two were taken");
    memtrace.stop();
    interval
}

/// The row has the container's id and no name.
fn nameless(known: &Known, interval: &Interval) {
    let row = &interval.row(&known.cgroup).expect("it has a row")["container"];
    assert_eq!(row["id"], known.id);
    assert!(row["name"].is_null() && row["pod"].is_null(), "{row}");
}

/// memtrace goes on, and tells what one container grows by.
fn still_told(memtrace: &mut Memtrace, known: &Known, others: &[&Known]) {
    let before = memtrace.later(1);
    let workload = Workload::start(&known.cgroup, &["anon", "--total", "40M", "--hold", "forever"]);
    workload.done();
    let now = memtrace.later(2);
    for (known, bytes) in iter::once((known, 40 * MIB)).chain(others.iter().map(|known| (*known, 0))) {
        let growth = known.anon(&now).saturating_sub(known.anon(&before));
        assert!((bytes..bytes + BESIDE).contains(&growth), "{known:?} grew by {growth}, true {bytes}");
    }
}

#[test]
fn docker_in_trouble() {
    if in_vm() {
        return skip("docker_in_trouble", NO_DAEMON);
    }
    let mut docker = Docker::start("broken", Binaries::default());
    let run = |name, total| {
        let words = ["anon", "--total", total, "--hold", "forever"];
        docker.run(&Wanted { name, words: &words, ..Wanted::default() }, &[])
    };
    let containers = [run("one", "12M"), run("two", "20M")];
    let truths = containers.each_ref().map(Container::done);
    let [one, two] = containers.each_ref().map(|container| &**container);
    let holds = |interval: &Interval| {
        one.holds(interval, truths[0]);
        two.holds(interval, truths[1]);
    };
    let mut memtrace = Memtrace::top(&["-i", "0.3"]);
    holds(&memtrace.next());

    let stopped = Stopped::stop(&[docker.dockerd.pid(), docker.containerd.pid(), one.shim(), two.shim()]);
    still_told(&mut memtrace, one, &[two]);
    holds(&fresh(&[one, two]));
    drop(stopped);

    // Its shims are left.
    docker.dockerd.kill();
    docker.containerd.kill();
    still_told(&mut memtrace, two, &[one]);
    holds(&fresh(&[one, two]));

    holds(&blind(&docker.data()));

    // What docker knows is gone: who saw it still knows, who comes now has the id.
    let records = docker.data().join("containers");
    let away = records.with_extension("away");
    fs::rename(&records, &away).expect("it is ours");
    still_told(&mut memtrace, one, &[two]);
    let interval = fresh(&[one, two]);
    nameless(one, &interval);
    nameless(two, &interval);
    let mut late = Memtrace::start(&["-i", "0.3"]);
    nameless(one, &late.next());
    fs::rename(&away, &records).expect("it is ours");
    late.until("the names to be found", |interval| {
        [one, two].iter().all(|known| interval.row(&known.cgroup).is_some_and(|row| known.is(row).is_ok()))
    });
    late.stop();

    // The shims too: the files that docker mounts lead to its records.
    for pid in [one.shim(), two.shim()] {
        signal(pid, Signal::KILL);
    }
    holds(&fresh(&[one, two]));
    assert_eq!(memtrace.stop().errors, "");
    // There is nobody left to remove them.
    for known in [one, two] {
        guard::at_end(&forget(&known.cgroup.path));
        signal(known.process(), Signal::KILL);
    }
}

#[test]
fn a_pods_containerd_in_trouble() {
    if in_vm() {
        return skip("a_pods_containerd_in_trouble", NO_DAEMON);
    }
    let containerd = Containerd::start("broken");
    let pod = Pod::run(&containerd, "hurt", BURSTABLE);
    let container = pod.start("web", 0, &["anon", "--total", "12M", "--hold", "forever"]);
    let truth = container.done();
    let known = &container.known;
    let right = |interval: &Interval| {
        known.holds(interval, truth);
        pod.sandbox.holds(interval, 0);
        pod.own.holds(interval, 0);
    };
    let mut memtrace = Memtrace::top(&["-i", "0.3"]);
    right(&memtrace.next());

    let stopped = Stopped::stop(&[containerd.pid(), known.shim()]);
    still_told(&mut memtrace, known, &[&pod.sandbox, &pod.own]);
    right(&fresh(&[known, &pod.own]));
    drop(stopped);

    // Its daemon gone, the shim left.
    containerd.kill();
    still_told(&mut memtrace, known, &[&pod.sandbox, &pod.own]);
    right(&fresh(&[known, &pod.own]));

    right(&blind(&containerd.dir));

    // What containerd wrote is gone: who saw it still knows, who comes now has the id.
    let record = containerd.bundles("k8s.io").join(&known.id).join("config.json");
    let away = record.with_extension("away");
    fs::rename(&record, &away).expect("it is ours");
    still_told(&mut memtrace, known, &[&pod.own]);
    nameless(known, &fresh(&[known]));
    fs::rename(&away, &record).expect("it is ours");
    assert_eq!(memtrace.stop().errors, "");
    containerd.restart();
}

#[test]
fn podman_without_its_conmon() {
    if in_vm() {
        return skip("podman_without_its_conmon", NO_DAEMON);
    }
    let words = ["anon", "--total", "12M", "--hold", "forever"];
    let wanted = Wanted { name: "orphan", words: &words, ..Wanted::default() };
    let container = podman().run(&wanted, None);
    let truth = container.done();
    let known = &*container;
    let conmon = podman().conmon(&known.id);
    assert_eq!(known.shim(), conmon);
    let mut memtrace = Memtrace::top(&["-i", "0.3"]);
    known.holds(&memtrace.next(), truth);

    let stopped = Stopped::stop(&[conmon]);
    still_told(&mut memtrace, known, &[]);
    known.holds(&fresh(&[known]), truth);
    drop(stopped);

    // Killed, it takes no container with it; the files that podman mounts lead to the storage.
    signal(conmon, Signal::KILL);
    still_told(&mut memtrace, known, &[]);
    known.holds(&fresh(&[known]), truth);
    assert_eq!(memtrace.stop().errors, "");
    signal(known.process(), Signal::KILL);
}
