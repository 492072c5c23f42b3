//! Containers that use memory of each kind, of a known amount at a known rate: memtrace names each, and tells the amount,
//! the rate, and what cgroupfs tells at the same moment.

use crate::driver::{
    MIB, batches,
    container::{self, Container, SCRATCH, Wanted},
    disk, in_vm,
    interval::Interval,
    memtrace::Memtrace,
    scratch,
    witness::Witness,
};

/// The most by which an amount or a rate may be wrong.
const WITHIN: f64 = 0.05;
/// Whole intervals over which a rate is told.
const INTERVALS: usize = 10;
/// What a container's processes and its runtime use beside the workload.
const BESIDE: u64 = 2 * MIB;

/// Bytes each second, and how many in all: enough for the intervals and one more at each end.
fn rate_and_total() -> (u64, u64) {
    if in_vm() { (4 * MIB, 24 * MIB) } else { (8 * MIB, 104 * MIB) }
}

/// A container and the kind of memory that it uses.
struct User {
    kind: &'static str,
    /// Kinds that must stay what they are.
    others: &'static [&'static str],
    container: Container,
    done: u64,
}

#[test]
fn each_kind_grows_where_it_is_used() {
    container::warm_up();
    let (rate, total) = rate_and_total();
    let to_read = disk::file("read", total);
    let to_write = scratch::dir("write");
    let (rate_word, total_word) = (rate.to_string(), total.to_string());
    let tail = ["--rate", &rate_word, "--hold", "forever"];
    let sized = ["--total", &total_word];
    let (tmpfs, read) = (format!("{SCRATCH}/file"), "/data/file");
    let binds = [(to_read.parent().expect("it is in a directory"), "/data"), (to_write.as_path(), "/data")];
    let run = |name: &'static str, kind, others, words: &[&str], bind: Option<usize>| {
        let words: Vec<&str> = [name].iter().chain(words).chain(&tail).copied().collect();
        let binds = bind.map_or(&[] as &[_], |at| &binds[at..=at]);
        User {
            kind,
            others,
            container: container::run(&Wanted { name, words: &words, binds, ..Wanted::default() }),
            done: 0,
        }
    };

    let mut memtrace = Memtrace::top(&["-i", "1"]);
    let idle =
        container::run(&Wanted { name: "idle", words: &["idle", "--hold", "forever"], ..Wanted::default() });
    idle.done();
    let mut users = [
        run("anon", "anon", &["file", "shmem"], &sized, None),
        run("tmpfs", "shmem", &["anon"], &[&[tmpfs.as_str()], sized.as_slice()].concat(), None),
        run("read", "file", &["anon", "shmem", "dirty"], &[read, "--cold"], Some(0)),
        run("write", "file", &["anon", "shmem"], &[&[read], sized.as_slice()].concat(), Some(1)),
    ];
    let cgroups: Vec<_> = users.iter().map(|user| &user.container.cgroup).chain([&idle.cgroup]).collect();
    let witness = Witness::of(&cgroups);
    for user in &mut users {
        user.done = user.container.done();
    }
    let mut intervals = memtrace.waiting();
    let rest = intervals.len() + 1;
    intervals.extend(memtrace.take(4));
    memtrace.stop();

    for user in &users {
        amounts(user, &intervals);
        if !in_vm() {
            rates(user, &intervals, rate);
        }
        agreement(user, &intervals, rest, &witness);
    }
    // It is counted as the others are, and stands still.
    let last = intervals.last().expect("there are intervals");
    idle.is(last.row(&idle.cgroup).expect("an idle container has a row")).expect("it is named rightly");
    let moved: f64 =
        intervals[2..].iter().filter_map(|interval| interval.grown(&idle.cgroup, "current")).sum();
    assert!(moved.abs() < BESIDE as f64, "idle moved by {moved} bytes");
}

/// At rest the row holds what the workload says it did, and has grown by it, and the other kinds have not.
fn amounts(user: &User, intervals: &[Interval]) {
    let cgroup = &user.container.cgroup;
    let last = intervals.last().expect("there are intervals");
    let row = last.row(cgroup).unwrap_or_else(|| panic!("{}: no row", user.kind));
    user.container.is(row).unwrap_or_else(|error| panic!("{}: {error}", user.kind));
    let held = row["memory"][user.kind].as_u64().expect("the kind is known") as f64;
    let grown: f64 = intervals.iter().filter_map(|interval| interval.grown(cgroup, user.kind)).sum();
    let truth = user.done as f64;
    println!("{} of {}: true {truth}, held {held}, grown {grown:.0}", user.kind, cgroup.path);
    for told in [held, grown] {
        assert!((told - truth).abs() <= truth * WITHIN, "{}: told {told}, true {truth}", user.kind);
    }
    for other in user.others {
        let held = row["memory"][other].as_u64().expect("the kind is known");
        assert!(held < BESIDE, "{}: {held} bytes of {other}", user.kind);
    }
}

/// While it grows, growth times time is what the workload uses in that time.
fn rates(user: &User, intervals: &[Interval], rate: u64) {
    let grown = |interval: &Interval| interval.grown(&user.container.cgroup, user.kind);
    let begun =
        intervals.iter().position(|interval| grown(interval).is_some_and(|grown| grown > BESIDE as f64));
    let begun = begun.unwrap_or_else(|| panic!("{} never grew", user.kind)) + 1;
    let steady = &intervals[begun..begun + INTERVALS];
    let told: f64 = steady.iter().filter_map(grown).sum();
    let truth: f64 = steady.iter().map(|interval| interval.seconds() * rate as f64).sum();
    println!("{}: grew {told:.0} in {INTERVALS} intervals, true {truth:.0} ({:.4})", user.kind, told / truth);
    assert!((told - truth).abs() <= truth * WITHIN, "{}: told {told}, true {truth}", user.kind);
}

/// What memtrace says of a moment is what cgroupfs said around it, up to what each processor holds back.
fn agreement(user: &User, intervals: &[Interval], rest: usize, witness: &Witness) {
    let cgroup = &user.container.cgroup;
    let mut compared = 0;
    for (at, interval) in intervals.iter().enumerate() {
        let Some(row) = interval.row(cgroup) else { continue };
        // Write-back comes and goes between two looks, so its kinds are compared at rest.
        let flows = ["current", "anon", "file", "shmem", "kernel", "slab", "sock", "swap"];
        let stands: &[&str] = if at >= rest { &["dirty", "writeback"] } else { &[] };
        for kind in flows.iter().chain(stands) {
            let Some((least, most)) = witness.around(interval, cgroup, kind) else { continue };
            let told = row["memory"][*kind].as_u64().unwrap_or_else(|| panic!("{kind} is not known"));
            assert!(
                (least.saturating_sub(batches())..=most + batches()).contains(&told),
                "{} of {}, interval {at}: told {told}, cgroupfs {least} to {most}",
                kind,
                user.kind
            );
            compared += 1;
        }
    }
    assert!(compared >= 4 * 6, "{}: only {compared} numbers could be compared", user.kind);
}
