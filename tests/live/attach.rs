//! Every way of attaching every probe: those that this kernel allows serve the truth, the others are refused with a
//! sentence. Which there are is asked of `doctor`.

use std::{fs, process::Command};

use serde_json::Value;

use crate::driver::{
    MIB, batches,
    cgroup::Made,
    doctor::{self, Alternative},
    interval::Interval,
    memtrace::{self, Memtrace},
    output, skip,
    workload::{self, Workload},
};

const EXECS: u32 = 20;

/// With one alternative of each probe at a time, so that the run that is needed for the longest list serves all.
#[test]
fn every_usable_alternative_serves_the_truth() {
    let usable: Vec<Alternative> = doctor::alternatives().into_iter().filter(|a| a.usable).collect();
    let of = |probe: &str| -> Vec<&Alternative> { usable.iter().filter(|a| a.probe == probe).collect() };
    let probes = ["cgroup_life", "task_life", "charge"].map(of);
    let rounds = probes.iter().map(Vec::len).max().unwrap_or(0);
    assert!(probes.iter().all(|probe| !probe.is_empty()), "nothing serves some probe: {usable:?}");
    for round in 0..rounds {
        serves(&probes.each_ref().map(|probe| probe[round % probe.len()]));
    }
}

#[test]
fn classic_tracepoints_alone_serve_the_truth() {
    let all = doctor::alternatives();
    let classic: Vec<&Alternative> = all.iter().filter(|a| a.usable && a.kind == "tracepoint").collect();
    let of = |probe: &str| classic.iter().find(|a| a.probe == probe).copied();
    let Some(charge) = of("charge") else {
        return skip(
            "classic_tracepoints_alone_serve_the_truth",
            "this kernel has no tracepoint for charges (they are new in 6.13)",
        );
    };
    let life = ["cgroup_life", "task_life"].map(|probe| of(probe).expect("every kernel has it"));
    // Where tracefs is not mounted, they are looked up by a mount that must not stay.
    let mounted =
        || fs::read_to_string("/proc/self/mounts").map(|mounts| mounts.matches(" tracefs ").count());
    let before = mounted().expect("/proc is mounted");
    serves(&[life[0], life[1], charge]);
    assert_eq!(mounted().expect("/proc is mounted"), before, "tracefs stayed mounted");
}

/// Runs memtrace with these alone, does something that each probe must tell, and compares.
fn serves(alternatives: &[&Alternative]) {
    let words: Vec<String> = alternatives.iter().map(|alternative| alternative.word()).collect();
    let mut options = vec!["-i", "1"];
    options.extend(words.iter().flat_map(|word| ["--attach", word.as_str()]));
    let mut memtrace = Memtrace::top(&options);
    let top = Made::top("attach");

    let charged = top.child("charged");
    let workload = Workload::start(&charged, &["anon", "--total", "16M", "--hold", "forever"]);
    let truth = workload.done();
    let busy = top.child("busy");
    execute(&busy, EXECS);
    let short = top.child("short");
    let path = short.path.clone();
    let lived = Workload::start(&short, &["anon", "--total", "4M", "--hold", "0.1"]);
    lived.done();
    lived.wait();
    short.remove();

    let mut intervals = memtrace.until("the short one to go", |interval| interval.removed(&path).is_some());
    intervals.extend(memtrace.take(2));
    let usage = charged.usage();
    memtrace.stop();
    let sum = |cgroup: &Made, value: fn(&Value) -> &Value| -> f64 {
        let of = |interval: &Interval| Some(value(interval.row(cgroup)?).as_f64()? * interval.seconds());
        intervals.iter().filter_map(of).sum()
    };

    let into = sum(&charged, |row| &row["charged_per_s"]);
    let out = sum(&charged, |row| &row["uncharged_per_s"]);
    println!("{words:?}: charged {into:.0}, uncharged {out:.0}, true {truth}, cgroupfs {usage}");
    assert!(into >= truth as f64, "{words:?}: charged {into}, true {truth}");
    assert!(into <= (truth + 2 * MIB) as f64, "{words:?}: charged {into}, true {truth}");
    let wrong = (into - out - usage as f64).abs();
    assert!(wrong <= batches() as f64, "{words:?}: charged {into} less {out}, cgroupfs says {usage}");

    let execs = sum(&busy, |row| &row["tasks"]["execs_per_s"]).round();
    let exits = sum(&busy, |row| &row["tasks"]["exits_per_s"]).round();
    assert_eq!((execs, exits), (f64::from(EXECS), f64::from(EXECS + 1)), "{words:?}");

    let row = intervals.iter().find_map(|interval| interval.removed(&path)).expect("it was waited for");
    let lived = row["removed"]["lived_s"].as_f64().expect("it was made while memtrace watched");
    assert!(lived > 0.0 && lived < 30.0, "{words:?}: lived {lived} s");
    if let Some(peak) = row["removed"]["peak"].as_u64() {
        assert!((4 * MIB..8 * MIB).contains(&peak), "{words:?}: peak {peak}");
    }
    drop(workload);
}

/// A shell in the cgroup starts so many programs, which end at once; then it ends as well.
fn execute(cgroup: &Made, count: u32) {
    let script = format!(
        "echo $$ > {}/cgroup.procs; left={count}; \
         while [ $left -gt 0 ]; do {} idle --hold 0; left=$((left - 1)); done",
        cgroup.dir().display(),
        workload::binary().display()
    );
    let ended = output::of(Command::new("sh").args(["-c", &script]));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
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
    for alternative in refused {
        let output = memtrace::run(&["top", "--json", "--attach", &alternative.word()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{}: {said}", alternative.word());
        assert!(output.stdout.is_empty(), "{}", alternative.word());
        assert_eq!(said.lines().count(), 1, "{}: {said}", alternative.word());
        assert!(said.contains(&alternative.probe), "{}: {said}", alternative.word());
        assert!(alternative.why.is_some(), "doctor gives no reason for {}", alternative.word());
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
