//! Charges by process and by kernel site: every way of attaching tells what a workload of each kind did, of that
//! workload's process and no other, and a flame graph gets the same.

use std::{fs, process::Command};

use serde_json::Value;

use crate::driver::{
    MIB, batches,
    cgroup::{Cgroup, Made, hierarchy},
    disk,
    doctor::{self, Alternative},
    guard, in_vm,
    interval::Interval,
    matrix,
    memtrace::{self, Memtrace},
    output, scratch, skip,
    workload::Workload,
};

const TOTAL: &str = "24M";
const TRUTH: u64 = 24 * MIB;
/// Of what a process charges for itself: its image, its stack, its page tables.
const BESIDE: u64 = 3 * MIB;

/// Intervals after which runs of programs that the kernel skipped are told: they are asked for every five seconds.
const LOSSES_TOLD: usize = 12;
/// The most that one of them stands for.
const BATCH: u64 = 64 * 4096;

/// A workload in a cgroup of its own.
struct User {
    // Fields go in this order, and a cgroup only without its process.
    workload: Workload,
    cgroup: Made,
    /// The kinds it charges, and how much of each; `None` where only the kernel knows.
    kinds: &'static [(&'static str, Option<u64>)],
}

fn start(cgroup: Made, kinds: &'static [(&'static str, Option<u64>)], words: &[&str]) -> User {
    let workload = Workload::start(&cgroup, &[words, &["--hold", "forever"]].concat());
    // One after the other: a program that is interrupted by another charge misses that one, and tells so.
    workload.done();
    User { workload, cgroup, kinds }
}

#[test]
fn every_way_of_attaching_tells_process_and_site() {
    matrix::each(&doctor::usable("charge_site"), tells_process_and_site);
}

fn tells_process_and_site(way: &Alternative) {
    let top = Made::top("sites");
    let to_read = disk::file("sites-read", TRUTH);
    let to_write = scratch::dir("sites-write").join("file");
    let scratch = shm(&top);
    let pattern = format!("{}/*", top.path);
    let word = way.word();
    let [anon, read, write, tmpfs, tables, slab] =
        ["anon", "read", "write", "tmpfs", "tables", "slab"].map(|name| top.child(name));
    let mut memtrace = Memtrace::top(&["-i", "0.5", "-c", &pattern, "--sites=600", "--attach", &word]);
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    // What is charged before the first look is not told.
    memtrace.next();
    let users = [
        start(anon, &[("anon_fault", Some(TRUTH))], &["anon", "--total", TOTAL]),
        start(read, &[("file_read", Some(TRUTH))], &["read", &path(&to_read), "--cold"]),
        start(write, &[("file_write", Some(TRUTH))], &["write", &path(&to_write), "--total", TOTAL]),
        start(tmpfs, &[("shmem", Some(TRUTH))], &["tmpfs", &path(&scratch.join("file")), "--total", TOTAL]),
        start(
            tables,
            &[("anon_fault", Some(TRUTH)), ("page_tables", Some(TRUTH))],
            &["page-tables", "--total", TOTAL],
        ),
        start(slab, &[("slab", None)], &["slab", &path(&scratch), "--files", "20000"]),
    ];
    let mut intervals = memtrace.waiting();
    intervals.extend(memtrace.take(LOSSES_TOLD));
    memtrace.stop();
    let last = intervals.last().expect("some were taken");
    let lost = last.0["host"]["lost_events"].as_u64().expect("a number") * BATCH;
    println!("{word}: {}", last.0["sites"]["how"]);
    for user in &users {
        // Counted at the same hook; what is counted once a page also has pages that never left a batch.
        let same = way.target.starts_with("page_counter");
        let charged = charged(&user.cgroup, &intervals).filter(|_| same);
        told(&word, user, of(&last.0, &user.cgroup), charged, lost);
    }
    drop(users);
    let _ = fs::remove_dir_all(&scratch);
}

/// What `sites` says of a cgroup.
fn of<'a>(interval: &'a Value, cgroup: &Cgroup) -> &'a Value {
    let rows = interval["sites"]["containers"].as_array().expect("sites were asked for");
    let found = rows.iter().find(|row| row["container"]["cgroup"]["path"] == cgroup.path);
    found.unwrap_or_else(|| panic!("no sites of {}: {}", cgroup.path, interval["sites"]))
}

