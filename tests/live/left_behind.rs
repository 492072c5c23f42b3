//! However memtrace ends, the kernel keeps nothing of it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tracer::{
    kernel::Facts,
    pipeline,
    probe::{
        attach::Loader,
        plan::{Wishes, plan},
        registry,
        size::Sizes,
    },
};

use crate::driver::{
    bpf::{MAPS, held_by, left_behind, loaded, short},
    container::{self, Container, Wanted},
    doctor, for_the_record, in_vm, matrix,
    memtrace::{self, Memtrace},
    skip, wait_for,
};

/// Emulated, a round takes a second.
fn rounds() -> usize {
    if in_vm() && !for_the_record() { 20 } else { 100 }
}

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
        std::thread::sleep(Duration::from_millis(300));
        memtrace.signal(signal);
        let ended = memtrace.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal:?}: {}", ended.errors);
        let last = ended.intervals.last().unwrap_or_else(|| panic!("{signal:?}: no last interval"));
        assert!(last.seconds() < 0.69, "{signal:?}: a whole interval of {} s", last.seconds());
        assert_eq!(ended.errors, "");
        nothing_left();
    }
}

/// The first may come before there is anything to show; a second one does not wait for the last interval.
#[test]
fn signals_end_it_at_any_time() {
    for signals in [1, 2] {
        let memtrace = Memtrace::start(&["-i", "0.7"]);
        wait_for("a program of it", || {
            held_by(Path::new(&format!("/proc/{}", memtrace.pid())))
                .iter()
                .any(|(kind, _)| *kind == "prog")
                .then_some(())
        });
        for _ in 0..signals {
            memtrace.signal(Signal::TERM);
        }
        let ended = memtrace.wait();
        assert_eq!((ended.status.code(), &*ended.errors), (Some(0), ""));
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

/// Eighty tasks that share a tenth of a processor.
fn crowd() -> Container {
    // All begin at once: the first to run would take the others' time to start.
    let script = "mkfifo /scratch/go; for n in $(seq 80); do { read x < /scratch/go; while :; do :; done; } & done; \
                  sleep 1; : > /scratch/go; echo; wait";
    let words = ["-c", script];
    let crowd = container::run(&Wanted { cpus: Some(0.1), ..Wanted::shell("crowd", &words) });
    crowd.said().recv().expect("it says when all are there");
    crowd
}

/// To put a trampoline there the kernel waits up to 6.8, too: beside a crowd another way serves.
#[test]
fn its_start_waits_for_no_crowd() {
    let told = || Facts::gather(&registry::questions()).expect("there are cgroups").crowd;
    assert_eq!(told(), None, "there is none");
    let crowd = crowd();
    let waits = kernel_waits([6, 9]);
    assert_eq!(told(), waits.then(|| crowd.cgroup.path.clone()), "this kernel waits for it: {waits}");
    drop(crowd);
}

/// To take a trampoline away the kernel waits for every task to run once, and a throttled crowd takes its time: memtrace does
/// not wait for that, whichever way its links are held.
#[test]
fn its_end_waits_for_no_crowd() {
    const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
    const FENTRY: &str = "log_write=fentry";
    // To ask `doctor` takes minutes where it is emulated.
    if memtrace::run(&["top", "--json", "-d", "0.1", "--attach", FENTRY]).status.code() == Some(3) {
        return skip("its_end_waits_for_no_crowd", "this kernel refuses fentry");
    }
    let switch = fs::read_to_string(SWITCH).ok();
    let ends = |how: &str| {
        let crowd = crowd();
        let memtrace = Memtrace::top(&["-i", "0.7", "--attach", FENTRY]);
        let ended = memtrace.stop();
        assert_eq!(ended.status.code(), Some(0), "{how}: {}", ended.errors);
        // What nobody waits for goes in a moment.
        std::thread::sleep(Duration::from_secs(1));
        let still = loaded().keys().filter(|(kind, _)| *kind == "prog").count();
        assert!(
            still > 0 || !kernel_waits([6, 18]),
            "{how}: it has waited, or there was nothing to wait for"
        );
        drop(crowd);
        nothing_left();
    };
    ends("by io_uring where it is allowed");
    if let Some(before) = switch {
        fs::write(SWITCH, "2").expect("the switch can be written");
        let done = matrix::caught(|| ends("without io_uring"));
        fs::write(SWITCH, before.trim()).expect("the switch can be written");
        done.unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Whether it has what waits for tasks that are runnable, as throttled ones are before 6.18, and is older than this.
fn kernel_waits(before: [u32; 2]) -> bool {
    let uname = rustix::system::uname();
    let [release, version] =
        [uname.release(), uname.version()].map(|text| text.to_str().expect("it is ASCII"));
    let mut parts = release.split('.').map(|part| part.parse::<u32>().expect("a number"));
    parts.by_ref().take(2).lt(before) && version.contains("PREEMPT")
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

/// Attached and taken away in one process, whichever way in its turn: neither the kernel nor the process keeps anything.
#[test]
fn a_hundred_rounds_leave_nothing() {
    let facts = pipeline::facts().expect("this host has cgroups");
    let wishes = Wishes { per_page: true, on_demand: true, ..Wishes::default() };
    let planned = plan(&facts, &wishes);
    let mut loader = Loader::load(&facts, Sizes::new(0, &facts), 0).expect("the object can be loaded");
    for (map, _) in loader.ebpf.maps() {
        // Sections of the object, such as `.rodata`, are maps as well, which bear the object's name.
        assert!(
            map.starts_with('.') || MAPS.contains(short(map)),
            "the look at the kernel misses the map {map}"
        );
    }
    let ways: Vec<Vec<_>> = planned
        .iter()
        .map(|probe| loader.examine(probe).attempts.into_iter().filter(|attempt| attempt.usable))
        .map(|usable| usable.map(|attempt| attempt.alternative).collect())
        .collect();
    loader.rest();
    let open = || fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
    let own = || held_by(Path::new("/proc/self"));
    let (before, kept) = (open(), own());
    let mut times = Vec::new();
    for round in 0..rounds() {
        let forced: Vec<_> =
            ways.iter().filter(|ways| !ways.is_empty()).map(|ways| ways[round % ways.len()]).collect();
        let start = Instant::now();
        for alternative in &forced {
            loader.attach(alternative).unwrap_or_else(|why| panic!("round {round}: {why}"));
        }
        times.push(start.elapsed());
        let now = loaded();
        for alternative in &forced {
            let name = alternative.links[0].program;
            let there = now.values().any(|loaded| *loaded == format!("program {}", short(name)));
            assert!(there, "round {round}: {name} is not loaded: {now:?}");
            loader.detach(alternative);
        }
    }
    loader.rest();
    times.sort_unstable();
    println!(
        "attach: {:?} a round at the median, {:?} at most",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    assert!(open() <= before, "{} descriptors, {before} at first", open());
    assert_eq!(own(), kept, "a program or a link is held");
    drop(loader);
    nothing_left();
}

/// The same with a process a round. Emulated, starting one is most of what that takes.
#[test]
fn a_hundred_processes_leave_nothing() {
    for round in 0..if in_vm() { 20 } else { 100 } {
        let ended = Memtrace::start(&["-i", "0.1", "-d", "0.1"]).wait();
        assert_eq!((ended.status.code(), ended.errors.as_str()), (Some(0), ""), "round {round}");
    }
    nothing_left();
}

/// Within one run neither descriptors nor programs grow with the intervals.
#[test]
fn a_long_run_leaks_nothing() {
    let mut memtrace = Memtrace::top(&["-i", "0.1"]);
    memtrace.take(3);
    let before = memtrace.descriptors();
    memtrace.take(20);
    let after = memtrace.descriptors();
    memtrace.stop();
    assert!(after <= before + 4, "descriptors grew from {before} to {after}");
    nothing_left();
}
