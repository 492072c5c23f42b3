//! Two at once: each is told of whom it is about, and not of the other.

use std::{fs, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{leak, limit, limit_seconds, rate, seconds};
use crate::driver::{
    MIB,
    cgroup::Made,
    disk,
    hung::{Frozen, Hung},
    scene::{self, Wanted},
    skip,
    workload::Workload,
};

const WATCHED: &str = "8";

/// One leaks, one hangs on a frozen file system and was killed in vain.
#[test]
fn a_leak_and_one_that_cannot_be_killed() {
    const SCENE: &str = "leak+unkillable";
    disk::drop_caches();
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

/// Two that look alike, and do the same work: first the one leaks, then the other.
#[test]
fn guilty_once_and_innocent_once() {
    disk::drop_caches();
    let pair = ["alpha", "beta"].map(|name| {
        let cgroup = Made::top(name);
        // Beside what it has already.
        limit(&cgroup, limit_seconds() * rate() + 8 * MIB);
        let work = Workload::start(&cgroup, &["anon", "--total", "8M", "--hold", "forever"]);
        (work, cgroup)
    });
    for (at, (_, guilty)) in pair.iter().enumerate() {
        let (each, total) = (rate().to_string(), (seconds() * rate()).to_string());
        let words = ["anon", "--rate", &each, "--total", &total, "--hold", "forever"];
        let leak = Workload::start(guilty, &words);
        thread::sleep(Duration::from_secs(2));
        let report = scene::diagnose(WATCHED);
        let wanted = [Wanted { kind: "memory-growth", path: &guilty.path }];
        let truth = json!({ "leaks": guilty.path, "does_not": pair[1 - at].1.path });
        report.is("guilty once, innocent once", &truth, &wanted);
        let told = report.findings().iter().map(|finding| &finding["container"]["cgroup"]["path"]);
        assert!(told.into_iter().all(|path| *path != pair[1 - at].1.path), "{:#?}", report.findings());
        drop(leak);
    }
}
