//! OOM kills as memtrace tells them: each once, with its victim, its trigger, the limit, and what was full. The witness is
//! the kernel's log. Reclaim is counted where a cgroup reads more than it may hold.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made, hierarchy},
    disk, doctor, in_vm,
    interval::Interval,
    kmsg, matrix,
    memtrace::{self, Memtrace},
    output, skip, wait_for,
    workload::Workload,
};

/// Half of it and more is filled by whoever is to be killed.
const LIMIT: u64 = 48 * MIB;

fn limit(cgroup: &Cgroup, bytes: u64) {
    let file = if hierarchy().v2 { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(cgroup.dir().join(file), bytes.to_string()).expect("a limit can be set");
    if hierarchy().v2 {
        // Where there is swap, it would be filled first.
        let _ = fs::write(cgroup.dir().join("memory.swap.max"), "0");
    }
}

fn limited(name: &str, bytes: u64) -> Made {
    let made = Made::top(name);
    limit(&made, bytes);
    made
}

/// A hog that is killed for it, when it is dead.
fn hog(cgroup: &Cgroup) -> u32 {
    let hog = Workload::start(cgroup, &["anon", "--total", "96M", "--hold", "forever"]);
    let pid = hog.pid();
    dead(pid);
    pid
}

fn dead(pid: u32) {
    wait_for("the victim to be killed", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    });
}

/// `memtrace oom`, attached: a kill that was before it is told first.
fn watching(words: &[&str]) -> (Memtrace, Interval) {
    let before = limited("oom-before", LIMIT);
    let pid = hog(&before);
    let mut command = memtrace::command(&["oom", "--json", "-i", "0.5"]);
    let mut memtrace = Memtrace::spawn_as("oom", command.args(words));
    let told = memtrace.until("the kill before attach", |kill| kill.0["victim"]["pid"] == pid).pop();
    let told = told.expect("it was waited for");
    assert_eq!(told.0["before_attach"], true, "{}", told.0);
    assert_eq!(told.0["container"]["cgroup"]["path"], before.path);
    assert_eq!(told.0["limit_cgroup"]["path"], before.path);
    assert_eq!(told.0["source"], "kmsg");
    (memtrace, told)
}

fn kill_of(memtrace: &mut Memtrace, pid: u32) -> Value {
    let kill = memtrace.until("the kill", |kill| kill.0["victim"]["pid"] == pid).pop();
    kill.expect("it was waited for").0
}

#[test]
fn every_alternative_tells_of_a_kill_by_an_ancestor_s_limit() {
    let alternatives = doctor::usable("oom_kill");
    assert!(!alternatives.is_empty(), "nothing serves the probe");
    matrix::each(&alternatives, |alternative| {
        let (mut memtrace, _) = watching(&["--attach", &alternative.word()]);
        let job = limited("oom-job", LIMIT);
        let step = job.child("step");
        let pid = hog(&step);
        let kill = kill_of(&mut memtrace, pid);
        println!("  {}: {}", alternative.word(), kill["cause"]);
        assert_eq!(kill["before_attach"], false);
        assert_eq!(kill["container"]["cgroup"]["path"], step.path, "{kill}");
        assert_eq!(kill["container"]["cgroup"]["id"], step.id());
        assert_eq!(kill["victim"]["comm"], "workload");
        assert!(kill["victim"]["anon"].as_u64().is_some_and(|anon| anon > LIMIT / 2), "{kill}");
        assert_eq!(kill["trigger"]["pid"], pid, "it asked for more itself");
        assert_eq!(kill["trigger"]["container"]["cgroup"]["path"], step.path);
        assert_eq!(kill["limit_cgroup"]["path"], job.path);
        assert_eq!(kill["limit_cgroup"]["id"], job.id());
        assert_eq!((kill["source"].as_str(), kill["memory"]["limit"].as_u64()), (Some("kmsg"), Some(LIMIT)));
        kmsg::agrees(&kill, &job.path);
        let cause = kill["cause"].as_str().expect("a sentence");
        let head = format!("limit 48.0 MiB of {}, which the container is in: ", job.path);
        assert!(
            cause.starts_with(&head) && cause.contains("anonymous memory, of which workload["),
            "{cause}"
        );
        let later = memtrace.stop().intervals;
        assert!(later.iter().all(|kill| kill.0["victim"]["pid"] != pid), "it was told twice");
    });
}

