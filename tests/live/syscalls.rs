//! System calls: counts and errors as the workload, strace and perf have them, percentiles as the workload's own clock
//! has them, and nobody's but those of the containers that were chosen. Each way of attaching is forced.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::driver::{
    cgroup::{Cgroup, Made},
    doctor, matrix,
    memtrace::{self, Memtrace},
    output, scratch, skip, workload,
};

/// What the workload is told to do.
const WORDS: [&str; 3] = ["known-calls", "--getppid", "2000"];

/// Threads of the workload share one heap: where another would come to lie decides whether one or both ends of what it was
/// mapped in are given back, a call more or less.
const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Calls and errors by name.
type Counts = BTreeMap<String, (u64, u64)>;

/// The workload, which is in the cgroup from its `execve` on; gives what it says of itself.
fn run_in(cgroup: &Cgroup) -> Value {
    let mut command = Command::new(workload::binary());
    command.args(WORDS).env(ONE_HEAP.0, ONE_HEAP.1).stdin(Stdio::null());
    let mut procs = File::options().write(true).open(cgroup.dir().join("cgroup.procs")).expect("it is ours");
    // SAFETY: one write between fork and exec.
    unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    said(&output::of(&mut command))
}

fn said(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("it says something")).expect("it says so as JSON")
}

/// What memtrace told of one cgroup, and what was true.
struct Scene {
    /// By name.
    calls: BTreeMap<String, Value>,
    said: Value,
}

impl Scene {
    /// Two do the same, one of them is chosen.
    fn play(attach: &[String]) -> Scene {
        let top = Made::top("calls");
        let (chosen, other) = (top.child("chosen"), top.child("other"));
        let mut words = vec!["syscalls", "--json", "-i", "0.5", "-c", "*/chosen"];
        words.extend(attach.iter().flat_map(|word| ["--attach", word.as_str()]));
        let mut memtrace = Memtrace::spawn_as("syscalls", &mut memtrace::command(&words));
        memtrace.next();
        run_in(&other);
        let said = run_in(&chosen);
        let interval = memtrace.later(2);
        memtrace.stop();
        let rows = interval.0["containers"].as_array().expect("an array");
        let paths: Vec<&str> =
            rows.iter().filter_map(|row| row["container"]["cgroup"]["path"].as_str()).collect();
        assert_eq!(paths, [chosen.path.as_str()], "only what was chosen is counted");
        assert_eq!(interval.0["host"]["losses"], serde_json::json!([]), "nothing is lost");
        let calls = rows[0]["calls"].as_array().expect("an array").iter();
        let calls =
            calls.map(|call| (call["name"].as_str().expect("a name").to_owned(), call.clone())).collect();
        Scene { calls, said }
    }

    fn counts(&self) -> Counts {
        let number = |call: &Value, key: &str| call[key].as_u64().expect("a number");
        self.calls
            .iter()
            .map(|(name, call)| (name.clone(), (number(call, "count"), number(call, "errors"))))
            .collect()
    }

    fn is_true(&self) {
        let number = |key: &str| self.said[key].as_u64().expect("it says how many");
        let counts = self.counts();
        assert_eq!(counts.get("getppid"), Some(&(number("getppid"), 0)));
        let (opened, not_found) = counts["openat"];
        assert!(opened >= not_found && not_found >= number("missing"), "{opened} {not_found}");
        assert_eq!(self.calls["openat"]["errors_by_errno"]["ENOENT"].as_u64(), Some(not_found));
        assert_eq!(counts["execve"].0, 4, "its own and three children's");
        assert!(!counts.contains_key("exit_group"), "it does not return");
        for (name, call) in &self.calls {
            let buckets = call["buckets"].as_array().expect("an array");
            let sum: u64 = buckets.iter().filter_map(|bucket| bucket[1].as_u64()).sum();
            assert_eq!(Some(sum), call["count"].as_u64(), "{name}: every call is in a bucket");
        }
        self.sleeps_are_as_long();
    }

