//! Containers that cannot be stopped: a task hangs on a frozen file system or on a server that does not answer, SIGKILL
//! stays pending, whoever wants it gone tries again, and the daemon keeps something of each try. Signals are counted exactly,
//! in whichever way the probe is attached.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{
    bpf,
    cgroup::Made,
    container::{Container, Wanted},
    docker::{Binaries, Docker},
    doctor,
    hung::{Frozen, Silent},
    in_vm,
    known::Known,
    lines::comm,
    matrix, memtrace, output, patience, skip, wait_for,
};

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("it has a number");
    kill_process(pid, Signal::KILL).expect("it is there, since it cannot die");
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A shell in a cgroup that hangs on the frozen file system.
struct Hanging {
    frozen: Frozen,
    child: Child,
    cgroup: Made,
}

impl Hanging {
    fn start() -> Result<Hanging, String> {
        let frozen = Frozen::new()?;
        let cgroup = Made::top("hanging");
        frozen.freeze();
        let script = format!(
            "echo $$ > {}/cgroup.procs; echo x > {}/file",
            cgroup.dir().display(),
            frozen.mount().display()
        );
        let child = Command::new("sh").args(["-c", &script]).spawn().expect("there is a shell");
        let hanging = Hanging { frozen, child, cgroup };
        wait_for("the shell to hang", || (state(hanging.child.id()) == Some('D')).then_some(()));
        Ok(hanging)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.frozen.thaw();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Findings of that kind in what `diagnose --json` printed.
fn stuck(told: &Value) -> Vec<Value> {
    let all = told["findings"].as_array().cloned().expect("a list");
    all.into_iter().filter(|finding| finding["kind"] == "unkillable-task").collect()
}

fn diagnose(words: &[&str]) -> Value {
    let mut command = memtrace::command(&["diagnose", "--json", "-i", "0.5"]);
    finished(
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started"),
    )
}

fn finished(memtrace: Child) -> Value {
    let output = memtrace.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object is printed")
}

/// Seconds since the epoch, from RFC 3339 in UTC, within a day: all that is compared is of the same run.
fn of_day(text: &str) -> f64 {
    let time = text.split_once('T').expect("date and time").1.trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

fn now_of_day() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    now.as_secs_f64() % 86_400.0
}

const OWN: u64 = 7;
const BY_SHELLS: u64 = 3;

/// Runs `diagnose` with the probe attached so, and sends so many SIGKILLs while it is surely attached; what it told.
fn counted(hanging: &Hanging, attach: &str) -> Value {
    let pid = hanging.child.id();
    let (seconds, settle) = if in_vm() { ("60", 20) } else { ("8", 2) };
    for _ in 0..3 {
        let mut command = memtrace::command(&["diagnose", "--json", "-i", "0.5", "-d", seconds]);
        let memtrace = command.args(["--attach", attach]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let memtrace = memtrace.spawn().expect("memtrace can be started");
        let dir = format!("/proc/{}", memtrace.id());
        wait_for("its programs to be loaded", || {
            bpf::held_by(dir.as_ref()).iter().any(|(kind, _)| *kind == "prog").then_some(())
        });
        thread::sleep(Duration::from_secs(settle));
        let began = now_of_day();
        for _ in 0..OWN {
            kill(pid);
            thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..BY_SHELLS {
            let done = output::of(Command::new("sh").args(["-c", &format!("kill -9 {pid}; :")]));
            assert!(done.status.success());
        }
        let told = finished(memtrace);
        // A machine that was so busy that it attached later tells nothing of the count.
        if of_day(told["started"].as_str().expect("a time")) < began {
            return told;
        }
    }
    panic!("three times it was not attached in time");
}

#[test]
fn every_alternative_counts_every_kill() {
    let alternatives = doctor::usable("signal");
    let hanging = match Hanging::start() {
        Ok(hanging) => hanging,
        Err(reason) => return skip("every_alternative_counts_every_kill", &reason),
    };
    // The one that was delivered; all others are ignored.
    kill(hanging.child.id());
    matrix::each(&alternatives, |alternative| {
        let told = counted(&hanging, &alternative.word());
        let found = stuck(&told);
        let of = |finding: &&Value| finding["container"]["cgroup"]["path"] == hanging.cgroup.path;
        let finding = found.iter().find(of).unwrap_or_else(|| panic!("it is not found: {found:#?}"));
        let evidence = &finding["evidence"];
        let task = &evidence["tasks"][0];
        println!("  {}: {} {}", alternative.word(), finding["summary"], task["killers"]);
        let own = std::process::id();
        assert_eq!(evidence["kill_attempts"], OWN + BY_SHELLS, "{task}");
        assert_eq!(
            (&task["pid"], &task["state"], &task["sigkill_pending"]),
            (&json!(hanging.child.id()), &json!("D"), &json!(true))
        );
        let killers = json!([
            {"pid": own, "comm": comm(own), "count": OWN, "via": []},
            {"pid": own, "comm": comm(own), "count": BY_SHELLS, "via": ["sh"]},
        ]);
        assert_eq!(task["killers"], killers);
        assert_eq!(finding["severity"], "critical");
        assert!(finding["daemon"].is_null(), "nobody serves it");
    });
}

/// The incident's file systems, containers and docker. What hangs is let go before the containers are asked to end.
struct Incident {
    writer: Container,
    reader: Container,
    docker: Docker,
    frozen: Frozen,
    silent: Silent,
}

impl Incident {
    fn start() -> Result<Incident, String> {
        let (frozen, silent) = (Frozen::new()?, Silent::new());
        let docker = Docker::start("unkillable", Binaries::renamed());
        let shell = |name, script, binds| Wanted {
            name,
            program: Some("/bin/sh"),
            words: script,
            binds,
            ..Wanted::default()
        };
        let script = ["-c", "while :; do echo x > /data/file; /bin/busybox sleep 0.05; done"];
        let binds = [(frozen.mount(), "/data")];
        let writer = docker.run(&shell("writer", &script, &binds), &[]);
        let script = ["-c", "while :; do read -r x < /export; /bin/busybox sleep 0.05; done"];
        let binds = [(silent.file.as_path(), "/export")];
        let reader = docker.run(&shell("reader", &script, &binds), &[]);
        let incident = Incident { writer, reader, docker, frozen, silent };
        for container in [&incident.writer, &incident.reader] {
            wait_for("the container to run", || {
                fs::read_to_string(container.cgroup.dir().join("cgroup.procs"))
                    .is_ok_and(|procs| !procs.is_empty())
                    .then_some(())
            });
        }
        thread::sleep(Duration::from_millis(500));
        incident.frozen.freeze();
        incident.silent.stop();
        let waits = |pid: u32, place: &str| {
            fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|wchan| wchan.contains(place))
        };
        wait_for("the writer to hang", || (state(incident.writer.process()) == Some('D')).then_some(()));
        wait_for("the reader to hang", || {
            waits(incident.reader.process(), "request_wait_answer").then_some(())
        });
        Ok(incident)
    }

    fn dockerd(&self) -> u32 {
        self.docker.dockerd.pid()
    }

    /// While it is done, both are asked to end again and again, as an impatient caller does; how often they were asked.
    fn with_retries<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let over = AtomicBool::new(false);
        let client = self.docker.client();
        let (stop, writer, reader) = (&over, &self.writer.id, &self.reader.id);
        thread::scope(|scope| {
            let retries = scope.spawn(move || {
                let mut clients: Vec<Child> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    for words in [["stop", "-t", "1", writer].as_slice(), &["kill", reader]] {
                        let mut command = client.command();
                        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                        clients.push(command.spawn().expect("docker's client can be started"));
                    }
                    thread::sleep(Duration::from_millis(700));
                }
                let count = clients.len() as u64;
                for mut client in clients {
                    let _ = client.kill();
                    let _ = client.wait();
                }
                count
            });
            // Also where it panics, or the other thread would go on.
            let done = matrix::caught(work);
            over.store(true, Ordering::Relaxed);
            let count = retries.join().expect("clients can be started");
            (done.unwrap_or_else(|why| panic!("{why}")), count)
        })
    }

    fn found(&self, told: &Value) -> [Value; 2] {
        let found = stuck(told);
        [&self.writer, &self.reader].map(|container| {
            let of = |finding: &&Value| finding["container"]["id"] == container.id.as_str();
            let finding = found.iter().find(of).unwrap_or_else(|| panic!("not found: {found:#?}"));
            container.is(finding).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(finding["severity"], "critical");
            let task = &finding["evidence"]["tasks"][0];
            assert_eq!(task["pid"], container.process());
            assert_eq!((&task["state"], &task["sigkill_pending"]), (&json!("D"), &json!(true)), "{task}");
            finding.clone()
        })
    }
}

impl Drop for Incident {
    fn drop(&mut self) {
        self.frozen.thaw();
        self.silent.go_on();
        let dockerd = Pid::from_raw(self.dockerd() as i32).expect("it has a number");
        let _ = kill_process(dockerd, Signal::CONT);
    }
}

fn descriptors(pid: u32) -> i64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as i64)
}