#[test]
fn the_victim_is_not_the_trigger() {
    let (mut memtrace, _) = watching(&[]);
    let job = limited("oom-other", 64 * MIB);
    let (calm, greedy) = (job.child("calm"), job.child("greedy"));
    let victim = Workload::start(&calm, &["anon", "--total", "36M", "--hold", "forever"]);
    victim.done();
    fs::write(format!("/proc/{}/oom_score_adj", victim.pid()), "1000").expect("root may");
    // Before the victim's memory is given back, the trigger may be the next one: nobody waits until it is done.
    let trigger = Workload::start(&greedy, &["anon", "--total", "40M", "--hold", "forever"]);
    dead(victim.pid());
    let kill = kill_of(&mut memtrace, victim.pid());
    println!("{kill}");
    assert_eq!(kill["container"]["cgroup"]["path"], calm.path);
    assert_eq!(kill["trigger"]["pid"], trigger.pid());
    assert_eq!(kill["trigger"]["container"]["cgroup"]["path"], greedy.path);
    assert_eq!(kill["limit_cgroup"]["path"], job.path);
    memtrace.stop();
}

#[test]
fn three_kills_in_a_second_are_told_once_each() {
    let (mut memtrace, _) = watching(&[]);
    let cgroups: Vec<Made> = (0..3).map(|_| limited("oom-three", LIMIT)).collect();
    let hogs: Vec<Workload> = cgroups
        .iter()
        .map(|cgroup| Workload::start(cgroup, &["anon", "--total", "96M", "--hold", "forever"]))
        .collect();
    hogs.iter().for_each(|hog| dead(hog.pid()));
    thread::sleep(Duration::from_secs(2));
    let mut told = memtrace.waiting();
    told.extend(memtrace.stop().intervals);
    for (cgroup, hog) in cgroups.iter().zip(&hogs) {
        let of: Vec<&Value> =
            told.iter().map(|kill| &kill.0).filter(|kill| kill["victim"]["pid"] == hog.pid()).collect();
        let [kill] = of.as_slice() else { panic!("{} told {} times: {told:?}", hog.pid(), of.len()) };
        assert_eq!(kill["container"]["cgroup"]["path"], cgroup.path);
        assert_eq!(kill["limit_cgroup"]["path"], cgroup.path);
        kmsg::agrees(kill, &cgroup.path);
    }
}

/// The kernel leaves out reports that come too fast, all but their last line: the kills are told all the same.
#[test]
fn kills_without_a_report_are_told() {
    const KILLS: usize = 16;
    let (mut memtrace, _) = watching(&[]);
    let cgroups: Vec<Made> = (0..KILLS).map(|_| limited("oom-storm", 8 * MIB)).collect();
    // Known before they are killed.
    thread::sleep(Duration::from_secs(1));
    let hogs: Vec<Workload> = cgroups
        .iter()
        .map(|cgroup| Workload::start(cgroup, &["anon", "--total", "16M", "--hold", "forever"]))
        .collect();
    hogs.iter().for_each(|hog| dead(hog.pid()));
    thread::sleep(Duration::from_secs(2));
    let mut told = memtrace.waiting();
    told.extend(memtrace.stop().intervals);
    let mut left_out = 0;
    for (cgroup, hog) in cgroups.iter().zip(&hogs) {
        let of: Vec<&Value> =
            told.iter().map(|kill| &kill.0).filter(|kill| kill["victim"]["pid"] == hog.pid()).collect();
        let [kill] = of.as_slice() else { panic!("{} told {} times: {told:?}", hog.pid(), of.len()) };
        assert_eq!(kill["container"]["cgroup"]["path"], cgroup.path);
        assert_eq!(kill["limit_cgroup"]["path"], cgroup.path, "{kill}");
        assert_eq!(kill["memory"]["limit"], 8 * MIB, "{kill}");
        if kill["source"] != "kmsg" {
            println!("  without a report: {}", kill["cause"]);
            assert!(kill["memory"]["anon"].is_null() || kill["source"] == "sample", "{kill}");
            left_out += 1;
        }
    }
    println!("  {left_out} of {KILLS} without a report");
    // Until the kernel reports again.
    thread::sleep(Duration::from_secs(6));
    assert!(in_vm() || left_out > 0, "the kernel reported them all: this tested nothing");
}

/// The first victim of a group is reported twice, and each member is killed.
#[test]
fn a_group_is_told_once_each() {
    let job = limited("oom-group", LIMIT);
    let group = job.dir().join("memory.oom.group");
    if !group.exists() {
        return skip("a_group_is_told_once_each", "cgroup v1 kills no groups");
    }
    fs::write(group, "1").expect("it can be asked for");
    let (mut memtrace, _) = watching(&[]);
    let calm = Workload::start(&job, &["idle", "--hold", "forever"]);
    let pid = hog(&job);
    dead(calm.pid());
    thread::sleep(Duration::from_secs(2));
    let mut told = memtrace.waiting();
    told.extend(memtrace.stop().intervals);
    for pid in [pid, calm.pid()] {
        let of: Vec<&Interval> = told.iter().filter(|kill| kill.0["victim"]["pid"] == pid).collect();
        assert_eq!(of.len(), 1, "{pid}: {told:?}");
        assert_eq!(of[0].0["limit_cgroup"]["path"], job.path);
    }
}

