//! The workload in a cgroup made by hand: what it says about itself is the truth.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
};

use serde_json::Value;

use super::{cgroup::Cgroup, output, patience, program, wait_for};

pub fn binary() -> std::path::PathBuf {
    program("MEMTRACE_WORKLOAD")
}

/// A running workload; ends with the value.
pub struct Workload {
    child: Child,
    said: Receiver<String>,
}

impl Workload {
    /// Moves into the cgroup before it does anything. Ends with the thread that calls this.
    pub fn start(cgroup: &Cgroup, words: &[&str]) -> Workload {
        Workload::start_at(&cgroup.dir(), words)
    }

    /// The same in a cgroup by its directory.
    pub fn start_at(cgroup: &Path, words: &[&str]) -> Workload {
        let mut command = Command::new(binary());
        command.arg("--with-parent").arg("--cgroup").arg(cgroup).args(words);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the workload can be started");
        let said = output::lines(child.stdout.take().expect("its output is a pipe"));
        Workload { child, said }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has done its work, and gives what it did in bytes.
    pub fn done(&self) -> u64 {
        done(&self.said)
    }

    /// The next line that it prints.
    pub fn next_line(&self) -> String {
        self.said.recv_timeout(patience()).expect("the workload says something")
    }

    /// Waits until it ended by itself.
    pub fn wait(mut self) {
        let status = wait_for("the workload to end", || self.child.try_wait().expect("it is our child"));
        assert!(status.success(), "the workload failed: {status}");
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // One that ended by itself is no failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The truth, from the line that a workload prints when its work is done.
pub fn done(said: &Receiver<String>) -> u64 {
    let line = said.recv_timeout(patience()).expect("the workload says when it is done");
    let said: Value = serde_json::from_str(&line).expect("it says so as JSON");
    said["done_bytes"].as_u64().expect("it says how much")
}
