//! Slab: empty files, each an inode and a dentry that stay as long as the file.

use std::{fs::File, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{amount::Hold, pace::paced, report};

/// Make empty files, which are slab
#[derive(Args)]
pub(crate) struct Slab {
    /// Where; a directory on tmpfs
    dir: PathBuf,
    /// How many
    #[arg(long)]
    files: u32,
    /// At most so many each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<u32>,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl Slab {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let done = paced(Some(self.files.into()), self.rate.map(u64::from), 1, |from, to| {
            for number in from..to {
                let path = self.dir.join(format!("file-{number}"));
                File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            }
            Ok(())
        })?;
        report::done_then_hold(done, self.hold)
    }
}