/// A kill before attach for people, too: the first line says who and why.
#[test]
fn people_are_told_in_a_line() {
    let before = limited("oom-people", LIMIT);
    let pid = hog(&before);
    let output = output::of(&mut memtrace::command(&["oom", "-d", "1", "-c", &before.path]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let first = text.lines().next().expect("a kill");
    assert!(
        first.contains("(before attach)")
            && first.contains(&format!("workload[{pid}] killed: limit 48.0 MiB: "))
    );
}

#[test]
fn reclaim_is_counted_where_it_holds_up() {
    let alternatives = doctor::usable("reclaim");
    let file = disk::file("reclaim", 96 * MIB);
    let path = file.to_str().expect("a plain name");
    matrix::each(&alternatives, |alternative| {
        let mut memtrace = Memtrace::top(&["-i", "1", "--attach", &alternative.word()]);
        let job = Made::top("reclaim");
        let (tight, wide) = (job.child("tight"), job.child("wide"));
        limit(&tight, 24 * MIB);
        let idle = Workload::start(&wide, &["idle", "--hold", "forever"]);
        idle.done();
        let reader = Workload::start(&tight, &["read", path, "--cold", "--hold", "forever"]);
        reader.done();
        let last = memtrace.later(2);
        let pressure = |cgroup: &Cgroup| last.row(cgroup).expect("its row")["pressure"].clone();
        let (held, free) = (pressure(&tight), pressure(&wide));
        println!("  {}: {held}", alternative.word());
        let (count, time) = (held["reclaims"].as_u64(), held["reclaim_s"].as_f64());
        assert!(count.is_some_and(|count| count > 0) && time.is_some_and(|time| time > 0.0), "{held}");
        // What it read beyond its limit was got back for it.
        let reclaimed = held["reclaimed"].as_u64().expect("it is counted");
        assert!((64 * MIB..160 * MIB).contains(&reclaimed), "{held}");
        assert_eq!(free["reclaims"], 0, "the other waits for nothing: {free}");
        memtrace.stop();
    });
}

/// By the kernel's own measure, on cgroup v2: what is read again and again beyond a limit holds up who reads it, and
/// nobody else.
#[test]
fn stalls_and_refaults_rise_under_pressure() {
    const TEST: &str = "stalls_and_refaults_rise_under_pressure";
    let (job, wide) = (Made::top("stalls"), Made::top("stalls-none"));
    if !job.dir().join("memory.pressure").exists() {
        return skip(TEST, "this hierarchy tells no stalls of a cgroup (memory.pressure)");
    }
    let file = disk::file("stalls", 64 * MIB);
    let path = file.to_str().expect("a plain name");
    limit(&job, 24 * MIB);
    let idle = Workload::start(&wide, &["idle", "--hold", "forever"]);
    idle.done();
    let mut memtrace = Memtrace::top(&["-i", "1"]);
    let first = Workload::start(&job, &["read", path, "--cold", "--hold", "forever"]);
    first.done();
    let readers = (0..3).map(|_| Workload::start(&job, &["read", path, "--hold", "forever"]));
    let readers: Vec<Workload> = readers.inspect(|reader| assert!(reader.done() > 0)).collect();
    let mut seen = memtrace.waiting();
    seen.extend(memtrace.take(2));
    memtrace.stop();
    drop(readers);
    let told = |cgroup: &Cgroup, key: &str| -> Vec<f64> {
        seen.iter().filter_map(|interval| interval.row(cgroup)?["pressure"][key].as_f64()).collect()
    };
    let most = |cgroup: &Cgroup, key: &str| told(cgroup, key).into_iter().reduce(f64::max);
    for key in [
        "psi_some_share",
        "psi_full_share",
        "memory_stall_share",
        "workingset_refault_file_per_s",
        "pgmajfault_per_s",
    ] {
        println!("  {key}: {:?}, of the other {:?}", most(&job, key), most(&wide, key));
    }
    for key in ["psi_some_share", "memory_stall_share", "workingset_refault_file_per_s"] {
        assert!(most(&job, key).is_some_and(|most| most > 0.0), "{key}: {:?}", told(&job, key));
    }
    for key in ["psi_full_share", "pgmajfault_per_s"] {
        assert!(most(&job, key).is_some(), "{key} is not known");
    }
    assert!(told(&job, "psi_some_share").iter().all(|share| (0.0..=1.05).contains(share)), "{seen:?}");
    assert_eq!(most(&wide, "psi_some_share").unwrap_or(0.0), 0.0, "the other waits for nothing");
}
