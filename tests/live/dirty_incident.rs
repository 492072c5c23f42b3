//! An importer that is killed though it uses next to nothing: `qemu-img convert` in write-back mode in a container with a
//! limit, onto a disk that is slower than it. Who fills the limit with what is told while it happens, and when all of it
//! happened before memtrace was there; a heap at the same limit is told as what it is.

use std::{
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{
    MIB, bpf,
    cgroup::{Cgroup, hierarchy},
    container::{self, Container, Wanted},
    disk, docker, image, in_vm,
    interval::Interval,
    kmsg,
    memtrace::{self, Memtrace},
    scene::{self, During, Report},
    skip,
    slow::{EmulatedDisk, SlowDisk},
    wait_for,
};

const LIMIT: u64 = 200 * MIB;
/// Twice the limit.
const SOURCE: u64 = 400 * MIB;
/// Where the importer writes to, as it knows it.
const TARGET: &str = "/volume/disk.raw";

fn no_daemons(test: &str) -> bool {
    if in_vm() {
        skip(test, "there is no docker, and no program that slows a disk");
    }
    in_vm()
}

/// A container with the limit, the slow disk as its volume, and no swap.
fn limited(disk: &SlowDisk, wanted: &Wanted<'_>) -> Container {
    let mut binds = image::host_programs();
    binds.push((&disk.mount, "/volume"));
    binds.extend(wanted.binds);
    let limit = LIMIT.to_string();
    docker::docker()
        .run(&Wanted { binds: &binds, memory: Some(LIMIT), ..*wanted }, &["--memory-swap", &limit])
}

fn importer(disk: &SlowDisk, source: &Path) -> Container {
    let dir = source.parent().expect("it is in a directory");
    let words = ["convert", "-t", "writeback", "-f", "raw", "-O", "raw", "/source/file", TARGET];
    let binds = [(dir, "/source")];
    let wanted = Wanted {
        name: "importer",
        program: Some("/usr/bin/qemu-img"),
        words: &words,
        binds: &binds,
        ..Wanted::default()
    };
    limited(disk, &wanted)
}

/// Its first process, as the host counts.
fn pid(container: &Container) -> u64 {
    wait_for("docker to tell a process", || {
        let said = docker::docker().ask(&["inspect", "--format", "{{.State.Pid}}", &container.id]);
        String::from_utf8_lossy(&said.stdout).trim().parse().ok().filter(|pid| *pid > 0)
    })
}

fn dirty() -> Memtrace {
    let mut memtrace = Memtrace::spawn_as("dirty", &mut memtrace::command(&["dirty", "--json", "-i", "1"]));
    memtrace.next();
    memtrace
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is not known in {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Bytes of it that wait for the disk.
fn waiting(cgroup: &Cgroup) -> u64 {
    let reading = cgroup.reading();
    reading["dirty"] + reading["writeback"]
}

/// Most of its limit is waiting for the disk.
fn is_full(container: &Container) -> bool {
    waiting(&container.cgroup) >= LIMIT / 10 * 7
}

/// The importer fills its limit: the one finding that is told of it, and of nothing else above `info`.
fn dirty_page_pressure(report: &Report, container: &Container, pid: u64) -> Value {
    let of_it = |finding: &&Value| finding["container"]["id"] == container.id.as_str();
    let findings = report.findings();
    println!("{}", serde_json::to_string_pretty(findings).expect("it was JSON"));
    let [finding] = &findings.iter().filter(of_it).collect::<Vec<_>>()[..] else {
        panic!("not one finding of it, but {findings:#?}")
    };
    // Tests of another run may leak and be killed meanwhile; that nobody else is taken for the writer holds all the same.
    let of_a_test = |finding: &Value| {
        let path = finding["container"]["cgroup"]["path"].as_str();
        path.is_some_and(|path| path.starts_with("/mtlive-")) && finding["kind"] != "dirty-page-pressure"
    };
    let others = findings.iter().filter(|finding| finding["severity"] != "info" && !of_it(finding));
    assert_eq!(others.filter(|finding| !of_a_test(finding)).count(), 0, "{findings:#?}");
    assert_eq!((&finding["kind"], &finding["severity"]), (&"dirty-page-pressure".into(), &"critical".into()));
    container.is(finding).expect("the container is named");
    let evidence = &finding["evidence"];
    assert_eq!(evidence["limit"], LIMIT);
    assert_eq!(evidence["oom_kills"], 0, "it was told before a kill");
    let waiting = number(evidence, "dirty") + number(evidence, "writeback");
    assert!((LIMIT / 2..=LIMIT).contains(&waiting), "{evidence}");
    assert!(number(evidence, "file") >= waiting, "{evidence}");
    // Its heap stays as it is once it copies.
    let anon = container.cgroup.reading()["anon"];
    assert!(number(evidence, "anon").abs_diff(anon) <= 4 * MIB && anon < LIMIT / 5, "{anon}: {evidence}");
    let most = &evidence["top_dirtiers"][0];
    assert_eq!((&most["pid"], &most["comm"]), (&Value::from(pid), &Value::from("qemu-img")), "{evidence}");
    assert_eq!(most["path"], TARGET, "{evidence}");
    let summary = finding["summary"].as_str().expect("a sentence");
    assert!(summary.contains(&format!("written by qemu-img[{pid}] to {TARGET}")), "{summary}");
    (*finding).clone()
}

#[test]
fn an_importer_that_outruns_its_disk_is_found() {
    if no_daemons("an_importer_that_outruns_its_disk_is_found") {
        return;
    }
    container::warm_up();
    let source = disk::file("source", SOURCE);
    let disk = SlowDisk::new(600);
    disk.pace(4 * MIB);
    let mut memtrace = dirty();
    let diagnosing = thread::spawn(|| scene::diagnose("14"));
    // It is attached by then: what comes is counted from the start.
    thread::sleep(Duration::from_secs(3));
    let container = importer(&disk, &source);
    let pid = pid(&container);
    let row = |interval: &Interval| interval.row(&container.cgroup).cloned();
    let full = |row: Value| {
        Some(row["dirty"].as_u64()? + row["writeback"].as_u64()? >= LIMIT / 10 * 7).filter(|full| *full)
    };
    memtrace.until("its limit to be full", |interval| row(interval).and_then(full).is_some());
    let last = row(&memtrace.later(2)).expect("it is there");
    memtrace.stop();
    println!("{last}");
    container.is(&last).expect("the container is named");
    let process = &last["processes"][0];
    assert_eq!((&process["pid"], &process["comm"]), (&Value::from(pid), &Value::from("qemu-img")), "{last}");
    let file = &last["files"][0];
    assert_eq!((&file["path"], &file["backing"]), (&Value::from(TARGET), &Value::from(false)), "{last}");
    // Nobody else is in it; what the file system notes of the file may be charged to it, from the kernel's own threads.
    let others = number(&last, "dirtied") - number(process, "dirtied");
    assert!(others <= number(&last, "dirtied") / 100, "{last}");
    assert!(number(file, "dirtied") <= number(&last, "dirtied"), "{last}");
    assert!(last["dirtied_how"].is_null() && number(&last, "dirtied") >= LIMIT / 10 * 7, "{last}");
    let report = diagnosing.join().expect("it does nothing but wait");
    // cgroup v1 has whoever asks for memory wait for the disk: whether it comes to a kill is the kernel's affair.
    let Some(report) = kmsg::report(&container.cgroup.path) else {
        let finding = dirty_page_pressure(&report, &container, pid);
        assert!(finding["evidence"]["top_dirtiers_how"].is_null(), "all of it was counted: {finding}");
        disk.pace(0);
        return;
    };
    println!("killed: {report:?}");
    disk.pace(0);
    let mut memtrace = Memtrace::spawn_as("oom", &mut memtrace::command(&["oom", "--json", "-d", "1"]));
    let kill = memtrace.until("the kill", |kill| kill.0["limit_cgroup"]["path"] == container.cgroup.path);
    let kill = &kill.last().expect("it was waited for").0;
    kmsg::agrees(kill, &container.cgroup.path);
    assert!(kill["cause"].as_str().is_some_and(|cause| cause.contains("dirty page cache")), "{kill}");
}

/// Beside others: it stands at its limit.
pub fn going(during: During<'_>) -> Result<(), String> {
    if in_vm() {
        return stands_in_a_guest(during);
    }
    container::warm_up();
    let source = disk::file("source", SOURCE);
    let disk = SlowDisk::new(600);
    disk.pace(MIB);
    let container = importer(&disk, &source);
    wait_for("its limit to be full", || is_full(&container).then_some(()));
    during(vec![("dirty-page-pressure", container.cgroup.path.clone())]);
    disk.pace(0);
    Ok(())
}

/// The same where no program slows a disk. An importer would be killed there before the other incident is under way: this
/// one has written and waits, with the rest of its limit full of what it has read.
fn stands_in_a_guest(during: During<'_>) -> Result<(), String> {
    const LIMIT: u64 = 96 * MIB;
    if !hierarchy().v2 {
        return Err("cgroup v1 has whoever asks for memory wait for the disk".to_owned());
    }
    container::warm_up();
    let source = disk::file("source", LIMIT);
    // Who reads it first is charged for it.
    disk::forget(&source);
    let disk = EmulatedDisk::mount();
    let script = "b=/bin/busybox; exec 3>/volume/disk.raw; $b dd if=/dev/zero bs=1M count=72 >&3; \
                  $b cat /source/file >/dev/null; exec $b sleep 1000";
    let binds = [(source.parent().expect("it is in a directory"), "/source"), (&*disk.mount, "/volume")];
    let words = ["-c", script];
    let wanted = Wanted { binds: &binds, memory: Some(LIMIT), ..Wanted::shell("importer", &words) };
    let container = container::run(&wanted);
    wait_for("its limit to be full", || {
        let cgroup = &container.cgroup;
        (waiting(cgroup) >= LIMIT / 10 * 6 && cgroup.usage() >= LIMIT / 100 * 95).then_some(())
    });
    during(vec![("dirty-page-pressure", container.cgroup.path.clone())]);
    Ok(())
}

/// The page cache stands still at the limit when memtrace comes.
#[test]
fn an_importer_that_stands_at_its_limit_is_named() {
    if no_daemons("an_importer_that_stands_at_its_limit_is_named") {
        return;
    }
    container::warm_up();
    let source = disk::file("source", SOURCE);
    let disk = SlowDisk::new(600);
    disk.pace(MIB);
    let container = importer(&disk, &source);
    let pid = pid(&container);
    wait_for("its limit to be full", || is_full(&container).then_some(()));
    thread::sleep(Duration::from_secs(2));
    let report = scene::diagnose("6");
    let finding = dirty_page_pressure(&report, &container, pid);
    let evidence = &finding["evidence"];
    assert_eq!(evidence["top_dirtiers_how"], "inferred", "{evidence}");
    let dirtied = number(&evidence["top_dirtiers"][0], "dirtied");
    assert!((LIMIT / 2..=SOURCE).contains(&dirtied), "{evidence}");
    let mut memtrace = dirty();
    let last = memtrace.next();
    memtrace.stop();
    let row = last.row(&container.cgroup).expect("it is there");
    println!("{row}");
    let process = list(&row["processes"]).iter().find(|process| process["pid"] == pid).expect("it is told");
    assert_eq!(process["before_attach_how"], "inferred", "{row}");
    let file = list(&row["files"]).iter().find(|file| file["path"] == TARGET).expect("it is told");
    assert_eq!(
        (&file["open_before"], &file["before_attach_how"]),
        (&true.into(), &"inferred".into()),
        "{row}"
    );
    disk.pace(0);
}

/// The same container with a heap that fills its limit is killed for that.
#[test]
fn a_heap_at_the_same_limit_has_another_cause() {
    if no_daemons("a_heap_at_the_same_limit_has_another_cause") {
        return;
    }
    container::warm_up();
    let disk = SlowDisk::new(600);
    disk.pace(4 * MIB);
    let mut memtrace = Memtrace::spawn_as("oom", &mut memtrace::command(&["oom", "--json", "-i", "0.5"]));
    let diagnosing = thread::spawn(|| scene::diagnose("12").told);
    thread::sleep(Duration::from_secs(3));
    let words = ["anon", "--rate", "50M", "--total", "400M", "--hold", "forever"];
    let mut container = limited(&disk, &Wanted { name: "heap", words: &words, ..Wanted::default() });
    let pid = pid(&container);
    let kill = memtrace.until("the kill", |kill| kill.0["victim"]["pid"] == pid).pop();
    let kill = kill.expect("it was waited for").0;
    memtrace.stop();
    println!("{kill}");
    container.ended();
    assert_eq!((&kill["before_attach"], &kill["memory"]["limit"]), (&false.into(), &LIMIT.into()));
    assert_eq!(kill["limit_cgroup"], kill["container"]["cgroup"], "it is gone by now, and known");
    assert_eq!(kill["limit_cgroup"]["path"], container.cgroup.path);
    container.is(&kill).expect("the container is named");
    kmsg::agrees(&kill, &container.cgroup.path);
    let cause = kill["cause"].as_str().expect("a sentence");
    let who = format!("anonymous memory, of which workload[{pid}] held");
    assert!(cause.contains(&who) && !cause.contains("dirty"), "{cause}");
    let told = diagnosing.join().expect("it does nothing but wait");
    let findings = list(&told["findings"]);
    let of_it = |finding: &&Value| finding["container"]["id"] == container.id.as_str();
    let kinds: Vec<&Value> = findings.iter().filter(of_it).map(|finding| &finding["kind"]).collect();
    assert_eq!(kinds, ["oom-kill"], "{findings:#?}");
    assert!(findings.iter().all(|finding| finding["kind"] != "dirty-page-pressure"), "{findings:#?}");
}

/// cgroup v2 waits for no disk: where write-back knows no cgroups the writer is not slowed down by its own limit, and is
/// killed at it. The same is told before and at the kill, as one story.
#[test]
fn an_importer_is_killed_for_what_its_disk_does_not_take() {
    const TEST: &str = "an_importer_is_killed_for_what_its_disk_does_not_take";
    const LIMIT: u64 = 128 * MIB;
    const TARGET: &str = "/volume/disk.qcow2";
    if !in_vm() {
        return skip(TEST, "it needs a disk that the emulator slows");
    }
    if !hierarchy().v2 {
        return skip(TEST, "cgroup v1 has whoever asks for memory wait for the disk");
    }
    container::warm_up();
    let source = disk::file("source", 2 * LIMIT);
    let disk = EmulatedDisk::mount();
    let mut memtrace = Memtrace::spawn_as("oom", &mut memtrace::command(&["oom", "--json", "-i", "1"]));
    let begun = SystemTime::now();
    let mut diagnosing = memtrace::command(&["diagnose", "-d", "300", "--json"]);
    let diagnosing = diagnosing.stdout(Stdio::piped()).spawn().expect("memtrace can be started");
    for pid in [memtrace.pid(), diagnosing.id()] {
        bpf::wait_for_links(pid);
    }
    thread::sleep(Duration::from_secs(3));
    // A file of the target's size would be made at once, full of zeroes: this one grows.
    let words =
        ["convert", "-t", "writeback", "-r", "12M", "-f", "raw", "-O", "qcow2", "/source/file", TARGET];
    let source = source.parent().expect("it is in a directory");
    let libraries = ["/lib", "/lib64", "/usr/lib"].map(|dir| (Path::new(dir), dir));
    let libraries = libraries.into_iter().filter(|(dir, _)| dir.exists());
    let binds = [(source, "/source"), (&disk.mount, "/volume"), (Path::new("/bin"), "/programs")];
    let binds: Vec<(&Path, &str)> = binds.into_iter().chain(libraries).collect();
    let mut container = container::run(&Wanted {
        name: "importer",
        program: Some("/programs/qemu-img"),
        words: &words,
        binds: &binds,
        memory: Some(LIMIT),
        ..Wanted::default()
    });
    let path = container.cgroup.path.clone();
    // It goes wrong when so much of the limit waits for the disk.
    let cgroup = container.cgroup.clone();
    let goes_wrong = thread::spawn(move || {
        loop {
            if waiting(&cgroup) >= LIMIT / 4 {
                return Instant::now();
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    let kill = memtrace.until("the kill", |kill| kill.0["limit_cgroup"]["path"] == path.as_str()).pop();
    let kill = kill.expect("it was waited for").0;
    println!("{kill}");
    memtrace.stop();
    container.ended();
    kmsg::agrees(&kill, &path);
    assert_eq!((&kill["victim"]["comm"], &kill["memory"]["limit"]), (&"qemu-img".into(), &LIMIT.into()));
    assert_eq!(kill["before_attach"], false);
    container.is(&kill).expect("the container is named");
    let pid = number(&kill["victim"], "pid");
    let memory = &kill["memory"];
    let waiting = number(memory, "dirty") + number(memory, "writeback");
    assert!(waiting >= LIMIT / 2 && number(memory, "anon") < LIMIT / 4, "{memory}");
    let most = &kill["top_dirtiers"][0];
    assert_eq!((&most["pid"], &most["comm"]), (&pid.into(), &"qemu-img".into()), "{kill}");
    assert_eq!(most["path"], TARGET, "{kill}");
    let cause = kill["cause"].as_str().expect("a sentence");
    let what = format!("dirty page cache written by qemu-img[{pid}] to {TARGET}");
    assert!(cause.starts_with("limit 128 MiB: ") && cause.contains(&what), "{cause}");

    thread::sleep(Duration::from_secs(3));
    let went_wrong = goes_wrong.join().expect("it fills its limit before it is killed").elapsed();
    let pid_of = Pid::from_child(&diagnosing);
    kill_process(pid_of, Signal::TERM).expect("it is our child, not yet waited for");
    let told = diagnosing.wait_with_output().expect("it is our child");
    let report = Report::of(&told, begun);
    let of_it = |finding: &&Value| finding["container"]["id"] == container.id.as_str();
    let truth = json!({ "victim": pid, "writes_to": TARGET, "limit": LIMIT });
    let wanted = scene::Wanted { kind: "oom-kill", path: &path };
    report.is_since(went_wrong, "importer", &truth, &[wanted]);
    let findings = report.findings();
    println!("{}", serde_json::to_string_pretty(findings).expect("it was JSON"));
    let [finding] = &findings.iter().filter(of_it).collect::<Vec<_>>()[..] else {
        panic!("not one story of it, but {findings:#?}")
    };
    assert_eq!((&finding["kind"], &finding["severity"]), (&"dirty-page-pressure".into(), &"critical".into()));
    assert!(list(&finding["also"]).contains(&"oom-kill".into()), "{finding}");
    let evidence = &finding["evidence"];
    assert_eq!((&evidence["limit"], &evidence["oom_kills"]), (&LIMIT.into(), &0.into()), "before the kill");
    assert!(number(evidence, "dirty") + number(evidence, "writeback") >= LIMIT / 2, "{evidence}");
    let most = &evidence["top_dirtiers"][0];
    assert_eq!((&most["pid"], &most["path"]), (&pid.into(), &TARGET.into()), "{evidence}");
}
