//! `cargo xtask top`: sets up, builds and runs the live view; with `--demo` beside containers of its own.

mod demo;

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use clap::Args;

use self::demo::Demo;
use crate::{
    artifact,
    command::{command, is_root, not_started, status},
    setup::{Purpose, set_up},
    workspace,
};

/// Set up, build and run `memtrace top`
#[derive(Args)]
pub(crate) struct Top {
    /// Start three small workloads to look at (one grows, one logs, one idles); they are removed afterwards
    #[arg(long)]
    demo: bool,
    /// Everything is built already: how this command calls itself as root
    #[arg(long, hide = true)]
    built: bool,
    /// Passed on to `memtrace top`
    #[arg(last = true)]
    args: Vec<String>,
}

impl Top {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !self.built {
            set_up(Purpose::Build)?;
            artifact::memtrace()?;
            if self.demo {
                artifact::workload()?;
            }
        }
        let mut top = command(workspace::target().join("release/memtrace"));
        top.arg("top").args(&self.args);
        if !self.demo {
            let mut top = if is_root() { top } else { as_root(&top) };
            // The view takes our place, with our terminal and its own exit status.
            let error = top.exec();
            return Err(error).with_context(|| not_started(&top));
        }
        if is_root() { self.beside_demo(top) } else { self.again_as_root() }
    }

    fn beside_demo(&self, top: Command) -> Result<ExitCode> {
        let demo = Demo::start(&artifact::workload_path())?;
        demo.beside(top)
    }

    fn again_as_root(&self) -> Result<ExitCode> {
        let mut again =
            command(std::env::current_exe().context("cannot find the path of xtask; is /proc mounted?")?);
        again.args(["top", "--demo", "--built", "--"]).args(&self.args);
        let status = status(&mut as_root(&again))?;
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }
}

fn as_root(inner: &Command) -> Command {
    eprintln!("top: only root may attach to the kernel; asking sudo");
    let mut sudo = command("sudo");
    sudo.arg("--preserve-env=CARGO_TARGET_DIR").arg("--").arg(inner.get_program()).args(inner.get_args());
    sudo
}