fn has_gone(known: &Known) -> bool {
    !known.cgroup.dir().exists()
}

#[test]
fn a_container_that_cannot_be_stopped_is_found_with_the_daemon_that_leaks() {
    const TEST: &str = "a_container_that_cannot_be_stopped_is_found_with_the_daemon_that_leaks";
    if in_vm() {
        return skip(TEST, "there is no docker");
    }
    let incident = match Incident::start() {
        Ok(incident) => incident,
        Err(reason) => return skip(TEST, &reason),
    };
    let dockerd = incident.dockerd();
    let before = descriptors(dockerd);
    let ((told, grown), asked) = incident.with_retries(|| {
        // Both have been told to end by then.
        thread::sleep(Duration::from_secs(2));
        let told = diagnose(&["-d", "10"]);
        (told, descriptors(dockerd) - before)
    });
    println!("asked {asked} times, {} grew by {grown} descriptors", comm(dockerd));
    for (finding, container) in incident.found(&told).iter().zip([&incident.writer, &incident.reader]) {
        println!("{finding:#}");
        let evidence = &finding["evidence"];
        let number = |key: &str| evidence[key].as_i64().unwrap_or_else(|| panic!("no {key}: {evidence}"));
        // Its name says nothing: it is called otherwise here.
        assert_eq!(finding["daemon"], json!({"pid": dockerd, "comm": "harbour"}));
        assert!(number("kill_attempts") >= 1, "{evidence}");
        let shim = container.shim();
        assert_eq!(evidence["shims"][0]["pid"], shim);
        let killers = evidence["tasks"][0]["killers"].as_array().expect("a list");
        let by = |pid: u32| killers.iter().any(|killer| killer["pid"] == pid);
        assert!(by(shim) || by(dockerd), "{killers:?}");
        let via = |killer: &Value| killer["via"].as_array().is_some_and(|via| via.contains(&json!("hoist")));
        assert!(killers.iter().filter(|killer| killer["pid"] == shim).all(via), "{killers:?}");
        let growth = number("daemon_fd_growth");
        assert!(growth > 0 && growth <= grown + 2, "it grew by {grown}: {evidence}");
        assert!(number("daemon_fds") >= before && number("daemon_threads") > 0, "{evidence}");
        let clients = evidence["clients"].as_array().expect("a list");
        let docker = clients.iter().filter(|client| client["comm"] == "docker");
        let open: i64 = docker.filter_map(|client| client["open"].as_i64()).sum();
        assert!(open > 1 && open <= asked as i64 + 4, "{clients:?}");
    }
    assert!(stuck(&told).len() == 2, "one story is one finding: {told:#}");

    // Its socket hangs, too: names come from disk, and the tasks are what they were.
    let stopped = Pid::from_raw(dockerd as i32).expect("it has a number");
    kill_process(stopped, Signal::STOP).expect("it is our child");
    let start = Instant::now();
    let told = diagnose(&["-d", "6"]);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    incident.found(&told);
    kill_process(stopped, Signal::CONT).expect("it is our child");

    // What they waited for is there again: they end, and so does the finding.
    incident.frozen.thaw();
    incident.silent.go_on();
    for container in [&incident.writer, &incident.reader] {
        let start = Instant::now();
        while !has_gone(container) && start.elapsed() < patience() {
            thread::sleep(Duration::from_millis(100));
        }
        assert!(has_gone(container), "{} is still there", container.cgroup.path);
    }
    let told = diagnose(&["-d", "3"]);
    assert!(stuck(&told).is_empty(), "{told:#}");
}
