//! A host on which nothing is wrong, with what an ordinary one does: containers that come and go, a database, a compiler,
//! an archive that is unpacked, logs that are turned over, jobs by the clock. `MEMTRACE_QUIET=600` looks for ten minutes.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use crate::driver::{
    cgroup::Made,
    container::{self, Wanted as Container},
    disk, in_vm, scene, scratch,
};

/// What goes on and on in a cgroup of its own; ends with the value, and all that it started.
struct Churn(Child);

impl Churn {
    fn start(top: &Made, name: &str, script: &str, dir: &Path) -> (Churn, Made) {
        let cgroup = top.child(name);
        let script = format!(
            "echo $$ > {}/cgroup.procs; cd {} && while :; do {script}; done",
            cgroup.dir().display(),
            dir.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        (Churn(command.spawn().expect("there is a shell")), cgroup)
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// One round of each; a round leaves nothing behind.
const ROUNDS: [(&str, &str); 5] = [
    // Unpacked and thrown away, as images are.
    (
        "unpack",
        "tar -C /usr/share -cf image.tar perl5 doc 2>/dev/null; mkdir -p out; tar -xf image.tar -C out; rm -rf out image.tar; sleep 1",
    ),
    // Small random writes, each to the disk at once.
    (
        "database",
        "dd if=/dev/urandom of=db bs=8k count=32 seek=$(( $$ % 100 )) oflag=dsync conv=notrunc 2>/dev/null; sleep 0.2",
    ),
    (
        "compiler",
        "printf 'int f(int x){return x*x;}int main(){return f(2);}' > a.c; cc -O2 -o a a.c 2>/dev/null; sleep 0.1",
    ),
    // A log that is turned over.
    (
        "log",
        "i=0; while [ $i -lt 500 ]; do echo \"$i a line as programs write them, of some length\"; i=$((i+1)); done >> log; mv log log.1; sleep 0.5",
    ),
    ("cron", "for job in 1 2 3; do sh -c 'find /etc -type f | wc -l' >/dev/null; done; sleep 2"),
];
/// The same where there is no more than a busybox: nothing to compile, so something to pack.
const ROUNDS_IN_VM: [(&str, &str); 5] = [
    (
        "unpack",
        "tar -C /images -cf image.tar busybox; mkdir -p out; tar -xf image.tar -C out; rm -rf out image.tar; sleep 1",
    ),
    (
        "database",
        "dd if=/dev/urandom of=db bs=8k count=32 seek=$(( $$ % 100 )) conv=notrunc,fsync 2>/dev/null; sleep 0.2",
    ),
    ("packer", "gzip -c /bin/busybox > packed; rm packed; sleep 0.1"),
    ROUNDS[3],
    ROUNDS[4],
];

#[test]
fn nothing_is_wrong() {
    const SCENE: &str = "quiet";
    let rounds = if in_vm() { ROUNDS_IN_VM } else { ROUNDS };
    let seconds = env::var("MEMTRACE_QUIET").unwrap_or_else(|_| "30".to_owned());
    let time = Duration::from_secs(seconds.parse().expect("MEMTRACE_QUIET is a number of seconds"));
    disk::drop_caches();
    container::warm_up();
    let top = Made::top("quiet");
    let churns: Vec<_> = rounds
        .iter()
        .map(|(name, script)| Churn::start(&top, name, script, &scratch::dir(&format!("quiet-{name}"))))
        .collect();
    // Starts, fills its heap once, and stays.
    let words = ["anon", "--rate", "50M", "--total", "100M", "--hold", "forever"];
    let server = container::run(&Container { name: "server", words: &words, ..Container::default() });
    let log = ["log", "--line-bytes", "100", "--rate", "20k"];
    let logger = container::run(&Container { name: "logger", words: &log, ..Container::default() });
    let report = thread::scope(|scope| {
        let comes_and_goes = scope.spawn(|| {
            let end = Instant::now() + time;
            let mut count = 0;
            while Instant::now() < end {
                let words = ["anon", "--total", "30M", "--hold", "1"];
                container::run(&Container { name: "job", words: &words, ..Container::default() }).wait();
                count += 1;
            }
            count
        });
        let report = scene::diagnose(&seconds);
        (report, comes_and_goes.join().expect("containers can be run"))
    });
    let (report, containers) = report;
    drop((server, logger));
    drop(churns);
    let truth =
        json!({ "seconds": seconds, "containers": containers, "churn": rounds.map(|(name, _)| name) });
    report.is(SCENE, &truth, &[]);
}
