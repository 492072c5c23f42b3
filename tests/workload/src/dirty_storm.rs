//! Storms that make pages of files dirty: by stores to a mapping, and by copying. What is dirty is dropped before anything is
//! written back, so that the disk has no part in them.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    amount::Bytes,
    dirty::Shared,
    file,
    mapping::page_size,
    report,
    storm::{reported, storm},
};

/// Map a file, store to each of its pages, unmap and truncate in a loop; print pages each second
#[derive(Args)]
pub(crate) struct MmapStorm {
    /// The file
    path: PathBuf,
    /// Its size
    #[arg(long, default_value = "64M")]
    bytes: Bytes,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Copy a file and truncate the copy in a loop; print bytes each second
#[derive(Args)]
pub(crate) struct CopyStorm {
    /// What to copy
    from: PathBuf,
    /// The copy
    path: PathBuf,
    /// Read and write so much at a time
    #[arg(long, default_value = "128k")]
    piece: Bytes,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl MmapStorm {
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.path.display();
        let file = file::create_to_map(&self.path)?;
        let done = storm(self.seconds, || {
            file.set_len(self.bytes.0).with_context(|| format!("cannot make {shown} longer"))?;
            let map = Shared::new(&file, self.bytes.0)?;
            for at in (0..self.bytes.0).step_by(page_size() as usize) {
                map.store(at);
            }
            drop(map);
            file.set_len(0).with_context(|| format!("cannot truncate {shown}"))?;
            Ok(self.bytes.0.div_ceil(page_size()))
        })?;
        report::line(&reported("pages", &done))
    }
}

impl CopyStorm {
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.path.display();
        let mut from =
            File::open(&self.from).with_context(|| format!("cannot open {}", self.from.display()))?;
        let mut to = file::create(&self.path)?;
        let mut piece = vec![0; self.piece.0 as usize];
        let done = storm(self.seconds, || {
            from.rewind()?;
            let mut copied = 0;
            loop {
                let count =
                    from.read(&mut piece).with_context(|| format!("cannot read {}", self.from.display()))?;
                if count == 0 {
                    break;
                }
                to.write_all(&piece[..count])
                    .with_context(|| format!("cannot write to {shown}; is its file system full?"))?;
                copied += count as u64;
            }
            ensure!(copied > 0, "{} is empty", self.from.display());
            to.set_len(0).and_then(|()| to.rewind()).with_context(|| format!("cannot truncate {shown}"))?;
            Ok(copied)
        })?;
        report::line(&reported("bytes", &done))
    }
}
