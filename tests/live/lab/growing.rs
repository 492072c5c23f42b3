//! Memory that grows towards a limit, of one kind each: the finding says which, how fast, and how long it will take.

use std::{thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{growing, leak, limit, limit_seconds, rate, seconds};
use crate::driver::{
    cgroup::{Made, hierarchy},
    container::{self, Wanted as Container},
    disk::{self, Swap},
    docker, guard, in_vm, memtrace, output, patience,
    scene::{self, Wanted},
    scratch, skip, wait_for,
    workload::Workload,
};

/// Looked at for so long.
const WATCHED: &str = "8";
/// One workload in a cgroup with a limit, whose growth is of one kind.
fn grows(scene: &str, kind: &str, (grower, cgroup): (Workload, Made)) -> (Value, u32) {
    let rate = rate();
    thread::sleep(Duration::from_secs(2));
    let report = scene::diagnose(WATCHED);
    let wanted = Wanted { kind: "memory-growth", path: &cgroup.path };
    let truth = json!({ "container": cgroup.path, "kind": kind, "bytes_per_s": rate, "limit": limit_seconds() * rate });
    report.is(scene, &truth, std::slice::from_ref(&wanted));
    let finding = report.finding(&wanted).expect("it is there");
    // Emulated, no rate is kept.
    if !in_vm() {
        scene::near("bytes_per_s", scene::number(finding, "bytes_per_s"), rate as f64, 0.2);
        let left = scene::number(finding, "seconds_to_limit");
        assert!((10.0..25.0).contains(&left), "{finding}");
    }
    assert_eq!(
        (&finding["severity"], &finding["evidence"]["limit"]),
        (&"critical".into(), &(limit_seconds() * rate).into())
    );
    let share = scene::number(finding, &format!("by_kind.{kind}")) / scene::number(finding, "bytes_per_s");
    assert!((0.8..1.2).contains(&share), "{share} of it is {kind}: {finding}");
    (finding.clone(), grower.pid())
}

#[test]
fn anon_leak() {
    const SCENE: &str = "anon-leak";
    disk::drop_caches();
    let (finding, pid) = grows(SCENE, "anon", leak(SCENE));
    assert_eq!(finding["evidence"]["top_process"]["pid"], pid);
}

#[test]
fn tmpfs_filler() {
    const SCENE: &str = "tmpfs-filler";
    let file = format!("/dev/shm/mtlive-{}-filler", std::process::id());
    guard::at_end(&format!("rm -f {file}"));
    disk::drop_caches();
    grows(SCENE, "shmem", growing(SCENE, &["tmpfs", &file]));
    let _ = std::fs::remove_file(&file);
}

/// What stops moments before the end is told, with how long ago: at the end of a run nobody waits for its next breath.
#[test]
fn what_is_over_by_the_end_is_told() {
    let (grower, cgroup) = leak("over");
    let (mut memtrace, stdout) = memtrace::piped(&["diagnose", "-d", "60"]);
    let lines = output::lines(stdout);
    let next = || lines.recv_timeout(patience()).expect("the leak is found");
    while !next().starts_with(&format!("found: critical: {} ", cgroup.path)) {}
    // More than one look finds it.
    thread::sleep(Duration::from_millis(2500));
    drop(grower);
    // Less than it is kept for.
    thread::sleep(Duration::from_millis(2500));
    kill_process(Pid::from_child(&memtrace), Signal::INT).expect("it runs");
    let status = wait_for("memtrace to end", || memtrace.try_wait().expect("it is our child"));
    let report: Vec<String> = lines.iter().collect();
    assert!(status.success(), "{status}: {report:#?}");
    let told = |what: &str| report.iter().any(|line| line.contains(what));
    assert!(told("not found any more for so long"), "{report:#?}");
    assert!(!told("Nothing is wrong"), "{report:#?}");
}

/// A leak that swap takes in: it stands at its limit, and nothing else tells that it grows.
#[test]
fn swapped_out() {
    const SCENE: &str = "swapped-out";
    let (rate, seconds) = (rate(), seconds());
    disk::drop_caches();
    // Dropped after who uses it.
    let _swap = match Swap::on(2 * seconds * rate) {
        Ok(swap) => swap,
        Err(why) => return skip(SCENE, &why),
    };
    let cgroup = Made::top(SCENE);
    limit(&cgroup, 3 * rate);
    let (each, total) = (rate.to_string(), (seconds * rate).to_string());
    let grower = Workload::start(&cgroup, &["anon", "--rate", &each, "--total", &total, "--hold", "forever"]);
    // Until it has met its limit.
    thread::sleep(Duration::from_secs(5));
    let report = scene::diagnose(WATCHED);
    let wanted = Wanted { kind: "memory-growth", path: &cgroup.path };
    let truth = json!({ "container": cgroup.path, "kind": "swap", "bytes_per_s": rate, "limit": 3 * rate });
    report.is(SCENE, &truth, std::slice::from_ref(&wanted));
    let finding = report.finding(&wanted).expect("it is there");
    if !in_vm() {
        scene::near("bytes_per_s", scene::number(finding, "bytes_per_s"), rate as f64, 0.2);
    }
    let share = scene::number(finding, "by_kind.swap") / scene::number(finding, "bytes_per_s");
    assert!((0.8..1.2).contains(&share), "{share} of it is swapped out: {finding}");
    assert!(scene::number(finding, "seconds_to_swap_full") > 0.0, "{finding}");
    assert_eq!(finding["evidence"]["top_process"]["pid"], grower.pid(), "{finding}");
}

/// Buffers of connections whose reader never reads.
#[test]
fn socket_buffers() {
    const SCENE: &str = "socket-buffers";
    if !hierarchy().v2 {
        return skip(
            SCENE,
            "on cgroup v1 socket buffers are charged where they have a limit of their own only",
        );
    }
    disk::drop_caches();
    grows(SCENE, "sock", growing(SCENE, &["sock"]));
}

/// A dentry and an inode each: up to a million of them.
#[test]
fn slab_hog() {
    const SCENE: &str = "slab-hog";
    // Emulated, making them takes from memtrace's own start, which must be over while they still grow.
    let (files, seconds): (u64, u64) = if in_vm() { (2_000, 2 * seconds()) } else { (40_000, seconds()) };
    let dir = format!("/dev/shm/mtlive-{}-slab", std::process::id());
    disk::drop_caches();
    std::fs::create_dir_all(&dir).expect("there is a tmpfs at /dev/shm");
    guard::at_end(&format!("rm -rf {dir}"));
    let cgroup = Made::top(SCENE);
    let (each, total) = (files.to_string(), (files * seconds).to_string());
    // An inode of tmpfs and its dentry take some 900 bytes.
    limit(&cgroup, files * (seconds + 5) * 1024);
    let _grower =
        Workload::start(&cgroup, &["slab", &dir, "--rate", &each, "--files", &total, "--hold", "forever"]);
    thread::sleep(Duration::from_secs(2));
    let report = scene::diagnose(WATCHED);
    let wanted = Wanted { kind: "memory-growth", path: &cgroup.path };
    let truth = json!({ "container": cgroup.path, "kind": "kernel", "files_per_s": files });
    report.is(SCENE, &truth, std::slice::from_ref(&wanted));
    let finding = report.finding(&wanted).expect("it is there");
    // On v1 slab is not told apart.
    let kinds =
        ["slab", "kernel_other"].map(|kind| finding["evidence"]["by_kind"][kind].as_f64().unwrap_or(0.0));
    let share = kinds.iter().sum::<f64>() / scene::number(finding, "bytes_per_s");
    assert!(share > 0.8, "{share} of it is the kernel's: {finding}");
    let _ = std::fs::remove_dir_all(&dir);
}

/// A log *agent* that reads a file line by line, and a line in it that does not end. Who writes it holds nothing; the agent
/// does, and no daemon of containers is in between.
#[test]
fn an_agent_that_hoards_a_line_of_a_file() {
    const SCENE: &str = "log-agent";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no docker");
    }
    disk::drop_caches();
    container::warm_up();
    let logs = scratch::dir("logs");
    let binds = [(logs.as_path(), "/logs")];
    let run = |name, script: &str, more: &[&str]| {
        let words = ["-c", script];
        let wanted = Container { binds: &binds, ..Container::shell(name, &words) };
        docker::docker().run(&wanted, more)
    };
    let app = run(
        "app",
        "n=0; while [ $n -lt 300 ]; do busybox head -c 2000000 /dev/zero | busybox tr '\\0' x; busybox usleep 80000; \
         n=$((n+1)); done > /logs/app.log",
        &["--memory", "1g"],
    );
    let agent = run(
        "agent",
        "busybox tail -c +1 -f /logs/app.log | busybox grep nothing",
        &["--memory", "700m", "--memory-swap", "700m"],
    );
    thread::sleep(Duration::from_secs(2));
    let report = scene::diagnose("10");
    let wanted = Wanted { kind: "memory-growth", path: &agent.cgroup.path };
    let truth =
        json!({ "hoards": agent.cgroup.path, "writes": app.cgroup.path, "bytes_per_s_at_most": 25_000_000 });
    report.is(SCENE, &truth, std::slice::from_ref(&wanted));
    let finding = report.finding(&wanted).expect("it is there");
    agent.is(finding).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(finding["evidence"]["top_process"]["comm"], "busybox", "{finding}");
    let share = scene::number(finding, "by_kind.anon") / scene::number(finding, "bytes_per_s");
    assert!((0.8..1.2).contains(&share), "{share} of it is anonymous: {finding}");
}
