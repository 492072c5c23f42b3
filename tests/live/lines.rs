//! Lengths of log lines: what a writer of known lines wrote is what memtrace tells, to the byte, whatever the lines, the
//! way in which they were written and the way in which memtrace is attached.

use std::{env, fs, process::Command, thread, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made},
    content, doctor,
    doctor::Alternative,
    in_vm,
    lines::{Job, Lines, Told, Writer, flows},
    matrix, memtrace, output, skip, wait_for, workload,
};

/// Name of a cgroup, words for its writer, and how often it writes.
type Scene = (&'static str, &'static str, u64);

const SCENES: &[Scene] = &[
    ("fixed", "fixed --length 80", 20_000),
    ("log-normal", "log-normal", 20_000),
    ("bimodal", "bimodal", 2_000),
    ("one-of-many", "pieces --length 100", 10_000),
    ("vectors", "blocks --length 50000 --by vectors", 100),
    ("blocks", "blocks --length 64k", 100),
    ("two-writers", "log-normal --processes 2", 5_000),
    ("newlines", "newlines --length 64k", 20),
    ("bytes", "bytes", 5_000),
    ("endless", "endless --length 64k --rate 50M", 100),
    ("to-stderr", "bimodal --stderr", 200),
    ("splice", "endless --length 48k --by splice", 40),
    ("tee", "endless --length 48k --by tee", 40),
    ("vmsplice", "endless --length 48k --by vmsplice", 40),
    ("sendfile", "endless --length 48k --by sendfile", 40),
    ("megabyte", "fixed --length 1000001", 8),
    ("mebibyte", "blocks --length 1M", 8),
    ("mebibyte-of-newlines", "newlines --length 1M", 4),
    ("partial", "blocks --length 900001 --by nonblocking", 8),
];

/// A writer in a cgroup of its own.
struct Wrote {
    // Fields go in this order, and a cgroup only without its process.
    writer: Writer,
    cgroup: Made,
}

fn words<'a>(scene: &'a Scene, writes: &'a str) -> Vec<&'a str> {
    scene.1.split(' ').chain(["--writes", writes]).collect()
}

fn start(top: &Made, scene: &Scene) -> Wrote {
    // Emulated, each takes its time; those of few writes test what a write may be.
    let writes = if in_vm() && scene.2 > 20 { scene.2 / 4 } else { scene.2 };
    let cgroup = top.child(scene.0);
    let writer = Writer::start(&cgroup, &words(scene, &writes.to_string()));
    Wrote { writer, cgroup }
}

#[test]
fn every_way_of_attaching_counts_exactly() {
    matrix::each(&ways(), counts_exactly);
}

fn ways() -> Vec<Alternative> {
    doctor::usable("log_write")
}

/// Without `bpf_loop`.
fn is_bounded(way: &Alternative) -> bool {
    way.target.ends_with(".bounded")
}

fn counts_exactly(way: &Alternative) {
    let mut lines = Lines::start(&["--attach", &way.word()]);
    // Emulated, a look takes so long that one is often interrupted by another; and return probes have room for one task a CPU.
    let together = match way.kind.as_str() {
        "kprobe" => 1,
        _ if in_vm() => 4,
        _ => SCENES.len(),
    };
    let mut wrong = Vec::new();
    for scenes in SCENES.chunks(together) {
        wrong.extend(played(way, &mut lines, scenes));
    }
    if !wrong.is_empty() && may_be_interrupted(way) {
        // What the kernel skipped meanwhile is counted as lost, within the five seconds in which that is read.
        let lost = lines.until("losses to be told", |told| told.lost() > 0).lost();
        println!("{}: {lost} lost on a kernel that preempts itself, and counted", way.word());
        wrong.clear();
    }
    lines.stop();
    assert!(wrong.is_empty(), "{}:\n{}", way.word(), wrong.join("\n"));
}

fn facts() -> Value {
    let facts = memtrace::run(&["doctor", "--facts"]);
    serde_json::from_slice(&facts.stdout).expect("facts are JSON")
}

fn preempts_itself(facts: &Value) -> bool {
    facts["preemptible"] == true
}