fn bytes(value: &Value) -> u64 {
    value["charged"].as_u64().unwrap_or_else(|| panic!("how much was charged is known: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// What the probe `charge` says was charged, where it counts without being asked.
fn charged(cgroup: &Cgroup, intervals: &[Interval]) -> Option<u64> {
    let rows = intervals.iter().filter_map(|interval| Some((interval.row(cgroup)?, interval.seconds())));
    let sum: Option<f64> = rows.map(|(row, seconds)| Some(row["charged_per_s"].as_f64()? * seconds)).sum();
    sum.map(|sum| sum as u64)
}

fn told(way: &str, user: &User, sites: &Value, charged: Option<u64>, lost: u64) {
    // A processor that turns to another cgroup gives back the rest of a batch, and charges a whole one when it returns.
    let given_back = charged.map_or(0, |charged| charged.saturating_sub(user.cgroup.usage()));
    let path = &user.cgroup.path;
    let what = format!("{way}, {path}: {}", sites["kinds"]);
    println!("{what}");
    // The workload alone, by its own name, and nobody else beyond a batch on each processor.
    let (own, others): (Vec<&Value>, Vec<&Value>) =
        list(&sites["processes"]).iter().partition(|process| process["pid"] == user.workload.pid());
    assert_eq!(own.len(), 1, "{what}: {}", sites["processes"]);
    assert_eq!(own[0]["comm"], "workload", "{what}");
    let others: u64 = others.into_iter().map(bytes).sum();
    assert!(others <= batches(), "{what}: {others} bytes of others: {}", sites["processes"]);

    let mut known = 0;
    for (kind, truth) in user.kinds {
        let told = list(&sites["kinds"]).iter().find(|told| told["kind"] == *kind).map_or(0, bytes);
        let Some(truth) = truth else {
            assert!(told > bytes(sites) / 2, "{what}: of {} only {told}", bytes(sites));
            known = bytes(sites);
            continue;
        };
        known += truth;
        // A stack stands for what a processor charged since the one before. Kinds that alternate page by page may be out of
        // step with batches of an even number: then one is told as the other, and only their sum is right.
        let room = if user.kinds.len() == 1 { BESIDE } else { truth / 4 * 3 };
        assert!(
            told + room + lost >= *truth && told <= truth + room + given_back,
            "{what}: {kind} is {told}, true {truth}, lost at most {lost}"
        );
    }
    let all = bytes(sites);
    assert!(all + batches() + lost >= known, "{what}: {all} in all, true {known}, lost at most {lost}");
    match charged {
        Some(charged) => {
            let wrong = charged.abs_diff(all);
            let other = "by the other probe, lost at most";
            assert!(wrong <= batches() + lost, "{what}: {all} in all, {charged} {other} {lost}");
        }
        None => assert!(bytes(sites) <= known + BESIDE, "{what}: {} in all, true {known}", bytes(sites)),
    }

    let stacks = list(&sites["stacks"]);
    let sum: u64 = stacks.iter().map(bytes).sum();
    assert!(sites["stacks_left_out"] != 0 || sum == bytes(sites), "{what}: the stacks hold {sum}");
    for stack in stacks {
        let frames = list(&stack["stack"]);
        assert!(!frames.is_empty(), "{what}: {stack}");
        let named = |frame: &Value| !frame.as_str().expect("a name").starts_with("0x");
        assert!(frames.iter().all(named), "{what}: {stack}");
    }
}

/// A directory on tmpfs, whose pages are charged to whoever writes there.
fn shm(top: &Made) -> std::path::PathBuf {
    let name = top.path.trim_start_matches('/');
    let dir = std::path::Path::new("/dev/shm").join(name);
    fs::create_dir_all(&dir).expect("there is a tmpfs");
    guard::at_end(&format!("rm -rf {}", dir.display()));
    dir
}

#[test]
fn socket_buffers_are_told_as_such() {
    if !hierarchy().v2 {
        return skip(
            "socket_buffers_are_told_as_such",
            "on cgroup v1 socket buffers are charged to a counter of their own, and only where it has a limit",
        );
    }
    let up = output::of(Command::new("sh").args(["-c", "ip link set lo up || ifconfig lo up"]));
    assert!(up.status.success(), "the loopback: {}", String::from_utf8_lossy(&up.stderr));
    let top = Made::top("sock");
    let cgroup = top.child("sock");
    let mut memtrace = Memtrace::top(&["-i", "0.5", "-c", &cgroup.path, "--sites=600"]);
    memtrace.next();
    let workload = Workload::start(&cgroup, &["sock", "--total", "16M", "--hold", "forever"]);
    workload.done();
    let last = memtrace.later(2);
    memtrace.stop();
    let sites = of(&last.0, &cgroup);
    let sock = list(&sites["kinds"]).iter().find(|kind| kind["kind"] == "sock").map_or(0, bytes);
    let truth = cgroup.reading()["sock"];
    println!("sock: told {sock}, cgroupfs {truth}, of {}", bytes(sites));
    assert!(truth > 8 * MIB, "the workload filled {truth} bytes of buffers");
    // Charged is not held: what was given back meanwhile was charged too.
    assert!(sock + truth / 4 >= truth, "{}", sites["kinds"]);
}

#[test]
fn a_flame_graph_gets_the_same() {
    let top = Made::top("folded");
    let cgroup = top.child("anon");
    let file = scratch::dir("folded").join("stacks");
    let file_word = file.to_str().expect("a path of ours");
    let mut memtrace = Memtrace::top(&["-i", "0.5", "-c", &cgroup.path, "--sites", "--folded", file_word]);
    memtrace.next();
    let workload = Workload::start(&cgroup, &["anon", "--total", TOTAL, "--hold", "forever"]);
    workload.done();
    // It stands still from here on.
    let last = memtrace.later(2);
    memtrace.stop();
    let sites = of(&last.0, &cgroup);
    let mut sum = 0;
    for line in fs::read_to_string(&file).expect("it was written").lines() {
        let (stack, bytes) = line.rsplit_once(' ').expect("a stack and a number");
        let frames: Vec<&str> = stack.split(';').collect();
        assert_eq!(frames[0], cgroup.path);
        assert_eq!(frames[1], format!("workload [{}]", workload.pid()));
        assert!(frames.len() > 4, "{line}");
        sum += bytes.parse::<u64>().expect("a number of bytes");
    }
    assert_eq!(sum, bytes(sites), "the file and the last interval");
}

#[test]
fn time_and_choice_are_bounded() {
    let top = Made::top("bounded");
    let (chosen, other) = (top.child("chosen"), top.child("other"));
    let mut memtrace = Memtrace::top(&["-i", "0.5", "-c", &chosen.path, "--sites=4"]);
    let words = ["anon", "--total", "4M", "--hold", "0.05", "--again"];
    let workloads = [Workload::start(&chosen, &words), Workload::start(&other, &words)];
    let running = |interval: &Interval| interval.0["sites"]["running"] == true;
    let intervals = memtrace.until("the time to be up", |interval| !running(interval));
    let rows = |interval: &Interval| list(&interval.0["sites"]["containers"]).len();
    assert!(intervals.iter().all(|interval| rows(interval) == 1), "the other was not asked for");
    let ended = bytes(of(&intervals.last().expect("one ended it").0, &chosen));
    assert!(ended > 0);
    let later = memtrace.later(2);
    assert_eq!(bytes(of(&later.0, &chosen)), ended, "what was told stays, and no more is counted");
    memtrace.stop();
    drop(workloads);

    let mut without = Memtrace::top(&["-i", "0.5", "-c", &chosen.path]);
    assert!(without.next().0["sites"].is_null(), "nobody asked");
    without.stop();
    for (words, status) in [
        (&["top", "--sites"][..], 2),
        (&["top", "-c", "x", "--folded", "f"], 2),
        (&["top", "-c", "x", "--sites=0"], 2),
        (&["top", "-c", "x", "--sites", "--folded", "/proc/nothing/f"], 1),
    ] {
        assert_eq!(memtrace::run(words).status.code(), Some(status), "{words:?}");
    }
}

/// Where the kernel hides its addresses no function can be named: said at once, not shown as numbers.
#[test]
fn hidden_addresses_are_refused_with_a_sentence() {
    if !in_vm() {
        return skip(
            "hidden_addresses_are_refused_with_a_sentence",
            "kernel.kptr_restrict is the whole machine's, so it is changed in an emulated one only",
        );
    }
    let restrict = "/proc/sys/kernel/kptr_restrict";
    let before = fs::read_to_string(restrict).expect("the kernel has it");
    fs::write(restrict, "2").expect("root may");
    let output = memtrace::run(&["top", "-c", "*", "--sites", "--json"]);
    fs::write(restrict, before).expect("root may");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("kernel.kptr_restrict") && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty());
}