    /// A call takes no less than was asked for, and no more than the clock of who slept says, which has in it whatever ran
    /// before it was read.
    fn sleeps_are_as_long(&self) {
        let sorted = |key: &str| {
            let times = self.said[key].as_array().expect("an array").iter();
            let mut times: Vec<f64> = times.filter_map(Value::as_f64).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (asked, slept) = (sorted("asked_us"), sorted("slept_us"));
        let call = &self.calls["nanosleep"];
        assert_eq!(call["count"].as_u64(), Some(slept.len() as u64));
        let nth = |share: f64| (share * slept.len() as f64).ceil() as usize - 1;
        const WITHIN: f64 = 0.02;
        for (key, share) in [("p50_us", 0.5), ("p99_us", 0.99)] {
            let told = call[key].as_f64().expect("it is known");
            let (least, most) = (asked[nth(share)], slept[nth(share)]);
            println!("  {key}: told {told:.1}, true {least:.1} to {most:.1}");
            assert!(
                told > least * (1.0 - WITHIN) && told < most * (1.0 + WITHIN),
                "{key}: told {told}, true {least} to {most}"
            );
        }
        let (told, least, most) =
            (call["max_us"].as_f64().expect("it is known"), asked[nth(1.0)], slept[nth(1.0)]);
        println!("  max_us: told {told:.1}, true {least:.1} to {most:.1}");
        assert!(told > least && told < most * (1.0 + WITHIN), "max: told {told}, true {least} to {most}");
        let sum = |times: &[f64]| times.iter().sum::<f64>() / 1e6;
        let (told, least, most) = (call["total_s"].as_f64().expect("it is known"), sum(&asked), sum(&slept));
        assert!(told > least && told <= most, "total: told {told}, true {least} to {most}");
    }
}

#[test]
fn every_way_of_attaching_counts_the_chosen_one_only() {
    let usable = doctor::alternatives().into_iter().filter(|a| a.probe == "syscall" && a.usable);
    let usable: Vec<_> = usable.collect();
    assert!(!usable.is_empty(), "nothing serves system calls");
    matrix::each(&usable, |alternative| {
        println!("{}:", alternative.word());
        Scene::play(&[alternative.word()]).is_true();
    });
}

/// Of calls whose number hangs on who waits for whom.
const UNSTEADY: [&str; 2] = ["futex", "wait4"];

fn without_unsteady(mut counts: Counts) -> Counts {
    counts.retain(|name, _| !UNSTEADY.contains(&name.as_str()));
    counts
}

#[test]
fn counts_and_errors_are_those_of_strace() {
    const NAME: &str = "counts_and_errors_are_those_of_strace";
    let table = scratch::dir("strace").join("table");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&table).arg(workload::binary()).args(WORDS);
    strace.env(ONE_HEAP.0, ONE_HEAP.1).stdin(Stdio::null());
    match strace.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return skip(NAME, "strace is not installed");
        }
        traced => drop(said(&traced.expect("strace can be started"))),
    }
    let text = fs::read_to_string(&table).expect("strace wrote its table");
    // % time, seconds, usecs/call, calls, errors if there are any, syscall
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows =
        lines.filter(|row| row.len() > 4 && row[3].parse::<u64>().is_ok() && row[row.len() - 1] != "total");
    let expected: Counts = rows
        .map(|row| {
            let errors = if row.len() > 5 { row[4].parse().expect("a number") } else { 0 };
            (row[row.len() - 1].to_owned(), (row[3].parse().expect("a number"), errors))
        })
        .collect();
    assert!(expected.contains_key("getppid"), "{text}");
    let told = Scene::play(&[]).counts();
    assert_eq!(without_unsteady(told), without_unsteady(expected));
}

#[test]
fn counts_and_errors_are_those_of_perf_trace() {
    const NAME: &str = "counts_and_errors_are_those_of_perf_trace";
    let told = named(Scene::play(&[]).counts());
    let expected = match of_perf() {
        Ok(counts) => named(counts),
        Err(why) => return skip(NAME, &why),
    };
    assert_eq!(told, expected);
}

/// perf has the program started by itself, and counts a child's return from the call by which it was made, too.
fn named(counts: Counts) -> Counts {
    let other = |name: &str| name == "execve" || name.starts_with("clone");
    without_unsteady(counts).into_iter().filter(|(name, _)| !other(name)).collect()
}

fn of_perf() -> Result<Counts, String> {
    let table = scratch::dir("perf").join("table");
    // perf does not sort what the processors wrote, so that a call that ends on another than it began on is none to it.
    let mut perf = Command::new("taskset");
    perf.args(["-c", "0", "perf", "trace", "-s", "-m", "4096", "-o"])
        .arg(&table)
        .arg("--")
        .arg(workload::binary())
        .args(WORDS);
    let traced = match perf.env(ONE_HEAP.0, ONE_HEAP.1).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("taskset is not installed".into());
        }
        traced => traced.expect("perf can be started"),
    };
    let text = fs::read_to_string(&table).unwrap_or_default();
    // syscall, calls, errors, total, min, avg, max, stddev, for each thread
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows =
        rows.filter(|row| row.len() == 8 && row[1].parse::<u64>().is_ok() && row[2].parse::<u64>().is_ok());
    let mut counts = Counts::new();
    for row in rows {
        let entry = counts.entry(row[0].to_owned()).or_default();
        entry.0 += row[1].parse::<u64>().expect("a number");
        entry.1 += row[2].parse::<u64>().expect("a number");
    }
    if !counts.contains_key("getppid") {
        let why = String::from_utf8_lossy(&traced.stderr).lines().next().unwrap_or("no word").to_owned();
        return Err(format!("this perf cannot trace here: {why}"));
    }
    Ok(counts)
}
