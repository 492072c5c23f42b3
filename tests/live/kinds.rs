//! The same work gives the same numbers on every kernel: a fixed amount of each kind of memory, told as the workload and
//! cgroupfs tell it, up to what each processor holds back. What a kernel does not tell is null, and `doctor` says so.

use std::fs;

use serde_json::Value;

use crate::driver::{
    MIB, batches,
    cgroup::{Made, Reading, hierarchy},
    disk, doctor,
    interval::Interval,
    memtrace::Memtrace,
    scratch, wait_for,
    workload::Workload,
};

/// Of each kind.
const AMOUNT: u64 = 12 * MIB;
const KINDS: [&str; 10] =
    ["current", "anon", "file", "shmem", "dirty", "writeback", "kernel", "slab", "sock", "swap"];

/// A cgroup that uses one kind of memory.
struct User {
    kind: &'static str,
    // Fields go in this order, and a cgroup only without its process.
    workload: Workload,
    cgroup: Made,
}

impl User {
    fn start(top: &Made, name: &str, kind: &'static str, words: &[&str]) -> User {
        let cgroup = top.child(name);
        let workload = Workload::start(&cgroup, &[words, &["--hold", "forever"]].concat());
        User { kind, workload, cgroup }
    }
}

#[test]
fn each_kind_is_told_to_a_batch() {
    let total = AMOUNT.to_string();
    let to_read = disk::file("kind-read", AMOUNT).to_string_lossy().into_owned();
    let to_write = scratch::dir("kind-write").join("file").to_string_lossy().into_owned();
    let tmpfs = Tmpfs(format!("/dev/shm/mtlive-{}-kind", std::process::id()));
    let mut memtrace = Memtrace::top(&["-i", "1"]);
    let top = Made::top("kinds");
    let idle = User::start(&top, "idle", "", &["idle"]);
    idle.workload.done();
    let users = [
        User::start(&top, "anon", "anon", &["anon", "--total", &total]),
        User::start(&top, "tmpfs", "shmem", &["tmpfs", &tmpfs.0, "--total", &total]),
        User::start(&top, "read", "file", &["read", &to_read, "--cold"]),
        User::start(&top, "write", "file", &["write", &to_write, "--total", &total]),
    ];
    let truths = users.each_ref().map(|user| user.workload.done());
    let (interval, around) = at_rest(&mut memtrace, &users);
    memtrace.stop();

    let beside = interval.row(&idle.cgroup).expect("it has a row").clone();
    for ((user, truth), cgroupfs) in users.iter().zip(truths).zip(around) {
        let row = interval.row(&user.cgroup).unwrap_or_else(|| panic!("{}: no row", user.cgroup.path));
        let told = |row: &Value, kind: &str| row["memory"][kind].as_u64();
        let held = told(row, user.kind).expect("the kind is known");
        let own = held.saturating_sub(told(&beside, user.kind).expect("the kind is known"));
        println!("{}: true {truth}, told {held}, {own} without the program's own", user.cgroup.path);
        assert!(own.abs_diff(truth) <= batches(), "{}: told {own}, true {truth}", user.cgroup.path);
        for kind in KINDS {
            match (told(row, kind), cgroupfs.get(kind)) {
                (Some(told), Some(read)) => assert!(
                    told.abs_diff(*read) <= batches(),
                    "{kind} of {}: told {told}, cgroupfs {read}",
                    user.cgroup.path
                ),
                // Where the kernel gives no sum it is the rest of the others, and says so.
                (Some(_), None) => assert_eq!(row["memory"]["kernel_how"], "inferred", "{kind}: {row}"),
                (None, Some(read)) => panic!("{kind}: not told, cgroupfs says {read}"),
                (None, None) => assert_unknown(kind),
            }
        }
        charges(row, doctor::first_report());
    }
}

/// An interval in which nothing moved, and what cgroupfs said meanwhile.
fn at_rest(memtrace: &mut Memtrace, users: &[User; 4]) -> (Interval, [Reading; 4]) {
    let look = || users.each_ref().map(|user| user.cgroup.reading());
    memtrace.waiting();
    wait_for("write-back to end", || {
        let before = look();
        let interval = memtrace.take(2).pop().expect("two were asked for");
        let after = look();
        (before == after).then_some((interval, after))
    })
}

/// What is null here is named by doctor, with the reason.
fn assert_unknown(kind: &str) {
    let report = doctor::first_report();
    if kind == "swap" && !fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1) {
        return;
    }
    let said = report["cgroup_lost"].as_array().expect("a list");
    let named = said.iter().any(|lost| lost.as_str().is_some_and(|lost| lost.contains(kind)));
    assert!(
        named,
        "{kind} is not told on {}, and doctor does not say so: {said:?}",
        hierarchy().mount.display()
    );
}

/// Known, or doctor says what is lost.
fn charges(row: &Value, report: &Value) {
    let probes = report["probes"].as_array().expect("a list");
    let charge = probes.iter().find(|probe| probe["name"] == "charge").expect("every probe is listed");
    for key in ["charged_per_s", "uncharged_per_s"] {
        assert!(row[key].is_number() || charge["lost"].is_string(), "{key} is {}, {charge}", row[key]);
    }
}

/// A file in memory that belongs to nobody's directory.
struct Tmpfs(String);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}
