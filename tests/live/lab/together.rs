//! Two at once: each is told of whom it is about, and not of the other.

use std::{fs, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::leak;
use crate::driver::{
    cgroup::Made,
    hung::{Frozen, Hung},
    scene::{self, Wanted},
    skip,
};

const WATCHED: &str = "8";

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
