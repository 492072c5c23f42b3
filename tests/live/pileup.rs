//! The incident: an exporter that measures with `du` at each request and is asked faster than it can answer. Asked slowly, the
//! same server is well. What is in flight is told by the server itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made},
    container::{self, Container, Wanted},
    doctor, in_vm,
    interval::Interval,
    matrix,
    memtrace::Memtrace,
    moment, output,
    scene::{self, During},
    scratch, wait_for,
    workload::{self, Workload},
};

const TREE: &str = "/tree";
const BUFFER: u64 = 2 * MIB;

/// So many empty files, for `du` to look at.
fn tree(files: usize) -> PathBuf {
    const IN_ONE: usize = 500;
    let root = scratch::dir("tree");
    for at in 0..files.div_ceil(IN_ONE) {
        let dir = root.join(at.to_string());
        fs::create_dir(&dir).expect("the run's directory can be written");
        for file in 0..IN_ONE.min(files - at * IN_ONE) {
            fs::File::create(dir.join(file.to_string())).expect("the run's directory can be written");
        }
    }
    root
}

/// Files to look at for each answer, and answers asked for in a second: several times what it can give. A guest has enough to
/// do with half of them.
fn load() -> (usize, &'static str) {
    (40_000, if in_vm() { "2" } else { "4" })
}

/// An exporter with a fifth of a CPU; in a guest, whose are so slow that it would hardly accept anybody beside its own
/// children, with more, and before them.
fn exporter(name: &str, tree: &Path) -> Container {
    let nice = if in_vm() { "10" } else { "0" };
    let words = ["serve", "--buffer", "2M", "--nice", nice, "--", "/bin/du", "-s", TREE];
    let binds = [(tree, TREE)];
    // A guest is slow: it would take long to fill more.
    let memory = (if in_vm() { 256 } else { 1024 }) * MIB;
    let wanted = Wanted {
        name,
        words: &words,
        binds: &binds,
        cpus: Some(if in_vm() { 0.3 } else { 0.2 }),
        memory: Some(memory),
        ..Wanted::default()
    };
    let server = container::run(&wanted);
    server.done();
    server
}

/// Who asks, in another cgroup; ends with the value.
struct Asking(Child);

