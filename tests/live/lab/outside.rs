//! Memory that goes where no row is: who takes it is in the root cgroup, whose memory the kernel counts for nobody.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made},
    disk, guard, in_vm,
    scene::{self, Wanted},
    skip, wait_for,
    workload::Workload,
};

/// At the rate nothing is left after so long: near enough to be told after some seconds, and far enough to be over by then.
fn left_seconds() -> u64 {
    if in_vm() { 240 } else { 150 }
}

/// It ends with the look at it, and at the latest after so long. Emulated, memtrace's own start takes most of it.
fn seconds() -> u64 {
    if in_vm() { 75 } else { 30 }
}

const WATCHED: &str = "14";
/// It takes a part of what is available.
const MOST: u64 = 32 * 1024 * MIB;

fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("the kernel tells what is available") * 1024
}

/// The same when nothing that earlier scenes held is given back any more.
fn still() -> u64 {
    let mut before = available();
    wait_for("what is available to stand still", || {
        thread::sleep(Duration::from_secs(3));
        let now = available();
        let moved = std::mem::replace(&mut before, now).abs_diff(now);
        (moved < 16 * MIB).then_some(now)
    })
}

/// What the finding says of a workload in the root cgroup, and the workload.
fn grows(scene: &str, kind: &str, words: &[&str]) -> Option<(Value, u32)> {
    disk::drop_caches();
    let available = still();
    if available > MOST {
        skip(scene, "it would take more than a few GiB of this machine's memory");
        return None;
    }
    // Where nothing is in any cgroup, nobody knows what is in none.
    let _row = Made::top(scene);
    let rate = available / left_seconds();
    let (each, total) = (rate.to_string(), (rate * seconds()).to_string());
    let words = [words, &["--rate", &each, "--total", &total, "--hold", "forever"]].concat();
    let grower = Workload::start(&Cgroup { path: "/".to_owned() }, &words);
    let report = scene::diagnose(WATCHED);
    let wanted = Wanted { kind: "node-exhaustion", path: "" };
    let truth = json!({
        "container": null,
        "kind": kind,
        "pid": grower.pid(),
        "bytes_per_s": rate,
        "available": [available, self::available()],
    });
    report.is(scene, &truth, std::slice::from_ref(&wanted));
    let finding = report.finding(&wanted).expect("it is there").clone();
    if !in_vm() {
        let told = scene::number(&finding, &format!("unattributed_by_kind.{kind}"));
        scene::near(kind, told, rate as f64, 0.2);
    }
    Some((finding, grower.pid()))
}

fn says(finding: &Value) -> &str {
    finding["summary"].as_str().expect("a sentence")
}

#[test]
fn a_process_in_no_container() {
    const SCENE: &str = "outside-anon";
    let Some((finding, pid)) = grows(SCENE, "anon", &["anon"]) else { return };
    assert_eq!(finding["evidence"]["top_process"]["pid"], pid, "{finding}");
    let end = format!("in no container and no unit: anonymous memory, in workload[{pid}]");
    assert!(says(&finding).ends_with(&end), "{}", says(&finding));
    let advice = finding["advice"].as_array().expect("a list");
    assert!(advice.contains(&format!("$ kill {pid}").into()), "{advice:?}");
    // What is given back is no trouble any more.
    thread::sleep(Duration::from_secs(1));
    assert!(scene::diagnose("6").finding(&Wanted { kind: "node-exhaustion", path: "" }).is_none());
}

#[test]
fn a_tmpfs_that_no_container_fills() {
    const SCENE: &str = "outside-tmpfs";
    let file = format!("/dev/shm/mtlive-{}-outside", std::process::id());
    guard::at_end(&format!("rm -f {file}"));
    let told = grows(SCENE, "shmem", &["tmpfs", &file]);
    let _ = fs::remove_file(&file);
    let Some((finding, _)) = told else { return };
    assert!(
        says(&finding).ends_with("no container and no unit: tmpfs and shared memory"),
        "{}",
        says(&finding)
    );
}
