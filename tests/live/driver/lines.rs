//! `memtrace lines --json`, and the workload as a writer of lines whose own word is the truth of its stream.

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use super::{
    cgroup::Cgroup,
    container::SCRATCH,
    interval::Interval,
    known::Known,
    memtrace::{self, Ended, Memtrace},
    output, scratch, wait_for, workload,
};

/// A running `memtrace lines --json`; killed with the value.
pub struct Lines(Memtrace);

/// What it told at one time.
pub struct Told(Value);

impl Lines {
    /// With its probes attached.
    pub fn start(words: &[&str]) -> Lines {
        let mut command = memtrace::command(&["lines", "--json", "-i", "0.3"]);
        let mut memtrace = Memtrace::spawn_as("lines", command.args(words));
        memtrace.next();
        Lines(memtrace)
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub fn rss(&self) -> u64 {
        self.0.rss()
    }

    /// All that was written up to now is told, and its way is known.
    pub fn told(&mut self) -> Told {
        Told(self.0.later(3).0)
    }

    /// Until something is told.
    pub fn until(&mut self, what: &str, fits: impl Fn(&Told) -> bool) -> Told {
        let mut intervals = self.0.until(what, |interval| fits(&Told(interval.0.clone())));
        Told(intervals.pop().expect("the last one fits").0)
    }

    /// Intervals as they are told, which are not gathered meanwhile.
    pub fn next(&mut self) -> Told {
        let Interval(value) = self.0.next();
        Told(value)
    }

    pub fn stop(self) -> Ended {
        self.0.stop()
    }
}

impl Told {
    /// The streams of a cgroup, used ones only.
    pub fn of(&self, cgroup: &Cgroup) -> Vec<&Value> {
        let streams = self.0["streams"].as_array().expect("streams are a list");
        let of = |stream: &&Value| stream["container"]["cgroup"]["path"] == cgroup.path;
        streams.iter().filter(of).filter(|stream| stream["bytes"] != 0).collect()
    }

    /// The one stream of a cgroup.
    pub fn only(&self, cgroup: &Cgroup) -> Result<&Value, String> {
        match self.of(cgroup)[..] {
            [stream] => Ok(stream),
            ref streams => Err(format!("{}: not one stream, but {streams:?}", cgroup.path)),
        }
    }

    /// The one stream of a container with this role; the container is the one that is known.
    pub fn role(&self, known: &Known, role: &str) -> Result<&Value, String> {
        let all = self.of(&known.cgroup);
        let found: Vec<&Value> = all.iter().copied().filter(|stream| stream["stream"] == role).collect();
        let [stream] = found[..] else {
            return Err(format!("{}: not one stream {role}, but {all:?}", known.cgroup.path));
        };
        known.is(stream)?;
        Ok(stream)
    }

    /// Events that were lost.
    pub fn lost(&self) -> u64 {
        self.0["host"]["lost_events"].as_u64().expect("losses are counted")
    }
}

/// Words for a workload that writes lines, and the files by which it is told to begin and tells the truth.
pub struct Job {
    words: Vec<String>,
    /// As the writer sees them.
    go: PathBuf,
    truth: PathBuf,
    /// Where its root directory is, seen from here.
    root: PathBuf,
}

impl Job {
    /// For a writer whose files are ours; it begins at once.
    pub fn at_once(words: &[&str]) -> Job {
        Job::new(&scratch::dir("lines"), words, false)
    }

    /// The same, which waits for `go`.
    pub fn waiting(words: &[&str]) -> Job {
        Job::new(&scratch::dir("lines"), words, true)
    }

    /// For a writer in a container, which waits for `go`; its root is known once it runs.
    pub fn contained(words: &[&str]) -> Job {
        Job::new(Path::new(SCRATCH), words, true)
    }

    fn new(dir: &Path, words: &[&str], waits: bool) -> Job {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lines-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (go, truth) = (dir.join(format!("{name}.go")), dir.join(format!("{name}.truth")));
        let mut words: Vec<String> = ["lines"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        let mut file = |option: &str, path: &Path| {
            words.extend([option.to_owned(), path.to_str().expect("a path of ours").to_owned()]);
        };
        file("--truth", &truth);
        if waits {
            file("--go", &go);
        }
        words.extend(["--hold", "forever"].map(str::to_owned));
        Job { words, go, truth, root: "/".into() }
    }

    pub fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// It runs in this container, once its runtime is through with it.
    pub fn runs_in(&mut self, known: &Known) {
        let pid = wait_for("a container to run its workload", || {
            let procs = fs::read_to_string(known.cgroup.dir().join("cgroup.procs")).ok()?;
            let pid: u32 = procs.lines().next()?.parse().ok()?;
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (comm == "workload\n").then_some(pid)
        });
        self.root = PathBuf::from(format!("/proc/{pid}/root"));
    }

    /// Lets it begin.
    pub fn go(&self) {
        fs::write(self.here(&self.go), "").expect("the container's directory can be written");
    }

    /// What it says it has written, when it is through.
    pub fn truth(&self) -> Truth {
        let path = self.here(&self.truth);
        let said = wait_for("a writer of lines to be through", || fs::read_to_string(&path).ok());
        Truth(serde_json::from_str(&said).expect("it says so as JSON"))
    }

    pub fn is_through(&self) -> bool {
        self.here(&self.truth).exists()
    }

    fn here(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").expect("it begins at the root"))
    }
}

/// A writer in a cgroup made by hand, with this process as its reader; ends with the value.
pub struct Writer {
    child: Child,
    pub job: Job,
}

impl Writer {
    pub fn start(cgroup: &Cgroup, words: &[&str]) -> Writer {
        Writer::with(cgroup, Job::at_once(words))
    }

