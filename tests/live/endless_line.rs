//! The incident: a container that never ends its line, and a containerd that waits for the end of it. Its pods are
//! small, its daemon grows. A containerd that cuts lines does not, and then nothing is wrong.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::driver::{
    MIB,
    containerd::{self, Containerd, Settings},
    cri::{BURSTABLE, Container, Pod},
    disk,
    image::ran,
    in_vm,
    known::Known,
    lines::{Job, comm},
    scene::{self, During},
    scratch, skip,
};

/// Enough for the time before memtrace and the time it looks; the machine holds this several times.
fn most() -> &'static str {
    if in_vm() { "500M" } else { "1500M" }
}

/// In kB a second. A guest gets so little of it that what is measured does not take all of its processor.
fn rate(here: u32) -> String {
    format!("{}k", if in_vm() { here / 25 } else { here })
}

/// Pods that log as pods do.
struct Innocent<'a> {
    // Fields go in this order: a container before its pod.
    _container: Container<'a>,
    pod: Pod<'a>,
}

impl<'a> Innocent<'a> {
    fn start(containerd: &'a Containerd, at: usize) -> Innocent<'a> {
        let pod = Pod::run(containerd, &format!("innocent-{at}"), BURSTABLE);
        let shape = ["log-normal", "fixed", "bimodal", "blocks", "bytes"][at % 5];
        let words = ["lines", shape, "--rate", &rate(100), "--truth", "/scratch/truth"];
        let _container = pod.start("web", 0, &words);
        Innocent { _container, pod }
    }
}

/// A container that writes and writes, since some time.
struct Endless<'a> {
    _container: Container<'a>,
    _pod: Pod<'a>,
    known: Known,
}

