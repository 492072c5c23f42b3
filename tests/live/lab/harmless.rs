//! What is loud and does no harm: nothing above `info`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use super::limit;
use crate::driver::{
    MIB,
    cgroup::Made,
    container::{self, Wanted as Container},
    disk, docker, in_vm, scene, skip,
    workload::Workload,
};

const WATCHED: &str = "8";

/// A file that is read fills its cgroup to the limit with pages that cost nothing to drop.
#[test]
fn page_cache_hog() {
    disk::drop_caches();
    let cgroup = Made::top("cache");
    let size = if in_vm() { 32 * MIB } else { 400 * MIB };
    limit(&cgroup, size / 2);
    let file = disk::file("cache-hog", size).to_string_lossy().into_owned();
    let rate = (size / 10).to_string();
    let _reader = Workload::start(&cgroup, &["read", &file, "--rate", &rate, "--hold", "forever"]);
    let truth = json!({ "container": cgroup.path, "reads_per_s": size / 10, "limit": size / 2 });
    scene::diagnose(WATCHED).is("page-cache-hog", &truth, &[]);
}

#[test]
fn a_heap_that_is_filled_once() {
    disk::drop_caches();
    let cgroup = Made::top("heap");
    limit(&cgroup, 300 * MIB);
    let rate = (if in_vm() { 20 * MIB } else { 100 * MIB }).to_string();
    let _heap = Workload::start(&cgroup, &["anon", "--rate", &rate, "--total", "100M", "--hold", "forever"]);
    let truth = json!({ "container": cgroup.path, "total": 100 * MIB, "limit": 300 * MIB });
    scene::diagnose(WATCHED).is("heap-filled-once", &truth, &[]);
}

/// Processes that start others without end, under a limit of processes: many come to nothing, and memory stays.
#[test]
fn fork_bomb() {
    const SCENE: &str = "fork-bomb";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    disk::drop_caches();
    let words = ["-c", "f() { f | f & }; f; while :; do f; busybox usleep 100000; done"];
    let wanted = Container { cpus: Some(0.3), ..Container::shell("bomb", &words) };
    let bomb = docker::docker().run(&wanted, &["--pids-limit", "64"]);
    thread::sleep(Duration::from_secs(2));
    scene::diagnose(WATCHED).is(SCENE, &json!({ "container": bomb.cgroup.path, "pids": 64 }), &[]);
}

/// A container that ends with an error and is started again, over and over.
#[test]
fn crash_loop() {
    const SCENE: &str = "crash-loop";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    disk::drop_caches();
    container::warm_up();
    let words = ["-c", "busybox dd if=/dev/zero of=/dev/null bs=8M count=4 2>/dev/null; exit 1"];
    let wanted = Container::shell("crash", &words);
    let over = AtomicBool::new(false);
    let (report, crashes) = thread::scope(|scope| {
        let crashing = scope.spawn(|| {
            let mut crashes = 0;
            while !over.load(Ordering::Relaxed) {
                docker::run(&wanted).wait();
                crashes += 1;
            }
            crashes
        });
        let report = scene::diagnose(WATCHED);
        over.store(true, Ordering::Relaxed);
        (report, crashing.join().expect("containers can be run"))
    });
    report.is(SCENE, &json!({ "crashes": crashes }), &[]);
}

/// The same by docker's own hand, which waits longer each time.
#[test]
fn crash_loop_by_restart_policy() {
    const SCENE: &str = "crash-loop, by restart policy";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    disk::drop_caches();
    container::warm_up();
    let words = [
        "-c",
        "busybox dd if=/dev/zero of=/dev/null bs=8M count=4 2>/dev/null; busybox usleep 200000; exit 1",
    ];
    let wanted = Container::shell("restart", &words);
    let crashing = docker::docker().run(&wanted, &["--restart", "always"]);
    let crashes = || {
        let told = docker::docker().ask(&["inspect", "--format", "{{.RestartCount}}", &crashing.id]);
        String::from_utf8_lossy(&told.stdout).trim().parse::<u64>().expect("docker counts them")
    };
    let before = crashes();
    let report = scene::diagnose(WATCHED);
    let crashes = crashes() - before;
    assert!(crashes >= 1, "it was started again meanwhile");
    report.is(SCENE, &json!({ "container": crashing.cgroup.path, "crashes": crashes }), &[]);
}

/// Many short lines, on a disk that has room for hours of them.
#[test]
fn log_flood() {
    const SCENE: &str = "log-flood, with room";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    disk::drop_caches();
    container::warm_up();
    let words = ["log", "--line-bytes", "1000", "--rate", "10M", "--total", "300M"];
    let loud = docker::run(&Container { name: "loud", words: &words, ..Container::default() });
    thread::sleep(Duration::from_secs(2));
    scene::diagnose(WATCHED).is(
        SCENE,
        &json!({ "container": loud.cgroup.path, "bytes_per_s": 10 * MIB }),
        &[],
    );
}
