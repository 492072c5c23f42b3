//! Containers that come and go: before memtrace, after it, and between two of its looks.

use crate::driver::{
    MIB, about,
    container::{self, Container, Wanted},
    in_vm,
    interval::Interval,
    memtrace::Memtrace,
};

fn anon<'a>(name: &'a str, words: &'a [&'a str]) -> Container {
    container::run(&Wanted { name, words, ..Wanted::default() })
}

#[test]
fn before_and_after_count_alike() {
    let words = ["anon", "--total", "32M", "--hold", "forever"];
    let before = anon("before", &words);
    before.done();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let after = anon("after", &words);
    let truth = after.done();
    let interval = memtrace.later(3);
    memtrace.stop();
    for container in [&before, &after] {
        let row = interval.row(&container.cgroup).expect("each has a row");
        container.is(row).expect("it is named rightly");
        let held = row["memory"]["anon"].as_u64().expect("it is known");
        assert!(about(truth, 2 * MIB).contains(&held), "{held}, true {truth}");
    }
}

/// The row of a container's last interval says what it was and what it held.
fn accounted(container: &Container, intervals: &[Interval], allocated: u64) {
    let mut rows = intervals.iter().filter_map(|interval| interval.removed(&container.cgroup.path));
    let row = rows.next().unwrap_or_else(|| panic!("{:?} was not accounted", container.name));
    container.is(row).expect("it is named rightly");
    let removed = &row["removed"];
    let peak = removed["peak"].as_u64().expect("the kernel tells the peak");
    assert!(peak >= allocated && peak <= allocated + 48 * MIB, "peak {peak}, true {allocated}");
    assert!(removed["lived_s"].as_f64().is_some_and(|lived| lived > 0.0), "{removed}");
    assert!(rows.next().is_none(), "it was removed once");
}

#[test]
fn a_short_life_is_accounted() {
    let mut memtrace = Memtrace::top(&["-i", "3"]);
    // Emulated, looks at a newborn come late: there it lives long enough for an ordinary one.
    let hold = if in_vm() { "4" } else { "0.3" };
    let container = anon("short", &["anon", "--total", "24M", "--hold", hold]);
    let truth = container.done();
    let path = container.cgroup.path.clone();
    let intervals = memtrace.until("the container to go", |interval| interval.removed(&path).is_some());
    memtrace.stop();
    accounted(&container, &intervals, truth);
    // It held that for longer than six looks at a newborn take, so what it was made of is known, too.
    let row = intervals.iter().find_map(|interval| interval.removed(&path)).expect("it was accounted");
    let anon = row["removed"]["most"]["anon"].as_u64().expect("it is known");
    assert!(about(truth, 2 * MIB).contains(&anon), "{anon}, true {truth}");
    container.wait();
}

#[test]
fn twenty_short_lives_are_all_accounted() {
    let mut memtrace = Memtrace::top(&["-i", "2"]);
    let mut ended = Vec::new();
    for _ in 0..5 {
        let words = ["anon", "--total", "4M", "--hold", "0.1"];
        let names = ["one", "two", "three", "four"];
        let running = names.map(|name| anon(name, &words));
        for container in &running {
            container.done();
        }
        for container in running {
            ended.push((container.cgroup.path.clone(), container));
        }
        // The names are free again only when the containers are gone.
        for (_, container) in ended.iter_mut().rev().take(4) {
            container.ended();
        }
    }
    let mut intervals = memtrace.waiting();
    let last = ended.last().map(|(path, _)| path.clone()).expect("twenty were started");
    if !intervals.iter().any(|interval| interval.removed(&last).is_some()) {
        intervals.extend(memtrace.until("the last to go", |interval| interval.removed(&last).is_some()));
    }
    memtrace.stop();
    assert_eq!(ended.len(), 20);
    for (_, container) in &ended {
        accounted(container, &intervals, 4 * MIB);
    }
}

#[test]
fn two_with_the_same_workload_are_told_apart() {
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let amounts = ["8M", "16M"];
    let containers = amounts.map(|amount| {
        anon(
            if amount == "8M" { "small" } else { "large" },
            &["anon", "--total", amount, "--hold", "forever"],
        )
    });
    let truths = containers.each_ref().map(Container::done);
    let interval = memtrace.later(3);
    memtrace.stop();
    for (container, truth) in containers.iter().zip(truths) {
        let row = interval.row(&container.cgroup).expect("each has a row");
        container.is(row).expect("it is named rightly");
        let held = row["memory"]["anon"].as_u64().expect("it is known");
        assert!(about(truth, 2 * MIB).contains(&held), "{held}, true {truth}");
    }
}
