//! `cargo xtask check`: everything about the source that can be said without running the tests.

mod file_size;
mod licence;
mod stage_order;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Args;

use crate::{
    command::{cargo, run},
    docs,
    setup::{Purpose, set_up},
};

/// Formatting, lints on host and BPF target, stage order, file sizes, licences, generated pages
#[derive(Args)]
pub(crate) struct Check {}

type Step = (&'static str, fn() -> Result<()>);

/// Cheap ones first.
const STEPS: &[Step] = &[
    ("format", format),
    ("stage order", stage_order::check),
    ("file sizes", file_size::check),
    ("licences", licence::check),
    ("clippy on the host", clippy_host),
    ("clippy on the BPF target", clippy_bpf),
    ("generated pages", docs::check),
];

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(Purpose::Build)?;
        let mut failed = Vec::new();
        for (name, step) in STEPS {
            eprintln!("check: {name}");
            let start = Instant::now();
            let outcome = step();
            let time = start.elapsed().as_secs_f64();
            match outcome {
                Ok(()) => eprintln!("check: {name}: ok, {time:.1} s"),
                Err(error) => {
                    eprintln!("check: {name}: FAILED, {time:.1} s: {error:#}");
                    failed.push(*name);
                }
            }
        }
        if failed.is_empty() {
            eprintln!("check: ok");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("check: failed: {}", failed.join(", "));
        Ok(ExitCode::FAILURE)
    }
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy_host() -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    // The live tests are code, too.
    clippy.args(["--features", "tracer/live", "--", "--deny", "warnings"]);
    run(&mut clippy)
}

fn clippy_bpf() -> Result<()> {
    let mut clippy = cargo();
    clippy.args([
        "+nightly",
        "clippy",
        "--quiet",
        "--package",
        "tracer-ebpf",
        "--bins",
        "--features",
        "ebpf",
    ]);
    clippy.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--", "--deny", "warnings"]);
    run(&mut clippy)
}
