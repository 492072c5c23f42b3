//! What may go wrong around memtrace: rights, the kernel, the command line, files of others, names, terminals. Each
//! time it says what is the matter, or goes on without, and leaves nothing behind.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Output},
    time::{Duration, Instant},
};

use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use crate::driver::{
    MIB, about,
    bpf::left_behind,
    cgroup::Made,
    confined::{as_nobody, blind_to, without},
    container::{self, Wanted},
    docker::docker,
    in_vm,
    memtrace::{self, Memtrace},
    output, scratch, skip, wait_for,
    workload::Workload,
};

fn nothing_left() {
    assert_eq!(left_behind(), Vec::<String>::new());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It ended with this status, said this in one line, and printed nothing else.
fn refused(output: &Output, status: i32, said: &str) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("memtrace: ") && errors.contains(said), "{errors}");
    assert_eq!(text(&output.stdout), "");
    nothing_left();
}

/// A copy that another user may start.
fn for_all(words: &[&str]) -> Command {
    let copy = scratch::dir("bin").join("memtrace");
    fs::copy(memtrace::binary(), &copy).expect("the run's directory can be written");
    let mut command = Command::new(copy);
    command.args(words);
    command
}

#[test]
fn not_root() {
    let run = |words: &[&str]| output::of(as_nobody(&mut for_all(words)));
    refused(&run(&["top", "--json"]), 3, "CAP_BPF");
    let output = run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("it reports all the same");
    let missing = report["capabilities_missing"].as_array().expect("a list");
    assert!(missing.contains(&"CAP_BPF".into()) && missing.contains(&"CAP_PERFMON".into()), "{missing:?}");
}

#[test]
fn a_missing_capability() {
    for (missing, name) in [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")] {
        let mut command = memtrace::command(&["top", "--json"]);
        let output = output::of(without(&mut command, missing | CapabilitySet::SYS_ADMIN));
        refused(&output, 3, name);
    }
}

/// What `doctor` calls missing is all that it needs: where maps count against a limit, also the right to raise that.
#[test]
fn four_capabilities_are_enough() {
    let mut needed = CapabilitySet::BPF
        | CapabilitySet::PERFMON
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::SYS_PTRACE;
    let mut command = memtrace::command(&["doctor", "--json"]);
    let output = output::of(without(&mut command, CapabilitySet::all() & !needed));
    let report: Value = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    if report["capabilities_missing"] == json!(["CAP_SYS_RESOURCE"]) {
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("RLIMIT_MEMLOCK"), "{}", text(&output.stderr));
        needed |= CapabilitySet::SYS_RESOURCE;
    } else {
        assert_eq!(report["capabilities_missing"], json!([]), "{}", text(&output.stderr));
    }
    let mut command = memtrace::command(&["top", "--json", "-i", "0.5"]);
    let mut memtrace = Memtrace::spawn(without(&mut command, CapabilitySet::all() & !needed));
    memtrace.next();
    tells_of_the_short_lived(&mut memtrace);
    memtrace.stop();
    nothing_left();
}

/// A cgroup that lives between two looks, and what it held.
fn tells_of_the_short_lived(memtrace: &mut Memtrace) {
    let short = Made::top("short");
    let workload = Workload::start(&short, &["anon", "--total", "4M", "--hold", "0.1"]);
    workload.done();
    workload.wait();
    let path = short.path.clone();
    short.remove();
    memtrace.until("the short-lived to be told", |interval| interval.removed(&path).is_some());
}

#[test]
fn without_btf_classic_tracepoints_serve() {
    let btf = ["/sys/kernel/btf"];
    let mut command = memtrace::command(&["doctor", "--json"]);
    let output = output::of(blind_to(&mut command, &btf));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("doctor prints JSON");
    assert_eq!(report["btf"], false);
    let probes = report["probes"].as_array().expect("a list");
    let of = |name: &str| probes.iter().find(|probe| probe["name"] == name).expect("every probe is listed");
    assert_eq!(of("cgroup_life")["chosen"], "tracepoint");
    for probe in probes {
        assert!(probe["lost"].is_string(), "what {} loses is not said", probe["name"]);
    }

    let mut command = memtrace::command(&["top", "--json", "-i", "0.5"]);
    let mut memtrace = Memtrace::spawn(blind_to(&mut command, &btf));
    memtrace.next();
    tells_of_the_short_lived(&mut memtrace);
    let stays = Made::top("stays");
    let workload = Workload::start(&stays, &["anon", "--total", "8M", "--hold", "forever"]);
    let truth = workload.done();
    let interval = memtrace.later(2);
    let row = interval.row(&stays).expect("it has a row");
    let anon = row["memory"]["anon"].as_u64().expect("it is known");
    assert!(about(truth, 2 * MIB).contains(&anon), "{anon}, true {truth}");
    assert!(row["charged_per_s"].is_null(), "what no probe serves is not known");
    memtrace.stop();
    nothing_left();
    drop(workload);
}

