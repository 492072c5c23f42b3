//! `cargo xtask bless`: takes what the code says now as the golden files and generated pages.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    command::{cargo, run},
    docs,
};

/// Accept the present output as the golden files, and write the generated pages
#[derive(Args)]
pub(crate) struct Bless {}

impl Bless {
    pub(crate) fn run(self) -> Result<ExitCode> {
        // A test asks whether the pages are fresh.
        docs::write()?;
        run(cargo()
            .args(["test", "--package", "tracer"])
            .env("INSTA_UPDATE", "always")
            .env("MEMTRACE_BLESS", "1"))?;
        eprintln!("bless: look at `git diff` before you commit");
        Ok(ExitCode::SUCCESS)
    }
}
