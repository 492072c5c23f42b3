//! The nightly toolchain: it must be there (rustup's work, not ours), and its rust-src is added.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Purpose;
use crate::{
    command::{command, find, output, succeeds},
    task::Task,
};

/// What `rustc +nightly` says about itself.
pub(super) struct Nightly {
    pub(super) sysroot: PathBuf,
    pub(super) llvm_major: u32,
}

impl Nightly {
    pub(super) fn ask() -> Result<Self> {
        if find("rustup").is_none() {
            bail!(
                "rustup is not on PATH; install rustup with a stable and a nightly toolchain, then run this again"
            );
        }
        if !succeeds(command("rustup").args(["run", "nightly", "rustc", "--version"])) {
            bail!(
                "rustup has no nightly toolchain; run `rustup toolchain install nightly`, then run this again"
            );
        }
        let rustc = || {
            let mut rustc = command("rustup");
            rustc.args(["run", "nightly", "rustc"]);
            rustc
        };
        let sysroot = output(rustc().args(["--print", "sysroot"]))?;
        let version = output(rustc().arg("-vV"))?;
        let llvm_major = llvm_major(&version)
            .with_context(|| format!("`rustc +nightly -vV` names no LLVM version; it said:\n{version}"))?;
        Ok(Self { sysroot: PathBuf::from(sysroot.trim()), llvm_major })
    }
}

pub(super) fn look(_: Purpose) -> Result<Option<String>> {
    let core = Nightly::ask()?.sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    Ok(core.exists().then(|| "there".to_owned()))
}

pub(super) fn install(_: Purpose, task: &Task) -> Result<()> {
    task.run(command("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]))
        .context("run `rustup component add rust-src --toolchain nightly` by hand and read what it says")
}

fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_major_is_read_from_rustc() {
        assert_eq!(
            llvm_major("rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n"),
            Some(22)
        );
        assert_eq!(llvm_major("rustc 1.97.0-nightly\n"), None);
    }
}
