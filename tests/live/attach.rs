//! Every way of attaching every probe: those that this kernel allows serve the truth, the others are refused with a
//! sentence. Which there are is asked of `doctor`; what is true of a probe stands in `truth`.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    process::Stdio,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    driver::{
        MIB,
        cgroup::Made,
        doctor::{self, Alternative},
        in_vm,
        interval::Interval,
        matrix,
        memtrace::{self, Memtrace},
        skip,
        workload::Workload,
    },
    truth::{self, Scene},
};

/// Alternatives of each probe whose truth is told here, as far as this kernel allows them.
fn usable() -> BTreeMap<String, Vec<Alternative>> {
    let mut probes: BTreeMap<String, Vec<Alternative>> = BTreeMap::new();
    for alternative in doctor::alternatives() {
        let of = probes.entry(alternative.probe.clone()).or_default();
        of.extend(Some(alternative).filter(|alternative| alternative.usable));
    }
    for probe in probes.keys() {
        let known = truth::of(probe).is_some() || truth::ELSEWHERE.contains(&probe.as_str());
        assert!(
            known,
            "doctor knows a probe {probe}, of which no test tells the truth: add it to tests/live/truth.rs"
        );
    }
    probes.retain(|probe, _| truth::of(probe).is_some());
    probes
}

