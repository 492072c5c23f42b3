//! However memtrace ends, the kernel keeps nothing of it.

use std::io::{BufRead as _, BufReader};

use rustix::process::Signal;

use crate::driver::{
    bpf::{left_behind, loaded},
    doctor,
    memtrace::{self, Memtrace},
    skip, wait_for,
};

fn nothing_left() {
    assert_eq!(left_behind(), Vec::<String>::new());
}

/// The look at the kernel would see it.
#[test]
fn what_is_attached_is_seen() {
    let memtrace = Memtrace::top(&["-i", "0.2"]);
    let loaded: Vec<String> = loaded().into_values().collect();
    for expected in ["map CGROUPS", "map EVENTS", "program mkdir_", "program exec_"] {
        assert!(loaded.iter().any(|name| name.starts_with(expected)), "{expected} is not in {loaded:?}");
    }
    memtrace.stop();
    nothing_left();
}

/// Ends well, and what it counted since the last interval is not lost.
#[test]
fn signals_end_it_with_the_last_interval() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut memtrace = Memtrace::top(&["-i", "0.7"]);
        memtrace.next();
        std::thread::sleep(std::time::Duration::from_millis(300));
        memtrace.signal(signal);
        let ended = memtrace.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal:?}: {}", ended.errors);
        let last = ended.intervals.last().unwrap_or_else(|| panic!("{signal:?}: no last interval"));
        assert!(last.seconds() < 0.69, "{signal:?}: a whole interval of {} s", last.seconds());
        assert_eq!(ended.errors, "");
        nothing_left();
    }
}

#[test]
fn a_duration_ends_it() {
    let ended = Memtrace::start(&["-i", "0.2", "-d", "1"]).wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
    assert!((4..=6).contains(&ended.intervals.len()), "{} intervals", ended.intervals.len());
    nothing_left();
}

#[test]
fn a_kill_leaves_nothing() {
    let memtrace = Memtrace::top(&["-i", "0.2"]);
    memtrace.signal(Signal::KILL);
    assert_eq!(memtrace.wait().status.code(), None);
    nothing_left();
}

#[test]
fn a_closed_pipe_is_an_ordinary_end() {
    let (mut child, stdout) = memtrace::piped(&["top", "--json", "-i", "0.2"]);
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it prints lines");
    assert!(line.starts_with('{'));
    drop(stdout);
    let status = wait_for("memtrace to end", || child.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(0));
    nothing_left();
}

/// A probe that cannot be had as asked: other probes were attached before it.
#[test]
fn a_failure_leaves_nothing() {
    let alternatives = doctor::alternatives();
    let Some(refused) = alternatives.iter().rev().find(|alternative| !alternative.usable) else {
        return skip("a_failure_leaves_nothing", "this kernel allows every alternative of every probe");
    };
    assert_eq!(memtrace::run(&["top", "--json", "--attach", &refused.word()]).status.code(), Some(3));
    nothing_left();
}

#[test]
fn ten_runs_leak_nothing() {
    for _ in 0..10 {
        Memtrace::top(&["-i", "0.1"]).stop();
    }
    nothing_left();
    // Within one run: neither descriptors nor programs grow with the intervals.
    let mut memtrace = Memtrace::top(&["-i", "0.1"]);
    memtrace.take(3);
    let before = memtrace.descriptors();
    memtrace.take(20);
    let after = memtrace.descriptors();
    memtrace.stop();
    assert!(after <= before + 4, "descriptors grew from {before} to {after}");
    nothing_left();
}
