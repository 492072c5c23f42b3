//! The command line of `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{bench, bless, check, docs, install, lab, setup, test, top, vm};

/// Everything a developer of memtrace does
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Setup),
    Check(check::Check),
    Test(test::Test),
    Vm(vm::Vm),
    Lab(lab::Lab),
    Bench(bench::Bench),
    Bless(bless::Bless),
    Docs(docs::Docs),
    Install(install::Install),
    Top(top::Top),
}

pub(crate) fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Setup(setup) => setup.run(),
            Self::Check(check) => check.run(),
            Self::Test(test) => test.run(),
            Self::Vm(vm) => vm.run(),
            Self::Lab(lab) => lab.run(),
            Self::Bench(bench) => bench.run(),
            Self::Bless(bless) => bless.run(),
            Self::Docs(docs) => docs.run(),
            Self::Install(install) => install.run(),
            Self::Top(top) => top.run(),
        }
    }
}