/// Whether the way's programs can be interrupted by each other, for which they have no copies: not at the entry and exit of
/// classic tracepoints and probes, nor, up to 7.0, of system calls.
fn may_be_interrupted(way: &Alternative) -> bool {
    let facts = facts();
    let new =
        |release: &str| release.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0) >= 7;
    preempts_itself(&facts)
        && match way.kind.as_str() {
            "fentry" => !way.target.ends_with(".copies"),
            "tp_btf" | "raw_tp" => new(facts["release"].as_str().expect("a release")),
            _ => is_bounded(way),
        }
}

/// What was told otherwise than it is.
fn played(way: &Alternative, lines: &mut Lines, scenes: &[Scene]) -> Vec<String> {
    let top = Made::top("lines");
    let wrote: Vec<Wrote> = scenes.iter().map(|scene| start(&top, scene)).collect();
    let truths: Vec<_> = wrote.iter().map(|wrote| wrote.writer.job.truth()).collect();
    let told = lines.told();
    let mut wrong = Vec::new();
    for ((Wrote { cgroup, .. }, truth), scene) in wrote.iter().zip(&truths).zip(scenes) {
        // A kernel that cannot send into a pipe.
        if truth.number("bytes") == 0 {
            continue;
        }
        let right = told.only(cgroup).and_then(|stream| {
            // Without atomic exchanges the longest of two lines that end at once may be forgotten.
            let apart = is_bounded(way) && scene.0 == "two-writers";
            if apart { truth.is_but_for_the_longest(stream) } else { truth.is(stream) }?;
            if stream["first_line_partial"] != false {
                return Err(format!("it began while memtrace watched: {stream}"));
            }
            // At the exit of system calls only the reads of known readers are looked at, and a return probe misses some:
            // whom a short stream had may be found too late.
            let unseen = way.kind != "fentry" && stream["reader"].is_null();
            if unseen { Ok(()) } else { flows(stream, &[], std::process::id()) }
        });
        wrong.extend(right.err().map(|why| format!("{}: {why}", cgroup.path)));
    }
    wrong
}

/// A socket is looked at only where it is the output of a row's first process.
const TO_SOCKETS: &[Scene] = &[
    ("socket-write", "log-normal", 2_000),
    ("socket-vectors", "blocks --length 50000 --by vectors", 50),
    ("socket-send", "bimodal --by send", 500),
    ("socket-message", "blocks --length 50000 --by sendmsg", 50),
];

#[test]
fn sockets_that_are_an_output() {
    let facts = facts();
    for way in &ways() {
        // A return probe has room for one task a CPU on some kernels, and a writer waits in a full socket. Of the program for
        // sockets there are no copies: where the kernel preempts itself, one look may be in the way of another.
        let alone = way.kind == "kprobe" || in_vm() && preempts_itself(&facts);
        let together = if alone { 1 } else { TO_SOCKETS.len() };
        TO_SOCKETS.chunks(together).for_each(|scenes| writes_to_sockets(way, scenes));
    }
}

fn writes_to_sockets(way: &Alternative, scenes: &[Scene]) {
    let top = Made::top("sockets");
    let begun = |scene: &Scene| {
        let cgroup = top.child(scene.0);
        let writes = if in_vm() { scene.2 / 4 } else { scene.2 };
        let job = Job::waiting(&words(scene, &writes.to_string()));
        Wrote { writer: Writer::by_socket(&cgroup, job), cgroup }
    };
    let wrote: Vec<Wrote> = scenes.iter().map(begun).collect();
    for Wrote { cgroup, .. } in &wrote {
        let procs = cgroup.dir().join("cgroup.procs");
        wait_for("a writer in its cgroup", || {
            fs::read_to_string(&procs).is_ok_and(|pids| !pids.is_empty()).then_some(())
        });
    }
    let mut lines = Lines::start(&["--attach", &way.word()]);
    // First processes are looked at when an interval ends, and their function is hooked then.
    lines.told();
    wrote.iter().for_each(|wrote| wrote.writer.job.go());
    let truths: Vec<_> = wrote.iter().map(|wrote| wrote.writer.job.truth()).collect();
    let told = lines.told();
    for (Wrote { cgroup, .. }, truth) in wrote.iter().zip(&truths) {
        let right = told.only(cgroup).and_then(|stream| {
            truth.is(stream)?;
            let stdout = stream["stream"] == "stdout";
            stdout.then_some(()).ok_or_else(|| format!("no stdout: {stream}"))
        });
        right.unwrap_or_else(|why| panic!("{}: {}: {why}", way.word(), cgroup.path));
    }
    lines.stop();
}

