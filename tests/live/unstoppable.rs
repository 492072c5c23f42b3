//! Docker containers that cannot be stopped: one hangs on a frozen file system, one on a FUSE server that does not answer, both
//! since before memtrace. Whoever wants them gone tries again and again, and the daemon keeps something of each try.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{
    container::{Container, Wanted},
    docker::{Binaries, Docker},
    hung::{Frozen, Silent, wait_until_hung},
    impatience, in_vm,
    known::Known,
    lines::comm,
    matrix, memtrace, patience,
    scene::{self, During, Report},
    skip, wait_for,
};
use crate::unstoppable_pod;

/// A second or so of memtrace's start, and what it takes to attach.
const SOON: &str = "10";

fn told(words: &[&str]) -> Value {
    let mut command = memtrace::command(words);
    let done = command.stdin(Stdio::null()).output().expect("memtrace can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).expect("it prints text");
    serde_json::from_str(text.lines().last().expect("it prints something")).expect("it prints JSON")
}

fn diagnose(seconds: &str) -> Report {
    scene::diagnose_with(&["-i", "0.5"], seconds)
}

/// The file systems, containers and docker. What hangs is let go before the containers are asked to end.
struct Incident {
    /// Since then they have hung, at the earliest.
    hung: Instant,
    release: Release,
    writer: Container,
    reader: Container,
    docker: Docker,
}

struct Release {
    frozen: Frozen,
    silent: Silent,
    dockerd: Option<u32>,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.frozen.thaw();
        self.silent.end();
        if let Some(pid) = self.dockerd.and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

impl Incident {
    fn start() -> Result<Incident, String> {
        let mut release = Release { frozen: Frozen::new()?, silent: Silent::new(), dockerd: None };
        let docker = Docker::start("unstoppable", Binaries::renamed());
        release.dockerd = Some(docker.dockerd.pid());
        let run = |name, program, words: &[&str], bind| {
            let wanted = Wanted { name, program: Some(program), words, binds: &[bind], ..Wanted::default() };
            docker.run(&wanted, &[])
        };
        let script = "while :; do echo x > /data/file; /bin/busybox sleep 0.05; done";
        let writer = run("writer", "/bin/sh", &["-c", script], (release.frozen.mount(), "/data"));
        let words = ["dd", "if=/export", "of=/dev/null", "iflag=direct", "bs=4096"];
        let reader = run("reader", "/bin/busybox", &words, (release.silent.file.as_path(), "/export"));
        let mut incident = Incident { hung: Instant::now(), release, writer, reader, docker };
        for container in [&incident.writer, &incident.reader] {
            wait_for("the container to run", || {
                let procs = fs::read_to_string(container.cgroup.dir().join("cgroup.procs"));
                procs.is_ok_and(|procs| !procs.is_empty()).then_some(())
            });
        }
        thread::sleep(Duration::from_millis(1500));
        incident.hung = Instant::now();
        incident.release.frozen.freeze();
        incident.release.silent.stop();
        for container in [&incident.writer, &incident.reader] {
            wait_until_hung(container.process());
        }
        Ok(incident)
    }

    fn dockerd(&self) -> u32 {
        self.docker.dockerd.pid()
    }

    /// While it is done, both are asked to end again and again, as an impatient caller does; how often they were asked.
    fn with_retries<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let client = self.docker.client();
        let (writer, reader) = (&self.writer.id, &self.reader.id);
        let ask = move || {
            [["stop", "-t", "1", writer].as_slice(), &["kill", reader]].map(|words| {
                let mut command: Command = client.command();
                command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().expect("docker's client can be started")
            })
        };
        impatience::during(Duration::from_millis(700), ask, work)
    }

    fn both(&self) -> [(&Container, &'static str); 2] {
        [(&self.writer, "frozen file system"), (&self.reader, "FUSE server of /export")]
    }

    fn found(&self, told: &Value) -> [Value; 2] {
        let found = memtrace::found(told, "unkillable-task");
        self.both().map(|(container, on)| {
            let of = |finding: &&Value| finding["container"]["id"] == container.id.as_str();
            let finding = found.iter().find(of).unwrap_or_else(|| panic!("not found: {told:#}"));
            container.is(finding).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(finding["severity"], "critical");
            let task = &finding["evidence"]["tasks"][0];
            is_told(task, container, on);
            // From before attach: what the kernel still tells, which is not more than the truth.
            let blocked = task["blocked_s"].as_f64().expect("a number");
            assert!(blocked > 5.0 && blocked < self.hung.elapsed().as_secs_f64(), "{task}");
            assert!(["inferred", "at_least"].map(Value::from).contains(&task["blocked_s_how"]), "{task}");
            finding.clone()
        })
    }
}

/// Beside others.
pub fn going(during: During<'_>) -> Result<(), String> {
    if in_vm() {
        return unstoppable_pod::going(during);
    }
    let incident = Incident::start()?;
    incident.with_retries(|| {
        thread::sleep(Duration::from_secs(3));
        during(incident.both().map(|(one, _)| ("unkillable-task", one.cgroup.path.clone())).to_vec());
    });
    Ok(())
}

fn is_told(task: &Value, container: &Container, on: &str) {
    assert_eq!(task["pid"], container.process(), "{task}");
    assert_eq!((&task["state"], &task["sigkill_pending"]), (&json!("D"), &json!(true)), "{task}");
    assert!(task["waits_on"].as_str().is_some_and(|phrase| phrase.contains(on)), "{task}");
    assert!(task["stack"].as_array().is_some_and(|stack| !stack.is_empty()), "{task}");
}

fn descriptors(pid: u32) -> i64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as i64)
}

