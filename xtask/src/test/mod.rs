//! `cargo xtask test`: every test. Parts follow each other and none stops the next; the last line is the sum.

mod tally;

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use self::tally::Tally;
use crate::{
    artifact::{Artifacts, has_live_tests},
    command::{cargo, command, is_root, not_started, shown},
    setup::{Purpose, set_up},
    vm,
};

/// Run every test: without root, on this machine's kernel, and in virtual machines
#[derive(Args)]
pub(crate) struct Test {}

/// The kernels that must be green beside this machine's; `cargo xtask vm --all` runs the others too.
const MATRIX: &[&str] = &["6.12"];
/// Emulated, the live tests take a few minutes; all parts together have fifteen.
const VM_TIMEOUT: Duration = Duration::from_secs(600);

/// One part of the run and what came out of it.
struct Part {
    name: String,
    time: Duration,
    tally: Tally,
}

impl Test {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(Purpose::Test)?;
        let mut parts = vec![part("tests without root", not_live)];
        if has_live_tests()? {
            parts.extend(live_parts());
        } else {
            parts.push(part("live tests", || {
                Ok(Tally::skipped("live tests", "`tracer` has no test target `live`"))
            }));
        }
        Ok(report(&parts))
    }
}

fn live_parts() -> Vec<Part> {
    // A closure cannot hand it out, and without it there is nothing more to run.
    let mut artifacts = None;
    let built = part("build for the live tests", || {
        artifacts = Some(Artifacts::build(true)?);
        Ok(Tally::default())
    });
    let Some(artifacts) = artifacts else { return vec![built] };
    let mut parts = vec![built, part("live tests on this machine", || live_here(&artifacts))];
    for release in vm::RELEASES.iter().filter(|release| MATRIX.contains(&release.label)) {
        let name = format!("live tests on kernel {}", release.label);
        parts.push(part(&name, || {
            Ok(match vm::live_tests(release, &artifacts, VM_TIMEOUT)? {
                vm::Outcome::Ran { status, lines } => Tally::of(&lines, status == 0),
                vm::Outcome::Skipped { reason } => Tally::skipped(&name, &reason),
            })
        }));
    }
    parts
}

fn not_live() -> Result<Tally> {
    watch(cargo().args(["test", "--workspace", "--exclude", "tracer-ebpf", "--no-fail-fast"]))
}

fn live_here(artifacts: &Artifacts) -> Result<Tally> {
    if !is_root() {
        return Ok(Tally::skipped(
            "live tests on this machine",
            "only root may attach to the kernel; run this as root",
        ));
    }
    let program = artifacts.live_tests.as_ref().context("the live tests were not built")?;
    // The reasons of skipped tests are printed by tests that pass, whose output is kept back otherwise.
    let mut tests = command(program);
    tests.args(["--test-threads=1", "--show-output"]);
    tests.env("MEMTRACE_BIN", &artifacts.memtrace).env("MEMTRACE_WORKLOAD", &artifacts.workload);
    watch(&mut tests)
}

fn part(name: &str, work: impl FnOnce() -> Result<Tally>) -> Part {
    eprintln!("test: {name}");
    let start = Instant::now();
    let tally = work().unwrap_or_else(|error| Tally::broken(&format!("{error:#}")));
    Part { name: name.to_owned(), time: start.elapsed(), tally }
}

/// Runs it with its output passed on, and counts.
fn watch(command: &mut Command) -> Result<Tally> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(command))?;
    let (sender, receiver) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as _),
        child.stderr.take().map(|err| Box::new(err) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    drop(sender);
    let mut lines = Vec::new();
    for line in receiver {
        // Whoever reads our output may be gone; the tests run on.
        let _ = writeln!(std::io::stdout(), "{line}");
        lines.push(line);
    }
    let status = child.wait().with_context(|| format!("lost `{}`", shown(command)))?;
    Ok(Tally::of(&lines, status.success()))
}

fn report(parts: &[Part]) -> ExitCode {
    let mut sum = Tally::default();
    println!();
    for part in parts {
        let seconds = part.time.as_secs_f64();
        println!("{:<32} {seconds:>6.1} s  {}", part.name, part.tally);
        for reason in &part.tally.reasons {
            println!("    {reason}");
        }
        sum.add(&part.tally);
    }
    // Alone on the last line, in the form that a CI reads.
    println!("{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