    pub fn with(cgroup: &Cgroup, job: Job) -> Writer {
        let mut writer = Writer::spawn(cgroup, job, Stdio::piped());
        output::drained(writer.child.stdout.take().expect("its output is a pipe"));
        writer
    }

    /// To a pipe with a name.
    pub fn by_name(cgroup: &Cgroup, job: Job) -> Writer {
        let path = scratch::dir("fifo").join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO can be made");
        // With a writing end of its own a reader need not wait for the first writer.
        let reader = File::options().read(true).write(true).open(&path).expect("it is there");
        let writer = File::options().write(true).open(&path).expect("it is there");
        output::drained(reader);
        Writer::spawn(cgroup, job, writer.into())
    }

    /// To a socket.
    pub fn by_socket(cgroup: &Cgroup, job: Job) -> Writer {
        let (reader, writer) = UnixStream::pair().expect("sockets can be made");
        output::drained(reader);
        Writer::spawn(cgroup, job, OwnedFd::from(writer).into())
    }

    fn spawn(cgroup: &Cgroup, job: Job, stdout: Stdio) -> Writer {
        let mut command = Command::new(workload::binary());
        command.arg("--with-parent").arg("--cgroup").arg(cgroup.dir()).args(job.words());
        command.stdin(Stdio::null()).stdout(stdout);
        if job.words.iter().any(|word| word == "--stderr") {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().expect("the workload can be started");
        if let Some(stream) = child.stderr.take() {
            output::drained(stream);
        }
        Writer { child, job }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child, not yet waited for");
    }

    /// Between two instructions of its own, and in no system call.
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // One that ended by itself is no failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a writer knows of its stream.
pub struct Truth(Value);

impl Truth {
    pub fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }

    /// Whether a stream is told as it was written; else what is wrong.
    pub fn is(&self, stream: &Value) -> Result<(), String> {
        let same = self.number("lines") == 0 || stream["max"].as_u64() == Some(self.number("max"));
        same.then_some(()).ok_or_else(|| format!("max is {}, told in {stream}", self.0["max"]))?;
        self.is_but_for_the_longest(stream)
    }

    /// The same, but the longest line may be another.
    pub fn is_but_for_the_longest(&self, stream: &Value) -> Result<(), String> {
        let moved = self.number("unscanned") > 0;
        for (key, truth) in [
            ("bytes", "bytes"),
            ("unscanned_bytes", "unscanned"),
            ("lines", "lines"),
            ("open_line_bytes", "open"),
            ("max_open_line_bytes", "max_open"),
        ] {
            // Whether bytes that nobody saw hold a newline is not known.
            if moved && key.contains("open") {
                continue;
            }
            if stream[key].as_u64() != Some(self.number(truth)) {
                return Err(format!("{key} is {}, told as {} in {stream}", self.0[truth], stream[key]));
            }
        }
        for key in ["p50", "p90", "p99", "p999"] {
            match (self.0[key].as_u64(), stream[key].as_u64()) {
                (None, None) => {}
                (Some(truth), Some(told)) if told.abs_diff(truth) as f64 <= truth as f64 / 100.0 => {}
                (truth, told) => return Err(format!("{key} is {truth:?}, told as {told:?} in {stream}")),
            }
        }
        self.buckets(stream)
    }

    fn buckets(&self, stream: &Value) -> Result<(), String> {
        let buckets: Vec<(u64, u64)> = serde_json::from_value(stream["buckets"].clone())
            .map_err(|error| format!("{error}: {stream}"))?;
        let rises = buckets.windows(2).all(|two| two[0].0 < two[1].0);
        let full = buckets.iter().all(|(_, count)| *count > 0);
        let sum: u64 = buckets.iter().map(|(_, count)| count).sum();
        let max = self.number("max");
        let last =
            buckets.last().is_none_or(|(upper, _)| *upper >= max && *upper as f64 <= max as f64 * 1.01);
        (rises && full && last && sum == self.number("lines"))
            .then_some(())
            .ok_or_else(|| format!("buckets {buckets:?} of {}", self.0))
    }
}

/// A process as the kernel names it.
pub fn comm(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    comm.trim_end().to_owned()
}

/// Whether a stream flows through these processes to that one; else what is wrong.
pub fn flows(stream: &Value, via: &[u32], reader: u32) -> Result<(), String> {
    let process = |pid: u32| serde_json::json!({"pid": pid, "comm": comm(pid)});
    let right = stream["reader"] == process(reader)
        && stream["via"] == Value::from(via.iter().map(|pid| process(*pid)).collect::<Vec<_>>());
    let truth = (process(reader), via.iter().map(|pid| process(*pid)).collect::<Vec<_>>());
    right.then_some(()).ok_or_else(|| {
        format!("read by {} via {:?}, told as {} via {}", truth.0, truth.1, stream["reader"], stream["via"])
    })
}