/// Where functions are hooked they are seen, elsewhere `doctor` says that they are not.
#[test]
fn writes_by_io_uring() {
    for way in &ways() {
        let top = Made::top("uring");
        let cgroup = top.child("uring");
        let mut lines = Lines::start(&["--attach", &way.word()]);
        let writer = Writer::start(&cgroup, &["log-normal", "--by", "uring", "--writes", "500"]);
        let truth = writer.job.truth();
        let told = lines.told();
        if matches!(way.kind.as_str(), "fentry" | "kprobe") {
            let right = told.only(&cgroup).and_then(|stream| truth.is(stream));
            right.unwrap_or_else(|why| panic!("{}: {why}", way.word()));
        } else {
            assert!(told.of(&cgroup).is_empty(), "{}: {:?}", way.word(), told.of(&cgroup));
        }
        lines.stop();
    }
    let report = doctor::report();
    let probes = report["probes"].as_array().expect("probes are a list");
    let probe = probes.iter().find(|probe| probe["name"] == "log_write").expect("it is listed");
    if !matches!(probe["chosen"].as_str(), Some("fentry" | "kprobe")) {
        let lost = probe["lost"].as_str().expect("it is said what is not seen");
        assert!(lost.contains("io_uring"), "{lost}");
    }
}

/// At 50 KiB a second it takes four, in which its reader is found wherever memtrace is attached.
const LASTING: &str = "200k";

#[test]
fn before_attach_and_afterwards() {
    let top = Made::top("before");
    let [midline, silent, handed, named, inner] =
        ["midline", "silent", "handed", "named", "inner"].map(|name| top.child(name));
    let known = [&midline, &silent, &handed, &named];
    let writers = [
        Writer::with(
            &midline,
            Job::waiting(&["log-normal", "--before", "5000", "--rate", "50k", "--total", LASTING]),
        ),
        Writer::with(&silent, Job::waiting(&["bimodal", "--rate", "50k", "--total", LASTING])),
        Writer::with(&handed, Job::waiting(&["blocks", "--child", "--rate", "50k", "--total", LASTING])),
        Writer::by_name(&named, Job::waiting(&["bytes", "--rate", "50k", "--total", LASTING])),
    ];
    // What the first one writes at once is in the pipe, or through.
    thread::sleep(Duration::from_millis(if in_vm() { 3000 } else { 300 }));
    let mut lines = Lines::start(&[]);
    writers.iter().for_each(|writer| writer.job.go());
    between_processes(&inner);
    let truths = writers.each_ref().map(|writer| writer.job.truth());
    let told = lines.told();
    let check = |told: &Told| {
        for (cgroup, truth) in known.iter().zip(&truths) {
            let stream = told.only(cgroup).unwrap_or_else(|why| panic!("{why}"));
            truth.is(stream).unwrap_or_else(|why| panic!("{}: {why}", cgroup.path));
            flows(stream, &[], std::process::id()).unwrap_or_else(|why| panic!("{}: {why}", cgroup.path));
        }
    };
    check(&told);
    let partial = |cgroup: &Cgroup| &told.only(cgroup).expect("it was there")["first_line_partial"];
    assert_eq!(partial(&midline), true);
    // What passes between processes of one container is no log.
    assert!(told.of(&inner).is_empty(), "{:?}", told.of(&inner));
    // It stays when nobody writes any more, and so does what was told of it.
    check(&lines.told());
    lines.stop();
}

