//! The `memtrace` command: reads the command line, runs one command, says what went wrong and with which status.

use std::process::ExitCode;

use clap::Parser as _;
use tracer::cli::Cli;

fn main() -> ExitCode {
    tracer::command::run(Cli::parse()).unwrap_or_else(|failure| failure.report())
}