fn has_gone(known: &Known) -> bool {
    !known.cgroup.dir().exists()
}

#[test]
fn containers_that_cannot_be_stopped_are_found_with_the_daemon_that_leaks() {
    const TEST: &str = "containers_that_cannot_be_stopped_are_found_with_the_daemon_that_leaks";
    if in_vm() {
        return skip(TEST, "the emulated machine has no docker");
    }
    let incident = match Incident::start() {
        Ok(incident) => incident,
        Err(reason) => return skip(TEST, &reason),
    };
    let dockerd = incident.dockerd();
    let before = descriptors(dockerd);
    let ((report, grown), asked) = incident.with_retries(|| {
        // Both have been told to end by then.
        thread::sleep(Duration::from_secs(3));
        let report = diagnose(SOON);
        (report, descriptors(dockerd) - before)
    });
    let wanted = incident
        .both()
        .map(|(container, _)| scene::Wanted { kind: "unkillable-task", path: &container.cgroup.path });
    let truth = json!({ "asked": asked, "daemon": comm(dockerd), "daemon_fd_growth": grown });
    report.is("cannot-be-stopped", &truth, &wanted);
    println!("asked {asked} times, {} grew by {grown} descriptors", comm(dockerd));
    for (finding, (container, _)) in incident.found(&report.told).iter().zip(incident.both()) {
        println!("{}", finding["summary"]);
        let evidence = &finding["evidence"];
        let number = |key: &str| evidence[key].as_i64().unwrap_or_else(|| panic!("no {key}: {evidence}"));
        // Its name says nothing: it is called otherwise here.
        assert_eq!(finding["daemon"], json!({"pid": dockerd, "comm": "harbour"}));
        assert!(number("kill_attempts") >= 1, "{evidence}");
        let shim = container.shim();
        assert_eq!(evidence["shims"][0]["pid"], shim);
        let killers = evidence["tasks"][0]["killers"].as_array().expect("a list");
        let sent: i64 = killers.iter().filter_map(|killer| killer["count"].as_i64()).sum();
        assert_eq!(sent, number("kill_attempts"), "{killers:?}");
        println!("  killers {}", evidence["tasks"][0]["killers"]);
        let of_them = |killer: &Value| killer["pid"] == shim || killer["pid"] == dockerd;
        assert!(killers.iter().all(of_them), "{killers:?}");
        let via = |killer: &Value| killer["via"].as_array().is_some_and(|via| via.contains(&json!("hoist")));
        assert!(killers.iter().filter(|killer| killer["pid"] == shim).all(via), "{killers:?}");
        let growth = number("daemon_fd_growth");
        println!("  daemon {growth:+} descriptors, clients {}", evidence["clients"]);
        assert!(growth > 0 && growth <= grown + 2, "it grew by {grown}: {evidence}");
        assert!(number("daemon_fds") >= before && number("daemon_threads") > 0, "{evidence}");
        let clients = evidence["clients"].as_array().expect("a list");
        let docker = clients.iter().filter(|client| client["comm"] == "docker");
        let open: i64 = docker.filter_map(|client| client["open"].as_i64()).sum();
        assert!(open > 1 && open <= asked as i64 + 4, "{clients:?}");
    }
    let ours = |finding: &&Value| finding["daemon"]["pid"] == dockerd;
    let kinds: Vec<Value> =
        report.findings().iter().filter(ours).map(|finding| finding["kind"].clone()).collect();
    assert_eq!(kinds, ["unkillable-task"; 2], "one story is one finding");

    // Their sockets hang, too: names come from disk, and the tasks are what they were.
    let stopped =
        [dockerd, incident.docker.containerd.pid()].map(|pid| Pid::from_raw(pid as i32).expect("one"));
    for pid in stopped {
        kill_process(pid, Signal::STOP).expect("it is our child");
    }
    let start = Instant::now();
    let caught = matrix::caught(|| {
        incident.found(&diagnose("6").told);
        let told = told(&["stuck", "--json", "-i", "0.5", "-d", "2"]);
        for (container, on) in incident.both() {
            let tasks = told["tasks"].as_array().expect("a list");
            let of = |task: &&Value| task["container"]["id"] == container.id.as_str();
            is_told(tasks.iter().find(of).unwrap_or_else(|| panic!("not there: {told:#}")), container, on);
        }
    });
    for pid in stopped {
        kill_process(pid, Signal::CONT).expect("it is our child");
    }
    caught.unwrap_or_else(|why| panic!("while the daemons stood still: {why}"));
    assert!(start.elapsed() < patience(), "{:?}", start.elapsed());

    // What they waited for is there again, or gone for good: they end, and so does the finding.
    incident.release.frozen.thaw();
    incident.release.silent.end();
    for container in [&incident.writer, &incident.reader] {
        let start = Instant::now();
        while !has_gone(container) && start.elapsed() < patience() {
            thread::sleep(Duration::from_millis(100));
        }
        assert!(has_gone(container), "{} is still there", container.cgroup.path);
    }
    let report = diagnose("3").told;
    let of = |finding: &Value| {
        incident.both().iter().any(|(one, _)| finding["container"]["id"] == one.id.as_str())
    };
    assert!(!memtrace::found(&report, "unkillable-task").iter().any(of), "{report:#}");
}
