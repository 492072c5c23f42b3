//! `cargo xtask setup`: installs what a build, the tests or the benchmarks need on a fresh machine. A table of steps,
//! each with its reason and its own look whether there is anything to do.

mod bpf_linker;
mod nightly;
mod package;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{lock, task::Task, workspace};

/// Install what is missing; what is there is left alone
#[derive(Args)]
pub(crate) struct Setup {
    /// What for; each includes the ones before it
    #[arg(long = "for", value_enum, default_value = "build")]
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    Build,
    Test,
    Bench,
}

/// One thing to have. `look` says what is there already, or `None`.
struct Step {
    name: &'static str,
    why: &'static str,
    look: fn(Purpose) -> Result<Option<String>>,
    install: fn(Purpose, &Task) -> Result<()>,
}

/// Quick ones first; bpf-linker takes a minute to build.
const STEPS: &[Step] = &[
    Step {
        name: "Debian packages",
        why: "container runtimes and an emulator for the tests, other tools for the benchmarks",
        look: package::look,
        install: package::install,
    },
    Step {
        name: "rust-src",
        why: "the kernel side builds `core` for the BPF target, which no toolchain ships",
        look: nightly::look,
        install: nightly::install,
    },
    Step {
        name: "bpf-linker",
        why: "links the kernel side; it must read the bitcode of the nightly's own LLVM",
        look: bpf_linker::look,
        install: bpf_linker::install,
    },
];

impl Setup {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(self.purpose)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn set_up(purpose: Purpose) -> Result<()> {
    // Two at once would write over each other's files, and both install the same.
    let _lock = lock::take(&workspace::target().join("setup.lock"))?;
    for step in STEPS {
        let cannot = || format!("cannot set up {}", step.name);
        if let Some(found) = (step.look)(purpose).with_context(cannot)? {
            eprintln!("{}: {found}", step.name);
            continue;
        }
        let task = Task::start(step.name, step.why);
        (step.install)(purpose, &task).with_context(cannot)?;
        task.done();
    }
    Ok(())
}
