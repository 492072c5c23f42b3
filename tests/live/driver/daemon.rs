//! A daemon of this run: its words in a file of its directory, ended with the value, or by the guard.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{guard, output, wait_for};

/// Lines that a test which fails shows of its daemons.
const LAST_WORDS: usize = 20;

pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// `dir` must stand in its command line: the guard knows it by that.
    pub fn start(mut command: Command, dir: &Path, name: &str) -> Daemon {
        let log = dir.join(format!("{name}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.expect("the run's directory can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor is left"))
            .stderr(file)
            // A Ctrl-C ends the tests, not the daemon before its containers.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} cannot be started ({error}); `cargo xtask setup --for test` installs it")
            });
        guard::at_end(&format!("end {} {}", child.id(), dir.display()));
        Daemon { name: name.to_owned(), child, log }
    }

    /// Waits until this succeeds, as long as the daemon lives.
    pub fn answers(&mut self, mut ask: impl FnMut() -> Command) {
        wait_for(&format!("{} to answer", self.name), || {
            self.lives();
            output::of(&mut ask()).status.success().then_some(())
        });
    }

    pub fn lives(&mut self) {
        if let Some(status) = self.child.try_wait().expect("it is our child") {
            panic!("{}: {status}: {}", self.name, fs::read_to_string(&self.log).unwrap_or_default());
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// At once, with no time to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it is our child");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(LAST_WORDS).collect();
            println!("{} said last, the latest first:\n{}", self.name, last.join("\n"));
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(20) {
            // One that was stopped must go on to end.
            for signal in [Signal::CONT, Signal::TERM] {
                let _ = kill_process(Pid::from_child(&self.child), signal);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
