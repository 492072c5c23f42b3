//! Streams of log lines of containers of every runtime: whose they are, what they are to the container, through whom
//! they flow and to whom. Containers are there before memtrace or come after it; each writes lines of known lengths.

use std::any::Any;

use crate::driver::{
    container::Wanted,
    containerd::containerd,
    cri::{BURSTABLE, Pod},
    crun,
    docker::docker,
    in_vm,
    known::Known,
    lines::{Job, Lines, Told, flows},
    podman::podman,
    skip,
};

/// A container, or a session in one, that writes when it is told to.
struct Speaker {
    known: Known,
    job: Job,
    role: &'static str,
    via: Vec<u32>,
    reader: u32,
    /// It ends with this.
    _runs: Box<dyn Any>,
}

impl Speaker {
    /// One that was just started with the words of `job`.
    fn new(
        known: &Known,
        mut job: Job,
        role: &'static str,
        way: impl FnOnce(&Known) -> (Vec<u32>, u32),
        runs: impl Any,
    ) -> Speaker {
        job.runs_in(known);
        let (via, reader) = way(known);
        Speaker { known: known.clone(), job, role, via, reader, _runs: Box::new(runs) }
    }

    /// What is wrong with what is told of its stream; `partial`: whether its first line may have been under way.
    fn wrong(&self, told: &Told, partial: bool) -> Option<String> {
        let truth = self.job.truth();
        let right = told.role(&self.known, self.role).and_then(|stream| {
            truth.is(stream)?;
            flows(stream, &self.via, self.reader)?;
            let right = partial || stream["first_line_partial"] == false;
            right.then_some(()).ok_or_else(|| format!("it began while memtrace watched: {stream}"))
        });
        let wrong = right.err();
        wrong.map(|why| format!("{} {:?} {}: {why}", self.known.runtime, self.known.name, self.role))
    }
}

fn contained(shape: &str) -> Job {
    Job::contained(&shape.split(' ').collect::<Vec<_>>())
}

/// docker's, with options of docker.
fn in_docker(name: &str, shape: &str, role: &'static str, options: &[&str]) -> Speaker {
    let job = contained(shape);
    let container = docker().run(&Wanted { name, words: &job.words(), ..Wanted::default() }, options);
    let known = container.clone();
    Speaker::new(&known, job, role, |known| (vec![known.shim()], docker().dockerd.pid()), container)
}

fn session(in_it: &Known, shape: &str) -> Speaker {
    let job = contained(shape);
    let session = docker().exec(in_it, &job.words());
    Speaker::new(in_it, job, "other", |known| (vec![known.shim()], docker().dockerd.pid()), session)
}

fn in_podman(name: &str, shape: &str) -> Speaker {
    let job = contained(shape);
    let container = podman().run(&Wanted { name, words: &job.words(), ..Wanted::default() }, None);
    let known = container.clone();
    Speaker::new(&known, job, "stdout", |known| (Vec::new(), podman().conmon(&known.id)), container)
}

fn in_pod(pod: &Pod<'static>, name: &str, shape: &str, role: &'static str) -> Speaker {
    let job = contained(shape);
    let container = pod.start(name, 0, &job.words());
    let known = container.known.clone();
    Speaker::new(&known, job, role, |known| (vec![known.shim()], containerd().pid()), container)
}

/// Of `ctr run`, whose client reads.
fn by_ctr(id: &str, shape: &str) -> Speaker {
    let job = contained(shape);
    let started = containerd().run("default", id, &job.words(), &[]);
    let (known, client) = (started.known.clone(), started.client());
    Speaker::new(&known, job, "stdout", |known| (vec![known.shim()], client), started)
}

/// Of a runtime without a daemon: whoever started it reads, from the container itself or, by runc, from runc.
fn bare(name: &str, shape: &str) -> Speaker {
    let job = contained(shape);
    let container = crun::run(&Wanted { name, words: &job.words(), ..Wanted::default() });
    let known = container.clone();
    let relays = if in_vm() { Vec::new() } else { vec![container.client()] };
    Speaker::new(&known, job, "stdout", |_| (relays, std::process::id()), container)
}

// Each takes four seconds, in which its readers are found wherever memtrace is attached.
const LONG: &str = "bimodal --rate 500k --total 2000k";
const SHORT: &str = "log-normal --rate 100k --total 400k";
const BLOCKS: &str = "blocks --length 64k --rate 500k --total 2000k";

#[test]
fn streams_of_every_runtime() {
    if in_vm() {
        return skip("streams_of_every_runtime", "the emulated machine has no daemons");
    }
    let pod = Pod::run(containerd(), "logs", BURSTABLE);
    let mut before = vec![
        in_docker("early", &format!("{BLOCKS} --before 3000"), "stdout", &[]),
        in_docker("early-tty", SHORT, "tty", &["--tty"]),
        in_podman("early", BLOCKS),
        in_pod(&pod, "early", BLOCKS, "stdout"),
        bare("early", LONG),
    ];
    before.push(session(&before[0].known, SHORT));
    let mut lines = Lines::start(&[]);
    let mut after = vec![
        in_docker("errors", &format!("{LONG} --stderr"), "stderr", &["--attach", "stdout"]),
        in_docker("tty", LONG, "tty", &["--tty"]),
        in_podman("late", SHORT),
        in_pod(&pod, "late", SHORT, "stdout"),
        in_pod(&pod, "errors", &format!("{LONG} --stderr"), "stderr"),
        by_ctr("late", BLOCKS),
        bare("late", BLOCKS),
    ];
    after.push(session(&after[0].known, LONG));
    let all = || before.iter().chain(&after);
    all().for_each(|speaker| speaker.job.go());
    all().for_each(|speaker| drop(speaker.job.truth()));
    let told = lines.told();
    assert_eq!(lines.stop().errors, "");
    let mut wrong: Vec<String> = before.iter().filter_map(|speaker| speaker.wrong(&told, true)).collect();
    wrong.extend(after.iter().filter_map(|speaker| speaker.wrong(&told, false)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let midline = told.role(&before[0].known, "stdout").expect("it was there");
    assert_eq!(midline["first_line_partial"], true, "{midline}");
}

/// Where there is no daemon, the reader is whoever started the runtime.
#[test]
fn streams_without_a_daemon() {
    let early = bare("early", SHORT);
    let mut lines = Lines::start(&[]);
    let late = bare("late", BLOCKS);
    for speaker in [&early, &late] {
        speaker.job.go();
    }
    for speaker in [&early, &late] {
        speaker.job.truth();
    }
    let told = lines.told();
    assert_eq!(lines.stop().errors, "");
    let wrong = [early.wrong(&told, true), late.wrong(&told, false)];
    assert_eq!(wrong, [None, None]);
}

/// What commands of a container pipe to each other, and what a runtime's own processes say before they become the
/// container, is nobody's log.
#[test]
fn what_stays_inside_is_no_stream() {
    if in_vm() {
        return skip("what_stays_inside_is_no_stream", "the emulated machine has no docker");
    }
    let container = docker().run(&Wanted { name: "inside", words: &["idle"], ..Wanted::default() }, &[]);
    container.done();
    let mut lines = Lines::start(&[]);
    let script = "left=20; while [ $left -gt 0 ]; do \
                  /bin/workload lines log-normal --writes 50 2>&1 | /bin/busybox cat >/dev/null; \
                  left=$((left - 1)); done";
    docker().ask(&["exec", &container.id, "sh", "-c", script]);
    let told = lines.told();
    lines.stop();
    assert!(told.of(&container.cgroup).is_empty(), "{:?}", told.of(&container.cgroup));
}