#[test]
fn usage_errors() {
    for words in [
        ["top", "--no-such-option"].as_slice(),
        &["top", "--interval", "0"],
        &["top", "--sort", "no-such-column"],
        &["top", "--attach", "no-such-way"],
        &["no-such-command"],
    ] {
        let output = memtrace::run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
    nothing_left();
}

#[test]
fn a_pattern_that_matches_nothing() {
    let there = Made::top("there");
    let workload = Workload::start(&there, &["idle"]);
    workload.done();
    let words = ["-i", "0.2", "-d", "1", "-c", "no-such-container-*"];
    let ended = Memtrace::start(&words).wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
    assert!(ended.intervals.len() >= 3);
    for interval in &ended.intervals {
        assert_eq!(interval.0["containers"], Value::Array(Vec::new()));
        assert!(interval.0["host"]["attributed"].as_u64().is_some_and(|sum| sum > 0), "host sums are of all");
    }
    assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
    assert!(ended.errors.contains("no-such-container-*"), "{}", ended.errors);
    nothing_left();
    drop(workload);
}

/// docker's record of a container holds garbage, then cannot be read, then is whole again.
#[test]
fn a_runtime_directory_that_tells_nothing() {
    if in_vm() {
        return skip(
            "a_runtime_directory_that_tells_nothing",
            "crun keeps no names, so there is nothing to spoil",
        );
    }
    let words = ["idle", "--hold", "forever"];
    let container = container::run(&Wanted { name: "spoiled", words: &words, ..Wanted::default() });
    container.done();
    let records = docker().records(&container.id);
    let record = records.join("config.v2.json");
    // docker writes it last when the container runs, and again when it ends.
    let whole = wait_for("docker's last word", || {
        let record = fs::read_to_string(&record).expect("docker keeps a record");
        record.contains(r#""Running":true"#).then_some(record)
    });
    let nameless = |memtrace: &mut Memtrace| {
        for interval in memtrace.take(2) {
            let row = interval.row(&container.cgroup).expect("it has a row all the same");
            assert_eq!(
                (&row["container"]["id"], &row["container"]["name"]),
                (&container.id.as_str().into(), &Value::Null)
            );
        }
    };

    for garbage in [b"{\"ID\": [\xff\x1b".as_slice(), b"", b"[]", &[b'['; 100_000]] {
        fs::write(&record, garbage).expect("it can be written");
        let mut memtrace = Memtrace::start(&["-i", "0.3"]);
        nameless(&mut memtrace);
        if garbage.is_empty() {
            fs::write(&record, &whole).expect("it can be written");
            memtrace.until("the name to be found", |interval| {
                interval.row(&container.cgroup).is_some_and(|row| container.is(row).is_ok())
            });
        }
        assert_eq!(memtrace.stop().errors, "");
    }
    fs::write(&record, &whole).expect("it can be written");

    let mode = fs::metadata(&records).expect("it is there").mode();
    fs::set_permissions(&records, fs::Permissions::from_mode(0o000)).expect("it is ours");
    let mut command = memtrace::command(&["top", "--json", "-i", "0.3"]);
    let reading = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let mut memtrace = Memtrace::spawn(without(&mut command, reading));
    nameless(&mut memtrace);
    assert_eq!(memtrace.stop().errors, "");
    fs::set_permissions(&records, fs::Permissions::from_mode(mode)).expect("it is ours");
    nothing_left();
}

/// Cgroups that are gone before they can be read.
#[test]
fn a_storm_of_cgroups() {
    let top = Made::top("storm");
    let keeper = top.child("keeper");
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let start = Instant::now();
    let mut made = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let dirs: Vec<_> = (0..20).map(|at| top.dir().join(format!("brief-{made}-{at}"))).collect();
        for dir in &dirs {
            fs::create_dir(dir)
                .and_then(|()| fs::create_dir(dir.join("below")))
                .expect("a cgroup can be made");
        }
        for dir in &dirs {
            fs::remove_dir(dir.join("below"))
                .and_then(|()| fs::remove_dir(dir))
                .expect("an empty cgroup can go");
        }
        made += dirs.len();
    }
    let interval = memtrace.later(3);
    let inside = format!("{}/", top.path);
    let left: Vec<&str> = interval
        .rows()
        .filter_map(|row| row["container"]["cgroup"]["path"].as_str())
        .filter(|path| path.starts_with(&inside))
        .collect();
    println!("{made} pairs of cgroups came and went; losses: {}", interval.0["host"]["losses"]);
    assert_eq!(left, [keeper.path.as_str()], "rows of cgroups that are gone");
    assert_eq!(memtrace.stop().errors, "");
    nothing_left();
}

#[test]
fn a_pipe_whose_reader_leaves() {
    for form in ["--json", ""] {
        let script = format!("{} top {form} -i 0.2 | head -n 1", memtrace::binary().display());
        let output = output::of(Command::new("sh").args(["-c", &script]));
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        assert_eq!(text(&output.stdout).lines().count(), 1);
        nothing_left();
    }
}