/// With one alternative of each probe at a time, so that the run that is needed for the longest list serves all.
#[test]
fn every_usable_alternative_serves_the_truth() {
    let probes = usable();
    assert!(probes.values().all(|of| !of.is_empty()), "nothing serves some probe: {probes:?}");
    let rounds = probes.values().map(Vec::len).max().unwrap_or(0);
    let mut wrong = Vec::new();
    for round in 0..rounds {
        let forced: Vec<&Alternative> = probes.values().map(|of| &of[round % of.len()]).collect();
        let told = serves(&forced);
        for ((alternative, outcome), of) in forced.iter().zip(told).zip(probes.values()) {
            let again = round >= of.len();
            match outcome {
                Ok(()) if again => {}
                Ok(()) => matrix::served(alternative),
                Err(why) => {
                    matrix::failed(alternative, &why);
                    wrong.push(format!("{}: {why}", alternative.word()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn classic_tracepoints_alone_serve_the_truth() {
    let classic: Vec<Alternative> =
        doctor::alternatives().into_iter().filter(|a| a.usable && a.kind == "tracepoint").collect();
    if !classic.iter().any(|a| a.probe == "charge") {
        return skip(
            "classic_tracepoints_alone_serve_the_truth",
            "this kernel has no tracepoint for charges (they are new in 6.13)",
        );
    }
    // Where tracefs is not mounted, they are looked up by a mount that must not stay.
    let mounted =
        || fs::read_to_string("/proc/self/mounts").map(|mounts| mounts.matches(" tracefs ").count());
    let before = mounted().expect("/proc is mounted");
    let forced: Vec<&Alternative> =
        classic.iter().filter(|alternative| truth::of(&alternative.probe).is_some()).collect();
    for (alternative, outcome) in forced.iter().zip(serves(&forced)) {
        outcome.unwrap_or_else(|why| panic!("{}: {why}", alternative.word()));
    }
    assert_eq!(mounted().expect("/proc is mounted"), before, "tracefs stayed mounted");
}

/// Runs memtrace with these alone, and says of each whether what its probe told was the truth.
fn serves(forced: &[&Alternative]) -> Vec<Result<(), String>> {
    let words: Vec<String> = forced.iter().map(|alternative| alternative.word()).collect();
    println!("{}:", words.join(" "));
    match matrix::caught(|| Scene::play(&words)) {
        Ok(scene) => forced
            .iter()
            .map(|alternative| {
                let truth = truth::of(&alternative.probe).expect("only such are forced");
                matrix::caught(|| truth(&scene))
            })
            .collect(),
        Err(why) => vec![Err(why); forced.len()],
    }
}

#[test]
fn every_unusable_alternative_is_refused_with_a_sentence() {
    let refused: Vec<Alternative> = doctor::alternatives().into_iter().filter(|a| !a.usable).collect();
    if refused.is_empty() {
        return skip(
            "every_unusable_alternative_is_refused_with_a_sentence",
            "this kernel allows every alternative of every probe",
        );
    }
    let mut seen = HashSet::new();
    for alternative in refused {
        let why = alternative.why.as_ref();
        let why = why.unwrap_or_else(|| panic!("doctor gives no reason for {}", alternative.word()));
        matrix::unusable(&alternative, why);
        // Emulated, each takes seconds.
        if !seen.insert((alternative.probe.clone(), why.clone())) && in_vm() {
            continue;
        }
        let output = memtrace::run(&["top", "--json", "--attach", &alternative.word()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{}: {said}", alternative.word());
        assert!(output.stdout.is_empty(), "{}", alternative.word());
        assert_eq!(said.lines().count(), 1, "{}: {said}", alternative.word());
        assert!(said.contains(&alternative.probe), "{}: {said}", alternative.word());
    }
}

/// Where only hooks on every page are there, they run on demand and for a bounded time.
#[test]
fn charges_are_counted_on_demand() {
    let top = Made::top("demand");
    let cgroup = top.child("busy");
    let workload = Workload::start(&cgroup, &["anon", "--total", "4M", "--hold", "0.05", "--again"]);
    workload.done();
    let charged = |interval: &Interval| interval.row(&cgroup).map(|row| row["charged_per_s"].as_f64());
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let unasked = charged(&memtrace.next()).expect("it has a row");
    memtrace.stop();
    let mut memtrace = Memtrace::top(&["-i", "0.5", "--charges=3"]);
    let asked = charged(&memtrace.next()).expect("it has a row");
    assert!(asked.is_some_and(|rate| rate > MIB as f64), "{asked:?}");
    if unasked.is_none() {
        memtrace.until("the time to be up", |interval| charged(interval) == Some(None));
    } else {
        let later = memtrace.later(8);
        assert!(charged(&later).is_some_and(|rate| rate.is_some()), "a cheap hook goes on");
    }
    memtrace.stop();
}

/// A stop breaks a load off, and the next may break off its repetition.
#[test]
fn stops_while_it_attaches_cost_no_probe() {
    // Fewer than a load is tried.
    const TOGETHER: u32 = 5;
    let usable = |alternatives: Vec<Alternative>| -> Vec<(String, bool)> {
        alternatives.iter().map(|one| (one.word(), one.usable)).collect()
    };
    let undisturbed = doctor::alternatives();
    // Emulated, seconds. Without a rest of that length between stops none could ever end.
    let longest = undisturbed.iter().filter_map(|one| one.attach_ms).fold(0.0, f64::max);
    let longest = Duration::from_secs_f64(longest / 1e3);
    let mut command = memtrace::command(&["doctor", "--json"]);
    let mut doctor = command.stdout(Stdio::piped()).spawn().expect("memtrace can be started");
    let pid = Pid::from_child(&doctor);
    let mut stops = 0;
    while doctor.try_wait().expect("it is our child").is_none() {
        for signal in [Signal::STOP, Signal::CONT] {
            let _ = kill_process(pid, signal);
        }
        stops += 1;
        thread::sleep(if stops % TOGETHER == 0 { longest * 3 / 2 } else { longest / 16 });
    }
    let told = doctor.wait_with_output().expect("it is our child");
    let told: Value = serde_json::from_slice(&told.stdout).expect("doctor prints JSON");
    println!("stopped {stops} times; the longest took {longest:?}");
    assert!(stops >= TOGETHER, "it was over before");
    assert_eq!(usable(doctor::alternatives_of(&told)), usable(undisturbed));
}
