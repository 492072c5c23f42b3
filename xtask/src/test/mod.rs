//! `cargo xtask test`: every test. Parts follow each other and none stops the next; the last line is the sum.

pub(crate) mod tally;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;

use self::tally::Tally;
use crate::{
    artifact::{Artifacts, has_live_tests},
    command::cargo,
    live,
    matrix::{self, Column},
    setup::{Purpose, set_up},
    side_by_side::side_by_side,
    vm,
};

/// Run every test: without root, on this machine's kernel, and in virtual machines
#[derive(Args)]
pub(crate) struct Test {}

/// The kernels that must be green beside this machine's, side by side, and what each runs of the live tests: what depends
/// on the kernel. All tests on every kernel are `cargo xtask vm --all`.
const MATRIX: &[(&str, &str)] = &[
    (
        "6.1",
        "attach::every attach::classic attach::charges doctor::the_report sites::every_way its_end_waits",
    ),
    (
        "6.12",
        "attach::every attach::classic attach::charges lines::every_way kinds:: disjoint:: dirty::every_way \
         dead_cgroups::every_way oom::every_alternative",
    ),
];
/// Emulated, such a part of the live tests takes some five minutes, on a busy machine a multiple of that.
const VM_TIMEOUT: Duration = Duration::from_secs(1500);

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
    let mut columns = Vec::new();
    let here = "live tests on this machine";
    let mut parts = vec![
        built,
        part(here, || {
            let Some(ran) = live::here(&artifacts, None, &[])? else {
                return Ok(Tally::skipped(here, live::NOT_ROOT));
            };
            let tally = Tally::of(&ran.lines, ran.success);
            columns.extend(Column::of(&ran.lines, &tally, false));
            Ok(tally)
        }),
    ];
    for (part, column) in side_by_side(MATRIX, |(label, tests)| in_guest(label, tests, &artifacts)) {
        parts.push(part);
        columns.extend(column);
    }
    println!("\n{}", matrix::table(&columns));
    parts
}

fn in_guest(label: &str, tests: &str, artifacts: &Artifacts) -> (Part, Option<Column>) {
    let name = format!("live tests on kernel {label}");
    let mut column = None;
    let part = part(&name, || {
        let release = label.parse().map_err(anyhow::Error::msg)?;
        Ok(match vm::live_tests(release, artifacts, None, tests, VM_TIMEOUT)? {
            vm::Outcome::Ran { ran, emulated } => {
                let tally = Tally::of(&ran.lines, ran.success);
                column = Column::of(&ran.lines, &tally, emulated);
                tally
            }
            vm::Outcome::Skipped { reason } => Tally::skipped(&name, &reason),
        })
    });
    (part, column)
}

fn not_live() -> Result<Tally> {
    let ran =
        live::watch(cargo().args(["test", "--workspace", "--exclude", "tracer-ebpf", "--no-fail-fast"]))?;
    Ok(Tally::of(&ran.lines, ran.success))
}

fn part(name: &str, work: impl FnOnce() -> Result<Tally>) -> Part {
    eprintln!("test: {name}");
    let start = Instant::now();
    let tally = work().unwrap_or_else(|error| Tally::broken(&format!("{error:#}")));
    Part { name: name.to_owned(), time: start.elapsed(), tally }
}

fn report(parts: &[Part]) -> ExitCode {
    let mut sum = Tally::default();
    println!();
    for part in parts {
        let seconds = part.time.as_secs_f64();
        println!("{:<32} {seconds:>6.1} s  {}", part.name, part.tally);
        for skip in part.tally.skips() {
            println!("    skipping {skip}");
        }
        sum.add(&part.tally);
    }
    // Near the end, which is what is kept of a long log.
    for part in parts {
        for failure in part.tally.failures() {
            println!("failed: {}: {failure}", part.name);
        }
    }
    // Alone on the last line, in the form that a CI reads.
    println!("{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
