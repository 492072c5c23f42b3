//! Two at once: each is told of whom it is about, and not of the other.

use std::{fs, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::limit;
use crate::driver::{
    MIB,
    cgroup::Made,
    container::{self, Wanted as Container},
    docker,
    hung::{Frozen, Hung},
    in_vm,
    scene::{self, Wanted},
    skip,
    workload::Workload,
};

const WATCHED: &str = "8";

fn leak(name: &str) -> (Workload, Made) {
    let rate = if in_vm() { 4 * MIB } else { 20 * MIB };
    let cgroup = Made::top(name);
    limit(&cgroup, 30 * rate);
    let (each, total) = (rate.to_string(), (25 * rate).to_string());
    let words = ["anon", "--rate", &each, "--total", &total, "--hold", "forever"];
    (Workload::start(&cgroup, &words), cgroup)
}

/// One leaks, one hangs on a frozen file system and was killed in vain.
#[test]
fn a_leak_and_one_that_cannot_be_killed() {
    const SCENE: &str = "leak+unkillable";
    let disk = match Frozen::new() {
        Ok(disk) => disk,
        Err(why) => return skip(SCENE, &why),
    };
    let stuck = Made::top("both-stuck");
    let file = disk.mount().join("file");
    fs::write(&file, "x").expect("it can be written");
    disk.freeze();
    let hung = Hung::writer(&stuck, &file);
    kill_process(Pid::from_raw(hung.pid() as i32).expect("it has a number"), Signal::KILL)
        .expect("it is there");
    let (_leak, leaking) = leak("both-leak");
    thread::sleep(Duration::from_secs(6));
    let report = scene::diagnose(WATCHED);
    let wanted = [
        Wanted { kind: "unkillable-task", path: &stuck.path },
        Wanted { kind: "memory-growth", path: &leaking.path },
    ];
    report.is(SCENE, &json!({ "leaks": leaking.path, "hangs": stuck.path, "pid": hung.pid() }), &wanted);
    let finding = report.finding(&wanted[0]).expect("it is there");
    assert_eq!(finding["evidence"]["tasks"][0]["pid"], hung.pid());
    disk.thaw();
}

/// One container leaks, one floods its log; each is innocent of the other's.
#[test]
fn a_leak_and_a_log_flood() {
    const SCENE: &str = "leak+log-flood";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    container::warm_up();
    let words = ["log", "--line-bytes", "120", "--rate", "24M"];
    let loud = docker::run(&Container { name: "loud", words: &words, ..Container::default() });
    let (_leak, leaking) = leak("both-leak");
    thread::sleep(Duration::from_secs(2));
    let report = scene::diagnose("10");
    let wanted = [Wanted { kind: "memory-growth", path: &leaking.path }];
    report.is(SCENE, &json!({ "leaks": leaking.path, "floods": loud.cgroup.path }), &wanted);
    // How bad a flood is depends on how much room the disk has.
    let flood = Wanted { kind: "log-flood", path: &loud.cgroup.path };
    assert!(report.finding(&flood).is_some(), "the flood is not told");
}
