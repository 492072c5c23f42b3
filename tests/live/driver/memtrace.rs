//! memtrace as its users run it: started with words, read line by line, ended by a signal.

use std::{
    fs,
    io::Write as _,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{cgroup::hierarchy, interval::Interval, output, output::Gathered, patience, program, wait_for};

pub fn binary() -> std::path::PathBuf {
    program("MEMTRACE_BIN")
}

/// `memtrace` with words, not yet started.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(words: &[&str]) -> Output {
    output::of(&mut command(words))
}

/// A running `memtrace top --json`, or another of its views; killed with the value.
pub struct Memtrace {
    child: Child,
    kind: &'static str,
    lines: Receiver<String>,
    errors: Gathered,
}

/// How it ended.
pub struct Ended {
    pub status: ExitStatus,
    /// What it printed since the last look.
    pub intervals: Vec<Interval>,
    pub errors: String,
}

impl Memtrace {
    /// `memtrace top --json` with more words, once its probes are attached and its first interval is over.
    pub fn top(words: &[&str]) -> Memtrace {
        let mut memtrace = Memtrace::start(words);
        memtrace.next();
        memtrace
    }

    /// The same, not waited for.
    pub fn start(words: &[&str]) -> Memtrace {
        Memtrace::spawn(command(&["top", "--json"]).args(words))
    }

    pub fn spawn(command: &mut Command) -> Memtrace {
        Memtrace::spawn_as("top", command)
    }

    /// A view by the word that its objects have as their kind.
    pub fn spawn_as(kind: &'static str, command: &mut Command) -> Memtrace {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("memtrace can be started");
        let lines = output::lines(child.stdout.take().expect("its output is a pipe"));
        let errors = Gathered::of(child.stderr.take().expect("its messages are a pipe"));
        Memtrace { child, kind, lines, errors }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next interval.
    pub fn next(&mut self) -> Interval {
        match self.lines.recv_timeout(patience()) {
            Ok(line) => self.parsed(&line),
            Err(RecvTimeoutError::Timeout) => panic!("memtrace printed nothing; {}", self.errors.text()),
            Err(RecvTimeoutError::Disconnected) => panic!("memtrace ended: {}", self.errors.text()),
        }
    }

    /// The next so many.
    pub fn take(&mut self, count: usize) -> Vec<Interval> {
        (0..count).map(|_| self.next()).collect()
    }

    /// The last of the next so many that are not printed yet: what was printed meanwhile is of the time before.
    pub fn later(&mut self, count: usize) -> Interval {
        // Unread: of a storm it may be a gigabyte.
        self.lines.try_iter().for_each(drop);
        self.take(count).pop().expect("at least one is asked for")
    }

    /// Intervals until one fits, that one last.
    pub fn until(&mut self, what: &str, mut fits: impl FnMut(&Interval) -> bool) -> Vec<Interval> {
        let start = Instant::now();
        let mut seen = Vec::new();
        loop {
            let interval = self.next();
            let done = fits(&interval);
            seen.push(interval);
            if done {
                return seen;
            }
            assert!(start.elapsed() < patience(), "waited {} s for {what}", patience().as_secs());
        }
    }

    /// What is printed already, without waiting.
    pub fn waiting(&mut self) -> Vec<Interval> {
        self.lines.try_iter().map(|line| self.parsed(&line)).collect()
    }

    /// Bytes of memory that it has.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// How many descriptors it has open beside those of cgroups, whose number is this machine's affair.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("it runs")
            .flatten()
            .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| !to.starts_with(&hierarchy().mount)))
            .count()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child, not yet waited for");
    }

    pub fn wait(mut self) -> Ended {
        let status = wait_for("memtrace to end", || self.child.try_wait().expect("it is our child"));
        let intervals = self.lines.iter().map(|line| self.parsed(&line)).collect();
        Ended { status, intervals, errors: self.errors.text() }
    }

    fn parsed(&self, line: &str) -> Interval {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        assert_eq!(value["kind"], self.kind);
        Interval(value)
    }

    /// Ends it as its users do, and makes sure that it went well.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.errors);
        ended
    }
}

impl Drop for Memtrace {
    fn drop(&mut self) {
        // One that ended already is no failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "memtrace said: {}", self.errors.text());
        }
    }
}

/// Starts it with its standard output as a pipe whose reading end the caller holds.
pub fn piped(words: &[&str]) -> (Child, ChildStdout) {
    let mut child = command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("memtrace can be started");
    let stdout = child.stdout.take().expect("its output is a pipe");
    (child, stdout)
}

/// Findings of a kind in what `diagnose --json` printed.
pub fn found(told: &Value, kind: &str) -> Vec<Value> {
    let all = told["findings"].as_array().expect("a list");
    all.iter().filter(|finding| finding["kind"] == kind).cloned().collect()
}
