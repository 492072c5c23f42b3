//! Many cgroups with one process each, for the cost of memtrace on a host that is full of containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{
    amount::Hold,
    mapping::{Mapping, page_size},
    report,
};

/// Make cgroups with one sleeping process each; remove them at SIGTERM
#[derive(Args)]
pub(crate) struct Cgroups {
    /// The parent cgroup, made when missing
    dir: PathBuf,
    /// How many
    #[arg(long)]
    count: usize,
    /// Let each process hold another amount (256, 512, 768 KiB) every 0.75 s
    #[arg(long)]
    active: bool,
}

#[derive(Args)]
pub(crate) struct Member {
    #[arg(long)]
    active: bool,
}

/// What to undo, in the order of making; undone on every way out.
#[derive(Default)]
struct Made {
    children: Vec<Child>,
    parent: Option<PathBuf>,
    members: Vec<PathBuf>,
}

impl Cgroups {
    pub(crate) fn run(self) -> Result<()> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&ended))
                .with_context(|| format!("cannot set a handler for signal {signal}"))?;
        }
        let mut made = Made::default();
        if !self.dir.exists() {
            make(&self.dir)?;
            made.parent = Some(self.dir.clone());
        }
        let control = self.dir.join("cgroup.subtree_control");
        if control.exists() {
            fs::write(&control, "+memory")
                .with_context(|| format!("cannot turn the memory controller on in {}", control.display()))?;
        }
        let program =
            std::env::current_exe().context("cannot find the path of this program; is /proc mounted?")?;
        for index in 0..self.count {
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            let dir = self.dir.join(format!("member-{index:04}"));
            make(&dir)?;
            made.members.push(dir.clone());
            let mut command = Command::new(&program);
            command
                .arg("--with-parent")
                .arg("--cgroup")
                .arg(&dir)
                .arg("cgroups-member")
                .args(self.active.then_some("--active"));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            made.children
                .push(command.spawn().context("cannot start a member; is the limit on processes reached?")?);
        }
        made.wait_until_joined(&ended)?;
        report::line(&format!(
            r#"{{"done_bytes":0,"pid":{},"cgroups":{}}}"#,
            std::process::id(),
            self.count
        ))?;
        while !ended.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Member {
    pub(crate) fn run(self) -> Result<()> {
        if !self.active {
            report::stay(Hold::Forever);
        }
        // No less than the batch in which the kernel charges, by steps of three quarters of a second: whoever looks once a
        // second finds another amount each time. A thousand of these take a fifth of a core.
        for step in (1..=3).cycle() {
            let bytes = step * 64 * page_size();
            let mut mapping = Mapping::new(bytes)?;
            mapping.touch(0, bytes);
            thread::sleep(Duration::from_millis(750));
        }
        Ok(())
    }
}

impl Made {
    /// The report must not be earlier than the last move: a caller measures from there.
    fn wait_until_joined(&self, ended: &AtomicBool) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(60);
        for dir in &self.members {
            let procs = dir.join("cgroup.procs");
            while fs::read_to_string(&procs)
                .with_context(|| format!("cannot read {}", procs.display()))?
                .is_empty()
            {
                if ended.load(Ordering::Relaxed) {
                    return Ok(());
                }
                anyhow::ensure!(
                    Instant::now() < patience,
                    "no process joined {} within a minute",
                    dir.display()
                );
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that ended by itself is no failure here.
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        for dir in self.members.iter().chain(&self.parent) {
            remove(dir);
        }
    }
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir(dir).with_context(|| {
        format!("cannot make the cgroup {}; is it in a cgroup mount, and are you root?", dir.display())
    })
}

/// A cgroup stays busy for a moment after its last process was waited for.
fn remove(dir: &Path) {
    let patience = Instant::now() + Duration::from_secs(2);
    while let Err(error) = fs::remove_dir(dir) {
        if Instant::now() > patience {
            report::line_beside(&format!("workload: cannot remove the cgroup {}: {error}", dir.display()));
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Moves this process (all its threads) into a cgroup.
pub(crate) fn join(dir: &Path) -> Result<()> {
    let procs = dir.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("cannot join the cgroup through {}", procs.display()))
}
