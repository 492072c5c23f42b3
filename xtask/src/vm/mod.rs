//! `cargo xtask vm`: boots a Debian kernel in an emulator and runs the live tests, or a command, there.

mod apt;
mod guest;
mod kernel;
mod machine;
mod nfs_server;
mod release;
mod source;

use std::{
    fs::{File, OpenOptions},
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

pub(crate) use self::release::{RELEASES, Release};
use self::{
    guest::{Files, Layout},
    kernel::Kernel,
    machine::{Accelerator, Ended, Guest},
};
use crate::{
    artifact::Artifacts,
    live::{self, Ran},
    lock,
    matrix::{self, Column},
    setup::{Purpose, set_up},
    side_by_side::side_by_side,
    test::tally::Tally,
    workspace,
};

/// Where the tests find things in the guest.
const LIVE_TESTS: &str = "MEMTRACE_BIN=/bin/memtrace MEMTRACE_WORKLOAD=/bin/workload MEMTRACE_VM=1 \
    exec /bin/live-tests --test-threads=1 --show-output";

/// All tests, in two guests that run side by side: emulated, a guest keeps one processor busy, and either half takes as long
/// as the other.
const HALVES: [&str; 2] =
    [" lines:: dirty:: dead_cgroups::", " --skip lines:: --skip dirty:: --skip dead_cgroups::"];

/// Boot another kernel and run the live tests there
#[derive(Args)]
pub(crate) struct Vm {
    /// Which kernel: 5.10, 6.1, 6.12 or newest
    #[arg(long, default_value = "6.12")]
    kernel: &'static Release,
    /// Every kernel, one after the other, this machine's first; then the matrix
    #[arg(long, conflicts_with = "kernel")]
    all: bool,
    /// This machine's kernel alone
    #[arg(long, conflicts_with_all = ["kernel", "all", "cgroup", "test", "command"])]
    here: bool,
    /// Keep facts and what became of each way of attaching in tests/fixtures, for docs/compatibility.md; with --test what
    /// other tests told stays
    #[arg(long, conflicts_with = "command")]
    record: bool,
    /// Only the live tests whose names hold this (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    test: Vec<String>,
    /// How the guest mounts its cgroups
    #[arg(long, value_enum, default_value_t, conflicts_with = "all")]
    cgroup: Layout,
    /// More words for the guest's kernel command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Fetch the newest build even if one is there
    #[arg(long)]
    refresh: bool,
    /// End the guest after so many seconds
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Run this there instead; one word is a line for the shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// What became of a kernel.
pub(crate) enum Outcome {
    Ran { ran: Ran, emulated: bool },
    Skipped { reason: String },
}

/// What to boot and what to run there.
struct Run<'a> {
    artifacts: &'a Artifacts,
    /// One guest for each.
    scripts: Vec<String>,
    cgroup: Layout,
    append: &'a str,
    refresh: bool,
    timeout: Duration,
}

impl Vm {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(Purpose::Test)?;
        let tests = self.command.is_empty();
        let artifacts = Artifacts::build(tests)?;
        let record = if self.record { format!("{}=1 ", live::RECORD) } else { String::new() };
        let named = self.test.iter().map(|name| format!(" {}", quoted(name))).collect::<String>();
        let scripts = if tests { scripts(&record, &named) } else { vec![shell_line(&self.command)] };
        let run = Run {
            artifacts: &artifacts,
            scripts,
            cgroup: self.cgroup,
            append: &self.append,
            refresh: self.refresh,
            timeout: Duration::from_secs(self.timeout),
        };
        let (mut failed, mut columns) = (false, Vec::new());
        let mut tell = |name: &str, outcome: Result<Outcome>| match outcome {
            Ok(Outcome::Ran { ran, emulated }) => {
                failed |= !ran.success;
                let tally = Tally::of(&ran.lines, ran.success);
                if tests {
                    eprintln!("vm: {name}: {tally}");
                }
                if tests && tally.is_empty() {
                    eprintln!("vm: no test's name holds {}; nothing was tested", self.test.join(" or "));
                    failed = true;
                }
                columns.extend(Column::of(&ran.lines, &tally, emulated));
            }
            Ok(Outcome::Skipped { reason }) => eprintln!("vm: skipping {name}: {reason}"),
            // The other kernels are still worth a run.
            Err(error) => {
                eprintln!("vm: {name}: {error:#}");
                failed = true;
            }
        };
        let releases: Vec<&Release> = match (self.all, self.here) {
            (true, _) => RELEASES.iter().collect(),
            (_, true) => Vec::new(),
            _ => vec![self.kernel],
        };
        for release in releases {
            tell(release.label, run.on(release));
        }
        if self.here || self.all && tests && named.is_empty() {
            tell("this machine", here(&artifacts, self.record));
        }
        if !columns.is_empty() {
            println!("\n{}", matrix::table(&columns));
        }
        if self.record {
            let layout = self.cgroup.suffix();
            columns.iter().try_for_each(|column| column.record(layout, !named.is_empty()))?;
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// What runs the live tests that are named, each after a space: all of them in two guests.
fn scripts(record: &str, named: &str) -> Vec<String> {
    match named {
        "" => HALVES.map(|half| format!("{record}{LIVE_TESTS}{half}")).into(),
        named => vec![format!("{record}{LIVE_TESTS}{named}")],
    }
}

fn here(artifacts: &Artifacts, record: bool) -> Result<Outcome> {
    Ok(match live::here(artifacts, record.then_some(live::RECORD), &[])? {
        Some(ran) => Outcome::Ran { ran, emulated: false },
        None => Outcome::Skipped { reason: live::NOT_ROOT.to_owned() },
    })
}

/// Runs live tests in a kernel, those whose names hold one of these words; for `cargo xtask test`.
pub(crate) fn live_tests(
    release: &Release,
    artifacts: &Artifacts,
    set: Option<&str>,
    tests: &str,
    timeout: Duration,
) -> Result<Outcome> {
    let set = set.map(|name| format!("{name}=1 ")).unwrap_or_default();
    let scripts = vec![format!("{set}{LIVE_TESTS} {tests}")];
    let cgroup = Layout::default();
    Run { artifacts, scripts, cgroup, append: "", refresh: false, timeout }.on(release)
}

impl Run<'_> {
    fn on(&self, release: &Release) -> Result<Outcome> {
        let kernel = match Kernel::fetch(release, self.refresh) {
            Ok(kernel) => kernel,
            Err(error) if release.required => {
                return Err(error.context(format!("cannot fetch {}", release.label)));
            }
            Err(error) => {
                return Ok(Outcome::Skipped { reason: format!("it cannot be fetched: {error:#}") });
            }
        };
        let dir = workspace::target().join("vm");
        let (mut guests, mut locks, mut emulated) = (Vec::new(), Vec::new(), false);
        for (number, script) in self.scripts.iter().enumerate() {
            let dir = dir.join(format!("run-{}-{number}", release.label));
            locks.push(locked(&dir)?);
            let files = guest::pack(&kernel, self.artifacts, script, self.cgroup, &dir)?;
            let (guest, accelerator) = boot(&kernel, &files, self.append)?;
            emulated |= accelerator == Accelerator::Tcg;
            guests.push(guest);
        }
        let ended = side_by_side(guests, |guest| guest.finish(self.timeout, |line| println!("{line}")))
            .into_iter()
            .collect::<Result<Vec<Ended>>>()?;
        let mut ran = Ran { lines: Vec::new(), success: true };
        for Ended { status, lines } in ended {
            eprintln!("vm: {} ended with status {status}", kernel.release);
            ran.success &= status == 0;
            ran.lines.extend(lines);
        }
        Ok(Outcome::Ran { ran, emulated })
    }
}

/// A guest's directory, for as long as the lock is kept: a second guest would write over the disk of the first.
fn locked(dir: &Path) -> Result<File> {
    lock::try_take(&dir.join("lock"))?.with_context(|| {
        format!(
            "another guest of this kernel runs in {}: wait for its end, or use another checkout",
            dir.display()
        )
    })
}

fn boot(kernel: &Kernel, files: &Files, append: &str) -> Result<(Guest, Accelerator)> {
    /// Not tried twice.
    static KVM_FAILED: AtomicBool = AtomicBool::new(false);
    let offered = || OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !KVM_FAILED.load(Ordering::Relaxed) && offered() {
        eprintln!("vm: booting {} on {}", kernel.release, Accelerator::Kvm);
        match machine::boot(&kernel.image, files, append, Accelerator::Kvm) {
            Ok(guest) => return Ok((guest, Accelerator::Kvm)),
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
    Ok((machine::boot(&kernel.image, files, append, Accelerator::Tcg)?, Accelerator::Tcg))
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
    fn a_second_guest_is_refused_a_directory_in_use() {
        let dir = std::env::temp_dir().join(format!("memtrace-lock-{}", std::process::id()));
        let first = locked(&dir).expect("nobody has it");
        assert!(locked(&dir).expect_err("somebody has it").to_string().contains("another guest"));
        drop(first);
        let again = locked(&dir).is_ok();
        std::fs::remove_dir_all(&dir).expect("it can be removed");
        assert!(again);
    }

    #[test]
    fn one_word_is_a_shell_line_and_more_are_quoted() {
        assert_eq!(shell_line(&["uname -r; id".to_owned()]), "uname -r; id");
        assert_eq!(shell_line(&["echo".to_owned(), "it's $HOME".to_owned()]), r"'echo' 'it'\''s $HOME'");
    }
}
