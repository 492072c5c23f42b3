//! What each command does, from options to views; exit statuses are decided here.

mod cgroups;
mod collect;
mod diagnose;
mod dirty;
mod doctor;
mod generate;
mod lines;
mod oom;
mod stuck;
mod syscalls;
mod top;

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    cli::{Cli, Command},
    kernel::{Facts, privilege},
    metric, pipeline,
    probe::attach::AttachError,
    view,
};

/// Why a command failed, and the status that says so.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    const RUN: u8 = 1;
    const NOT_PERMITTED: u8 = 3;

    fn new(status: u8, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string() }
    }

    /// One sentence to standard error.
    pub fn report(&self) -> ExitCode {
        // A closed standard error cannot be told anything.
        let _ = writeln!(io::stderr(), "memtrace: {}", self.message);
        ExitCode::from(self.status)
    }
}

/// What a command is about cannot be had on this kernel.
#[derive(Debug, thiserror::Error)]
#[error("{0}; `memtrace doctor` tells what the kernel lacks")]
struct Unserved(String);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let lacks = error.is::<AttachError>() || error.is::<Unserved>();
        let status = if lacks { Failure::NOT_PERMITTED } else { Failure::RUN };
        Failure::new(status, format!("{error:#}"))
    }
}

/// The status it ends with.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let done = match cli.command {
        Command::Diagnose(options) => return diagnose::run(*options),
        Command::Top(options) => top::run(*options),
        Command::Lines(options) => lines::run(*options),
        Command::Dirty(options) => dirty::run(*options),
        Command::Oom(options) => oom::run(*options),
        Command::Stuck(options) => stuck::run(*options),
        Command::Cgroups(options) => cgroups::run(*options),
        Command::Syscalls(options) => syscalls::run(*options),
        Command::Doctor(options) => doctor::run(&options),
        Command::GenerateDocs { page } => {
            let text = match page.as_str() {
                "probes" => view::doctor::markdown(),
                _ => {
                    metric::markdown()
                        + &metric::stream::markdown()
                        + &metric::dirty::markdown()
                        + &metric::call::markdown()
                        + &view::site::markdown()
                }
            };
            print(&text).map(drop)
        }
        Command::GenerateShare { dir } => generate::share(&dir),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Facts of this kernel, or the sentence that says what is missing.
fn facts() -> Result<Facts, Failure> {
    pipeline::facts().map_err(|error| Failure::new(Failure::NOT_PERMITTED, error))
}

/// Fails where a capability is missing without which no program can be loaded.
fn permitted(facts: &Facts) -> Result<(), Failure> {
    let needed = ["CAP_BPF", "CAP_PERFMON"];
    match facts.capabilities_missing.iter().find(|missing| needed.contains(&missing.as_str())) {
        None => Ok(()),
        Some(missing) => Err(Failure::new(
            Failure::NOT_PERMITTED,
            format!(
                "not permitted to {} ({missing} is missing): run it with sudo, or in a container with \
                 --privileged or the capabilities that `memtrace doctor` lists",
                privilege::purpose(missing)
            ),
        )),
    }
}

/// Writes to standard output; `false` when its reader is gone.
fn print(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Failure::RUN, format!("cannot write to standard output: {error}"))),
    }
}
