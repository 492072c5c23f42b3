//! Slab: empty files, each an inode and a dentry that stay as long as the file.

use std::{fs::File, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{amount::Hold, report};

/// Make empty files, which are slab
#[derive(Args)]
pub(crate) struct Slab {
    /// Where; a directory on tmpfs
    dir: PathBuf,
    /// How many
    #[arg(long)]
    files: u32,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl Slab {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        for number in 0..self.files {
            let path = self.dir.join(format!("file-{number}"));
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        report::done_then_hold(u64::from(self.files), self.hold)
    }
}
