//! `cargo xtask vm`: boots a Debian kernel in an emulator and runs the live tests, or a command, there.

mod apt;
mod guest;
mod kernel;
mod machine;
mod release;
mod source;

use std::{
    fs,
    fs::OpenOptions,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

pub(crate) use self::release::{RELEASES, Release};
use self::{
    kernel::Kernel,
    machine::{Accelerator, Ended, Guest},
};
use crate::{
    artifact::Artifacts,
    setup::{Purpose, set_up},
    workspace,
};

/// Where the tests find things in the guest.
const LIVE_TESTS: &str = "MEMTRACE_BIN=/bin/memtrace MEMTRACE_WORKLOAD=/bin/workload MEMTRACE_VM=1 \
    exec /bin/live-tests --test-threads=1 --show-output";

/// Boot another kernel and run the live tests there
#[derive(Args)]
pub(crate) struct Vm {
    /// Which kernel: 5.10, 6.1, 6.12 or newest
    #[arg(long, default_value = "6.12")]
    kernel: &'static Release,
    /// Every kernel, one after the other
    #[arg(long, conflicts_with = "kernel")]
    all: bool,
    /// Fetch the newest build even if one is there
    #[arg(long)]
    refresh: bool,
    /// End the guest after so many seconds
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Run this there instead; one word is a line for the shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// What became of a kernel.
pub(crate) enum Outcome {
    Ran { status: i32, lines: Vec<String> },
    Skipped { reason: String },
}

impl Vm {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(Purpose::Test)?;
        let artifacts = Artifacts::build(self.command.is_empty())?;
        let script = if self.command.is_empty() { LIVE_TESTS.to_owned() } else { shell_line(&self.command) };
        let releases: Vec<&Release> = if self.all { RELEASES.iter().collect() } else { vec![self.kernel] };
        let timeout = Duration::from_secs(self.timeout);
        let (mut status, mut skipped) = (0, 0);
        for release in &releases {
            match run_in(release, &artifacts, &script, self.refresh, timeout) {
                Ok(Outcome::Ran { status: 0, .. }) => {}
                Ok(Outcome::Ran { status: failed, .. }) => status = failed,
                Ok(Outcome::Skipped { reason }) => {
                    eprintln!("vm: skipping {}: {reason}", release.label);
                    skipped += 1;
                }
                // The other kernels are still worth a run.
                Err(error) if self.all => {
                    eprintln!("vm: {}: {error:#}", release.label);
                    status = 1;
                }
                Err(error) => return Err(error),
            }
        }
        if self.all {
            eprintln!("vm: {} kernels, {skipped} skipped, status {status}", releases.len());
        }
        Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
    }
}

/// Runs the live tests in a kernel; for `cargo xtask test`.
pub(crate) fn live_tests(release: &Release, artifacts: &Artifacts, timeout: Duration) -> Result<Outcome> {
    run_in(release, artifacts, LIVE_TESTS, false, timeout)
}

fn run_in(
    release: &Release,
    artifacts: &Artifacts,
    script: &str,
    refresh: bool,
    timeout: Duration,
) -> Result<Outcome> {
    let kernel = match Kernel::fetch(release, refresh) {
        Ok(kernel) => kernel,
        Err(error) if release.required => {
            return Err(error.context(format!("cannot fetch {}", release.label)));
        }
        Err(error) => return Ok(Outcome::Skipped { reason: format!("it cannot be fetched: {error:#}") }),
    };
    let dir = workspace::target().join("vm").join(format!("run-{}", release.label));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let initramfs = guest::pack(&kernel, artifacts, script, &dir)?;
    let guest = boot(&kernel, &initramfs)?;
    let Ended { status, lines } = guest.finish(timeout, |line| println!("{line}"))?;
    eprintln!("vm: {} ended with status {status}", kernel.release);
    Ok(Outcome::Ran { status, lines })
}

fn boot(kernel: &Kernel, initramfs: &Path) -> Result<Guest> {
    /// Not tried twice.
    static KVM_FAILED: AtomicBool = AtomicBool::new(false);
    let offered = || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !KVM_FAILED.load(Ordering::Relaxed) && offered() {
        eprintln!("vm: booting {} on {}", kernel.release, Accelerator::Kvm);
        match machine::boot(&kernel.image, initramfs, Accelerator::Kvm) {
            Ok(guest) => return Ok(guest),
            // The device may be there and yet not do, as on a machine that is itself virtual.
            Err(error) => {
                eprintln!(
                    "vm: /dev/kvm is there but does not work, so it is emulated ({})",
                    one_line(&error)
                );
                KVM_FAILED.store(true, Ordering::Relaxed);
            }
        }
    }
    eprintln!("vm: booting {} on {}", kernel.release, Accelerator::Tcg);
    machine::boot(&kernel.image, initramfs, Accelerator::Tcg)
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', "; ")
}

fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_shell_line_and_more_are_quoted() {
        assert_eq!(shell_line(&["uname -r; id".to_owned()]), "uname -r; id");
        assert_eq!(shell_line(&["echo".to_owned(), "it's $HOME".to_owned()]), r"'echo' 'it'\''s $HOME'");
    }
}