impl<'a> Endless<'a> {
    fn start(containerd: &'a Containerd, here: u32) -> Endless<'a> {
        let words = ["endless", "--length", "64k", "--rate", &rate(here), "--total", most()];
        let mut job = Job::contained(&words);
        let pod = Pod::run(containerd, "endless", BURSTABLE);
        let container = pod.start("importer", 0, &job.words());
        job.runs_in(&container.known);
        job.go();
        let known = container.known.clone();
        Endless { _container: container, _pod: pod, known }
    }

    /// What it has written, by the kernel's word, and when.
    fn written(&self) -> (u64, Instant) {
        let io = fs::read_to_string(format!("/proc/{}/io", self.known.process())).expect("it runs");
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("it is counted");
        (written.parse().expect("it is a number"), Instant::now())
    }
}

fn anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Above `info`.
fn serious(findings: &[Value]) -> Vec<&Value> {
    findings.iter().filter(|finding| finding["severity"] != "info").collect()
}

/// Watches one that has been at it for some time. One finding, of this container and this daemon, with numbers that are
/// true.
fn found(endless: &Endless, daemon: u32, seconds: f64) {
    let (before, start) = endless.written();
    let held = anon(daemon);
    let report = scene::diagnose(&seconds.to_string());
    let (after, end) = endless.written();
    let (written, growth) = (after - before, anon(daemon).saturating_sub(held));
    let rate = written as f64 / (end - start).as_secs_f64();
    println!("{rate:.0} bytes a second, {written} written, the daemon grew by {growth}");
    let wanted = scene::Wanted { kind: "unterminated-line", path: &endless.known.cgroup.path };
    let truth = json!({ "container": endless.known.pod, "bytes_per_s": rate, "daemon": comm(daemon) });
    report.is("endless-line", &truth, &[wanted]);
    let serious = serious(report.findings());
    let [finding] = serious[..] else { panic!("not one finding, but {serious:#?}") };
    println!("{finding:#}");
    assert_eq!((&finding["id"].is_string(), &finding["kind"]), (&true, &"unterminated-line".into()));
    assert_eq!(finding["severity"], "critical", "{finding}");
    endless.known.is(finding).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(finding["daemon"], json!({"pid": daemon, "comm": comm(daemon)}));
    let evidence = &finding["evidence"];
    let number = |key: &str| evidence[key].as_f64().unwrap_or_else(|| panic!("no {key}: {evidence}"));
    assert_eq!(evidence["stream"], "stdout");
    // Emulated, nothing is done at a steady rate.
    let (within, least) = if in_vm() { (1.0, 0.5) } else { (0.05, 0.9) };
    assert!((number("bytes_per_s") / rate - 1.0).abs() < within, "{rate} bytes a second: {evidence}");
    // Seen is what was written since attach; before and after that memtrace starts and ends.
    let open = number("open_line_bytes");
    assert!(open > least * rate * seconds && open <= written as f64, "{written} were written: {evidence}");
    assert!(number("held_bytes") > open / 2.0, "{evidence}");
    assert!(number("daemon_growth") > number("held_bytes") / 2.0, "{evidence}");
    assert!(number("daemon_growth") <= growth as f64 * 1.1, "it grew by {growth}: {evidence}");
    let summary = finding["summary"].as_str().expect("a sentence");
    for word in [endless.known.pod.as_deref().expect("it has one"), &comm(daemon)] {
        assert!(summary.contains(word), "{summary}");
    }
    let advice = finding["advice"].to_string();
    assert!(advice.contains("max_container_log_line_size"), "{advice}");
}

/// Beside others.
pub fn going(during: During<'_>) -> Result<(), String> {
    if let Some(reason) = containerd::missing() {
        return Err(reason.to_owned());
    }
    let containerd =
        Containerd::start_with("endless", Settings { log_line: Some(-1), ..Settings::default() });
    let _innocent = Innocent::start(&containerd, 0);
    // Of a guest's processor the other incident needs its part.
    let endless = Endless::start(&containerd, if in_vm() { 10_000 } else { 30_000 });
    thread::sleep(Duration::from_secs(2));
    during(vec![("unterminated-line", endless.known.cgroup.path.clone())]);
    Ok(())
}

#[test]
fn an_endless_line_is_found() {
    if let Some(reason) = containerd::missing() {
        return skip("an_endless_line_is_found", reason);
    }
    disk::drop_caches();
    let containerd =
        Containerd::start_with("endless", Settings { log_line: Some(-1), ..Settings::default() });
    let innocent: Vec<Innocent> =
        (0..if in_vm() { 1 } else { 5 }).map(|at| Innocent::start(&containerd, at)).collect();
    let endless = Endless::start(&containerd, 50_000);
    thread::sleep(Duration::from_secs(10));
    found(&endless, containerd.pid(), if in_vm() { 30.0 } else { 10.0 });
    drop(endless);
    println!("{} pods beside it, such as {:?}", innocent.len(), innocent[0].pod.own.pod);
}

/// Neither the daemon's name nor its directory matters; and where lines are cut, the same is no incident.
#[test]
fn what_it_is_called_does_not_matter_and_cut_lines_are_none() {
    if let Some(reason) = containerd::missing() {
        return skip("what_it_is_called_does_not_matter_and_cut_lines_are_none", reason);
    }
    disk::drop_caches();
    let cuts = Containerd::start_with("cuts", Settings { log_line: Some(16384), ..Settings::default() });
    let _innocent = Innocent::start(&cuts, 0);
    let endless = Endless::start(&cuts, 20_000);
    thread::sleep(Duration::from_secs(3));
    let truth = json!({ "container": endless.known.pod, "max_container_log_line_size": 16384 });
    scene::diagnose(if in_vm() { "20" } else { "5" }).is("endless-line, cut", &truth, &[]);
    drop(endless);

    let program = scratch::dir("renamed").join("crane");
    let found_at = ran(std::process::Command::new("sh").args(["-c", "command -v containerd"]));
    fs::copy(found_at.trim(), &program).expect("the run's directory can be written");
    let crane = Containerd::start_with("yard", Settings { program, root: "cellar", log_line: Some(-1) });
    assert_eq!(comm(crane.pid()), "crane");
    let endless = Endless::start(&crane, 40_000);
    thread::sleep(Duration::from_secs(3));
    found(&endless, crane.pid(), if in_vm() { 20.0 } else { 5.0 });
    assert!(anon(crane.pid()) > if in_vm() { 20 } else { 100 } * MIB);
}