impl Asking {
    fn start(cgroup: &Cgroup, server: u32, rate: &str) -> Asking {
        let mut command = Command::new(workload::binary());
        command.arg("--with-parent").arg("--cgroup").arg(cgroup.dir());
        command.args(["scrape", "--rate", rate, "--net", &format!("/proc/{server}/ns/net")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the workload can be started");
        workload::done(&output::lines(child.stdout.take().expect("its output is a pipe")));
        Asking(child)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the server says of itself: at each change.
fn truths(said: &Receiver<String>) -> Vec<Value> {
    said.try_iter().filter_map(|line| serde_json::from_str(&line).ok()).collect()
}

/// Within one of what it was at some moment from `from` to `to`, seconds since boot.
fn near(told: f64, truths: &[Value], from: f64, to: f64, of: impl Fn(&Value) -> f64) -> bool {
    let at = |truth: &Value| truth["at_s"].as_f64().expect("it has a time");
    let before = truths.iter().rev().find(|truth| at(truth) < from);
    let within = truths.iter().filter(|truth| (from..=to).contains(&at(truth)));
    within.chain(before).any(|truth| (told - of(truth)).abs() <= 1.0)
}

fn boot() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// Seconds since boot of a moment.
fn since_boot(at: SystemTime) -> f64 {
    boot() - moment::since(at, SystemTime::now())
}

/// Of this row, above `info`.
fn serious<'a>(told: &'a Value, server: &Container) -> Vec<&'a Value> {
    let findings = told["findings"].as_array().expect("a list");
    let own = |finding: &&Value| {
        finding["container"]["cgroup"]["path"] == server.cgroup.path && finding["severity"] != "info"
    };
    findings.iter().filter(own).collect()
}

/// The exporter, and who asks it: under way for some time when memtrace comes.
struct Incident {
    asking: Asking,
    _elsewhere: Made,
    server: Container,
}

impl Incident {
    fn start() -> Incident {
        let (files, rate) = load();
        let server = exporter("exporter", &tree(files));
        let elsewhere = Made::top("prometheus");
        let asking = Asking::start(&elsewhere, server.process(), rate);
        thread::sleep(Duration::from_secs(if in_vm() { 8 } else { 3 }));
        Incident { asking, _elsewhere: elsewhere, server }
    }
}

/// Beside others.
pub fn going(during: During<'_>) -> Result<(), String> {
    let incident = Incident::start();
    during(vec![("request-pileup", incident.server.cgroup.path.clone())]);
    Ok(())
}

#[test]
fn an_exporter_that_is_asked_faster_than_it_answers() {
    let Incident { server, _elsewhere, asking } = Incident::start();
    let report = scene::diagnose(if in_vm() { "40" } else { "10" });
    let told = &report.told;
    let [begun, ended] = ["started", "ts"].map(|key| since_boot(moment::of(&told[key])));
    // Emulated, memtrace loads programs for seconds between its look and the end.
    let (look, lag) = if in_vm() { (15.0, 5.0) } else { (1.5, 1.5) };
    // Throttled, the server says some time after it has accepted that it has.
    thread::sleep(Duration::from_secs_f64(lag));
    let truths = truths(server.said());
    drop(asking);
    let last = truths.last();
    let truth = json!({ "container": server.cgroup.path, "requests_per_s": load().1, "at_the_end": last });
    let wanted = scene::Wanted { kind: "request-pileup", path: &server.cgroup.path };
    report.is("pileup", &truth, &[wanted]);
    let serious = serious(told, &server);
    let [finding] = serious[..] else { panic!("not one finding, but {serious:#?} in {told:#}") };
    println!("{finding:#}");
    assert_eq!(finding["kind"], "request-pileup");
    server.is(finding).unwrap_or_else(|why| panic!("{why}"));
    let evidence = &finding["evidence"];
    let number = |key: &str| evidence[key].as_f64().unwrap_or_else(|| panic!("no {key}: {evidence}"));
    let count = |key: &'static str| move |truth: &Value| truth[key].as_f64().expect("it is told");
    // A moment is between a look and the time that stands beside it, longer on a busy machine.
    let in_flight = number("in_flight");
    assert!(
        near(in_flight, &truths, ended - look, ended + lag, count("in_flight")),
        "{in_flight} at {ended} of {truths:?}"
    );
    let first = in_flight - number("in_flight_growth");
    assert!(
        near(first, &truths, begun - look, begun + lag, count("in_flight")),
        "{first} at {begun} of {truths:?}"
    );
    assert!(number("in_flight_growth") >= 3.0, "{evidence}");
    assert!(number("arrivals_per_s") > number("completions_per_s"), "{evidence}");
    // Each that is accepted holds its buffer.
    let per_request = number("anon_growth_per_s") * (ended - begun) / number("in_flight_growth");
    assert!((0.7..2.0).contains(&(per_request / BUFFER as f64)), "{per_request} bytes each: {evidence}");
    assert_eq!(evidence["peers"][0]["addr"], "127.0.0.1");
    assert_eq!(evidence["peers"][0]["count"], evidence["in_flight"]);
    let child = &evidence["slow_child"];
    assert_eq!(child["comm"], "du", "{evidence}");
    let running = child["running"].as_f64().expect("they are counted");
    // Throttled, it starts them some time after it has accepted; emulated, some seconds.
    let started = if in_vm() { 0.5 } else { 0.7 };
    assert!((in_flight * started..=in_flight).contains(&running), "{running} at work for {in_flight}");
    let [p50, max] = ["p50_s", "max_s"].map(|key| child[key].as_f64().expect("it is known"));
    assert!(p50 > 0.0 && max >= p50 && max < ended, "{child}");
    let calls: Vec<&str> = evidence["top_syscalls"]
        .as_array()
        .expect("they were counted")
        .iter()
        .filter_map(|call| call["name"].as_str())
        .collect();
    // Of the smaller tree a guest reads a few directories only.
    assert!(in_vm() || calls.contains(&"getdents64"), "{calls:?} in {told:#}");
    assert!(calls.iter().any(|call| call.ends_with("stat") || call.ends_with("fstatat")), "{calls:?}");
    if !in_vm() {
        assert!(number("throttled_share") > 0.5, "{evidence}");
    }
    let advice = finding["advice"].to_string();
    assert!(advice.contains("`du`") && advice.contains("interval"), "{advice}");
    drop(server);
}

#[test]
fn the_same_server_asked_slowly_is_well() {
    let tree = tree(1_000);
    let server = exporter("calm-exporter", &tree);
    let elsewhere = Made::top("calm-prometheus");
    let rate = if in_vm() { "0.2" } else { "1" };
    let asking = Asking::start(&elsewhere, server.process(), rate);
    let told = scene::diagnose("8").told;
    let truths = truths(server.said());
    drop(asking);
    let serious = serious(&told, &server);
    assert!(serious.is_empty(), "{serious:#?}");
    assert!(truths.iter().any(|truth| truth["completed"].as_u64() > Some(0)), "it answers: {truths:?}");
}

/// Whichever way the probe is attached: every connection counts once, for whom it comes to.
#[test]
fn arrivals_and_completions_are_counted() {
    const COUNT: u64 = 40;
    let program = workload::binary();
    let alternatives = doctor::usable("arrivals");
    assert!(!alternatives.is_empty(), "nothing serves the probe");
    matrix::each(&alternatives, |alternative| {
        let mut memtrace = Memtrace::top(&["-i", "0.5", "--attach", &alternative.word()]);
        let place = Made::top("served");
        let port = port();
        // Each answer takes a moment, so that some are in flight at once.
        let words =
            ["serve", "--port", &port, "--buffer", "64k", "--", program.to_str().expect("a plain name")];
        let server = Workload::start(&place, &[&words[..], &["idle", "--hold", "0.3"]].concat());
        server.done();
        let mut ask = Command::new(workload::binary());
        let total = COUNT.to_string();
        let asked = output::of(ask.args(["scrape", "--port", &port, "--rate", "20", "--total", &total]));
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let flight = |interval: &Interval| interval.row(&place).map(|row| row["flight"].clone());
        let mut before = None;
        let seen = memtrace.until("all of them to be over", |interval| {
            let now = flight(interval);
            if now != before {
                println!("  {now:?}");
                before.clone_from(&now);
            }
            now.is_some_and(|flight| {
                // What ended is counted a moment before what is there is looked at.
                let ended = |child: &Value| child["ended"] == COUNT;
                flight["arrivals"] == COUNT
                    && flight["connections"] == 0
                    && flight["queued"] == 0
                    && flight["children"].as_array().is_some_and(|children| children.iter().any(ended))
            })
        });
        let over = flight(seen.last().expect("one was waited for")).expect("it was there");
        println!("  {}: {over}", alternative.word());
        assert_eq!(over["completions"], COUNT);
        assert_eq!(over["connections_growth"], 0);
        let most = seen.iter().filter_map(|interval| flight(interval)?["connections"].as_u64()).max();
        println!("  at most {most:?} at once");
        let child = over["children"].as_array().expect("a list").iter().find(|child| child["ended"] == COUNT);
        let child = child.expect("it was waited for");
        assert_eq!(child["comm"], "workload");
        let p50 = child["p50_s"].as_f64().expect("they ended");
        assert!(p50 >= 0.3 && child["max_s"].as_f64() >= Some(p50), "{child}");
        if !in_vm() {
            assert!(p50 < 1.0, "{child}");
        }
        memtrace.stop();
    });
}

/// One that is free.
fn port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is one");
    listener.local_addr().expect("it has one").port().to_string()
}

/// Connections that were there before memtrace, and a peer that tears its own down: the descriptor is still open.
#[test]
fn what_was_in_flight_before_and_what_the_peer_left() {
    let place = Made::top("before");
    let port = port();
    let program = workload::binary();
    let words = [
        "serve",
        "--port",
        &port,
        "--",
        program.to_str().expect("a plain name"),
        "idle",
        "--hold",
        "forever",
    ];
    let server = Workload::start(&place, &words);
    server.done();
    let children = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs").flatten();
        let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
        tasks.map(|task| of(task).split_whitespace().count()).sum::<usize>()
    };
    let ask = || {
        let before = children();
        let mut child = Command::new(workload::binary())
            .args(["--with-parent", "scrape", "--port", &port, "--rate", "50", "--total", "5"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the workload can be started");
        // It has taken all five in, and their requests: one whose request never comes is over.
        wait_for("the five to be at work", || (children() == before + 5).then_some(()));
        move || {
            let _ = child.kill();
            let _ = child.wait();
        }
    };
    ask()();
    let mut later = ask();
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let connections = |interval: &Interval| interval.row(&place)?["flight"]["connections"].as_u64();
    let first = memtrace.until("a look", |interval| connections(interval).is_some()).pop();
    assert_eq!(first.as_ref().and_then(connections), Some(10));
    later();
    let _more = ask();
    let last = memtrace.until("the next five", |interval| connections(interval) != Some(10)).pop();
    let last = last.expect("it was waited for");
    let row = last.row(&place).expect("it is there");
    assert_eq!(row["flight"]["connections"], 15, "{row}");
    assert_eq!(row["flight"]["connections_growth"], 5, "{row}");
    memtrace.stop();
}
