//! Three workloads in cgroups of their own, so that a newcomer without a container sees something happen. All of it is
//! removed on every way out: an end, an error, a panic, a signal.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use crate::{command::not_started, hierarchy::Hierarchy};

const PARENT: &str = "memtrace-demo";
/// The workloads hold 1 GiB at most; this keeps a mistake in them from the host.
const LIMIT: &str = "2147483648";

/// The name of a cgroup and what runs in it.
const WORKLOADS: &[(&str, &[&str])] = &[
    ("grows", &["anon", "--total", "1G", "--rate", "8M", "--again"]),
    ("logs", &["log", "--pipe", "--rate", "64k"]),
    ("idles", &["anon", "--total", "16M", "--hold", "forever"]),
];

pub(super) struct Demo {
    ended: Arc<AtomicBool>,
    children: Vec<Child>,
    /// In the order of making.
    cgroups: Vec<PathBuf>,
}

impl Demo {
    pub(super) fn start(workload: &Path) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&ended)).context("cannot set a handler for signals")?;
        }
        let mut demo = Self { ended, children: Vec::new(), cgroups: Vec::new() };
        let hierarchy = Hierarchy::of_memory()?;
        let parent = hierarchy.mount.join(PARENT);
        demo.make(&parent)?;
        hierarchy.limit(&parent, LIMIT)?;
        for (name, args) in WORKLOADS {
            let cgroup = parent.join(name);
            demo.make(&cgroup)?;
            let mut command = Command::new(workload);
            // Should we be killed, they end with us.
            command.arg("--with-parent").arg("--cgroup").arg(&cgroup).args(*args);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // A Ctrl-C at the terminal is for the view; they end after it.
            command.process_group(0);
            demo.children.push(command.spawn().with_context(|| not_started(&command))?);
        }
        eprintln!("top: {} workloads run below {}", WORKLOADS.len(), parent.display());
        Ok(demo)
    }

    /// Runs the view until it ends or a signal comes, and gives its status.
    pub(super) fn beside(self, mut top: Command) -> Result<ExitCode> {
        let mut top_child = top.spawn().with_context(|| not_started(&top))?;
        let mut asked = false;
        loop {
            let ended = top_child.try_wait().context("lost the view")?;
            if let Some(status) = ended {
                return Ok(ExitCode::from(
                    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
                ));
            }
            if self.ended.load(Ordering::Relaxed) && !asked {
                asked = true;
                // It has a terminal to restore, so it is asked, not killed.
                if let Some(pid) = Pid::from_raw(top_child.id() as i32) {
                    kill_process(pid, Signal::TERM).context("cannot end the view")?;
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// One that is left from a demo that was killed is used again.
    fn make(&mut self, cgroup: &Path) -> Result<()> {
        if !cgroup.exists() {
            fs::create_dir(cgroup)
                .with_context(|| format!("cannot make the cgroup {}; are you root?", cgroup.display()))?;
        }
        self.cgroups.push(cgroup.to_owned());
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that ended by itself is no failure here.
            let _ = child.kill();
            let _ = child.wait();
        }
        for cgroup in self.cgroups.iter().rev() {
            // A cgroup stays busy for a moment after its last process was waited for.
            let patience = Instant::now() + Duration::from_secs(2);
            while let Err(error) = fs::remove_dir(cgroup) {
                if Instant::now() > patience {
                    eprintln!("top: cannot remove the cgroup {}: {error}", cgroup.display());
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
