//! `cargo xtask install`: puts the tool where `sudo memtrace` finds it.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    artifact,
    setup::{Purpose, set_up},
};

/// Build the tool and copy it to PREFIX/bin
#[derive(Args)]
pub(crate) struct Install {
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
}

impl Install {
    pub(crate) fn run(self) -> Result<ExitCode> {
        set_up(Purpose::Build)?;
        let built = artifact::memtrace()?;
        let bin = self.prefix.join("bin");
        let (to, beside) = (bin.join("memtrace"), bin.join(".memtrace.new"));
        // A running memtrace keeps its file: the new one is written beside it and takes its name.
        fs::create_dir_all(&bin)
            .and_then(|()| fs::copy(&built, &beside))
            .and_then(|_| fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&beside, &to))
            .with_context(|| {
                format!("cannot write {}; run it as root or choose another --prefix", to.display())
            })?;
        eprintln!("install: {}; now run `sudo memtrace top`", to.display());
        Ok(ExitCode::SUCCESS)
    }
}