/// One process of a cgroup writes lines to another.
fn between_processes(cgroup: &Made) {
    let script = format!(
        "echo $$ > {}/cgroup.procs; {} lines log-normal --writes 500 2>/dev/null | cat >/dev/null",
        cgroup.dir().display(),
        workload::binary().display()
    );
    let ended = output::of(Command::new("sh").args(["-c", &script]));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Nothing that a container says stays anywhere but in its stream: neither keys nor values of any map, nor what the
/// ring carries, hold a word of it. While a write is looked at it is in a buffer of the kernel; so nobody writes while
/// the maps are looked at.
#[test]
fn no_word_of_a_log_is_kept() {
    let ways = ways();
    let bounded = ways.iter().find(|way| is_bounded(way));
    for way in ways.first().into_iter().chain(bounded) {
        keeps_no_word(way);
    }
}

fn keeps_no_word(way: &Alternative) {
    let top = Made::top("secret");
    let cgroup = top.child("says");
    let marker = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("/proc is mounted");
    let marker = marker.trim().replace('-', "");
    let shapes = [
        "log-normal",
        "blocks --length 200000",
        "pieces --length 1000 --writes 1000000",
        "blocks --length 9000 --by vectors",
    ];
    let mut lines = Lines::start(&["--attach", &way.word()]);
    let writers = shapes.map(|shape| {
        let words = shape.split(' ').chain(["--rate", "5M", "--text", &marker]);
        Writer::start(&cgroup, &words.collect::<Vec<_>>())
    });
    lines.until("it to be counted", |told| told.of(&cgroup).len() == shapes.len());
    let id = cgroup.id().to_ne_bytes();
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(97));
        writers.iter().for_each(|writer| writer.signal(Signal::STOP));
        wait_for("the writers to stop", || writers.iter().all(Writer::is_stopped).then_some(()));
        let maps = content::of(lines.pid());
        writers.iter().for_each(|writer| writer.signal(Signal::CONT));
        let known = |name: &str| maps.iter().any(|(map, bytes)| map == name && holds(bytes, &id));
        assert!(known("STREAMS"), "what is read of maps are their bytes");
        for (name, bytes) in &maps {
            let word = &marker.as_bytes()[..8];
            assert!(!holds(bytes, word), "{}: the map {name} holds what a container said", way.word());
        }
    }
    lines.stop();
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    // Most of a map is empty: an optimiser would not be needed.
    let (first, rest) = word.split_first().expect("a word");
    let mut left = bytes;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

/// At full rate, for as long as `MEMTRACE_SOAK` says, in seconds.
#[test]
fn eight_writers_for_a_long_time() {
    if in_vm() {
        return skip("eight_writers_for_a_long_time", "emulated, a full rate is none");
    }
    let seconds: u64 = match env::var("MEMTRACE_SOAK") {
        Ok(seconds) => seconds.parse().expect("MEMTRACE_SOAK is a number of seconds"),
        Err(_) => 10,
    };
    let top = Made::top("soak");
    let mut lines = Lines::start(&[]);
    let shapes = ["fixed", "log-normal", "bimodal", "bytes", "blocks --length 64k", "blocks --length 4k"];
    let wrote: Vec<Wrote> = (0..8)
        .map(|at| {
            let cgroup = top.child(&format!("writer-{at}"));
            let (seconds, seed) = (seconds.to_string(), at.to_string());
            let more = ["--seconds", &seconds, "--seed", &seed];
            let words: Vec<&str> = shapes[at % shapes.len()].split(' ').chain(more).collect();
            Wrote { writer: Writer::start(&cgroup, &words), cgroup }
        })
        .collect();
    let mut sizes = Vec::new();
    while !wrote.iter().all(|wrote| wrote.writer.job.is_through()) {
        lines.next();
        sizes.push(lines.rss());
    }
    let told = lines.told();
    let mut bytes = 0;
    for Wrote { writer, cgroup } in &wrote {
        let truth = writer.job.truth();
        bytes += truth.number("bytes");
        let right = told.only(cgroup).and_then(|stream| truth.is(stream));
        right.unwrap_or_else(|why| panic!("{}: {why}", cgroup.path));
    }
    assert_eq!(told.lost(), 0);
    let (early, late) = (sizes[sizes.len() / 4], sizes[sizes.len() - 1]);
    println!("{} MiB in {seconds} s; memory {} KiB, then {} KiB", bytes / MIB, early >> 10, late >> 10);
    assert!(late < early + MIB, "memtrace grew from {early} to {late}");
    lines.stop();
}
