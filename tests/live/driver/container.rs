//! A container, whichever runtime this machine has: docker here, crun in the emulated machine. One test body serves
//! both; what differs (docker's containers have names, crun's have only a cgroup) is told by the fields.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    process::Child,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{crun, docker, in_vm, known::Known, wait_for, workload};

/// What to run.
#[derive(Default, Clone, Copy)]
pub struct Wanted<'a> {
    pub name: &'a str,
    /// What is to run, if it is not the workload.
    pub program: Option<&'a str>,
    /// Words for it.
    pub words: &'a [&'a str],
    /// Directories of the host, and where the container has them.
    pub binds: &'a [(&'a Path, &'a str)],
    /// Its limit in bytes, where it is not the runtime's.
    pub memory: Option<u64>,
    /// Of a processor.
    pub cpus: Option<f64>,
    /// `key=value`, as docker takes them; crun keeps none.
    pub labels: &'a [&'a str],
}

/// Where every container has a tmpfs.
pub const SCRATCH: &str = "/scratch";

/// Ends with the value, and its cgroup with it.
pub struct Container {
    /// As memtrace must tell it.
    pub(super) known: Known,
    pub(super) client: Child,
    pub(super) said: Receiver<String>,
    pub(super) remove: Box<dyn Fn() + Send>,
}

impl Deref for Container {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Known {
        &mut self.known
    }
}

impl<'a> Wanted<'a> {
    /// The image's shell, with such words.
    pub fn shell(name: &'a str, words: &'a [&'a str]) -> Wanted<'a> {
        Wanted { name, program: Some("/bin/sh"), words, ..Wanted::default() }
    }

    /// The program and its words.
    pub fn line(&self) -> impl Iterator<Item = &'a str> {
        let program = self.program.unwrap_or("/bin/workload");
        std::iter::once(program).chain(self.words.iter().copied())
    }
}

/// Starts it; its cgroup is there, or was.
pub fn run(wanted: &Wanted<'_>) -> Container {
    if in_vm() { crun::run(wanted) } else { docker::run(wanted) }
}

/// Keeps the first container of a test from being charged for the runtime's and the image's first use.
pub fn warm_up() {
    let warmed = run(&Wanted { name: "warm-up", words: &["idle", "--hold", "0"], ..Wanted::default() });
    warmed.done();
    warmed.wait();
}

impl Container {
    /// Waits until its work is done, and gives what it did in bytes.
    pub fn done(&self) -> u64 {
        workload::done(&self.said)
    }

    /// What it prints, after that.
    pub fn said(&self) -> &Receiver<String> {
        &self.said
    }

    /// The runtime's client, or the runtime where there is no daemon.
    pub fn client(&self) -> u32 {
        self.client.id()
    }

    /// Waits until it ended by itself.
    pub fn wait(mut self) {
        self.ended();
    }

    pub fn ended(&mut self) {
        wait_for("a container to end", || self.client.try_wait().expect("it is our child"));
        let ended = Instant::now();
        wait_for("a container's cgroup to go", || {
            if ended.elapsed() > Duration::from_secs(10) {
                // The runtime forgot about it.
                (self.remove)();
            }
            (!self.cgroup.dir().exists()).then_some(())
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.client.try_wait(), Ok(None)) {
            // The client hands it on to the container.
            let _ = kill_process(Pid::from_child(&self.client), Signal::TERM);
            for _ in 0..100 {
                if !matches!(self.client.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        (self.remove)();
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
