//! The `memtrace` command: reads the command line, runs one command, says what went wrong and with which status.

use std::process::ExitCode;

use clap::Parser as _;
use tracer::cli::Cli;

fn main() -> ExitCode {
    match tracer::command::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
