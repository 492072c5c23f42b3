//! Memory behind files: tmpfs, page cache that is read, page cache that is written.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::fs::{Advice, fadvise, fstatfs};

use crate::{
    amount::{Bytes, Hold},
    mapping::page_size,
    pace::paced,
    report,
};

/// The kernel's `TMPFS_MAGIC`, part of its ABI (`include/uapi/linux/magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

#[derive(Args)]
struct Amount {
    /// How much, as 4096, 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// At most so many bytes each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

/// Fill a file on tmpfs
#[derive(Args)]
pub(crate) struct Tmpfs {
    /// The file; its file system must be tmpfs
    path: PathBuf,
    #[command(flatten)]
    amount: Amount,
}

/// Write a file through the page cache
#[derive(Args)]
pub(crate) struct Write {
    /// The file, made anew
    path: PathBuf,
    #[command(flatten)]
    amount: Amount,
}

/// Read a file through the page cache
#[derive(Args)]
pub(crate) struct Read {
    /// The file
    path: PathBuf,
    /// At most so many bytes each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
    /// Drop the file from the page cache first, so that this reader is charged for it
    #[arg(long)]
    cold: bool,
}

impl Tmpfs {
    pub(crate) fn run(self) -> Result<()> {
        let file = create(&self.path)?;
        let kind = fstatfs(&file)
            .with_context(|| format!("cannot ask for the file system of {}", self.path.display()))?;
        if kind.f_type as u64 != TMPFS_MAGIC {
            bail!(
                "{} is not on tmpfs; give a path below /dev/shm or another tmpfs mount",
                self.path.display()
            );
        }
        fill(file, &self.path, &self.amount)
    }
}

impl Write {
    pub(crate) fn run(self) -> Result<()> {
        fill(create(&self.path)?, &self.path, &self.amount)
    }
}

impl Read {
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.path.display();
        let mut file = File::open(&self.path).with_context(|| format!("cannot open {shown}"))?;
        let length = file.metadata().with_context(|| format!("cannot ask for the size of {shown}"))?.len();
        if self.cold {
            file.sync_all()
                .with_context(|| format!("cannot write {shown} back before dropping its pages"))?;
            fadvise(&file, 0, None, Advice::DontNeed)
                .with_context(|| format!("cannot drop {shown} from the page cache"))?;
        }
        // No read-ahead: what is read is what is charged, at each moment.
        fadvise(&file, 0, None, Advice::Random)
            .with_context(|| format!("cannot turn read-ahead off for {shown}"))?;
        let mut buffer = Vec::new();
        let done = paced(Some(length), self.rate.map(|rate| rate.0), page_size(), |from, to| {
            buffer.resize((to - from) as usize, 0);
            file.read_exact(&mut buffer).with_context(|| format!("cannot read {shown}; was it made shorter?"))
        })?;
        // The buffer is memory of our own, which is no part of the truth.
        drop(buffer);
        report::done_then_hold(done, self.hold)
    }
}

pub(crate) fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// A shared mapping that is stored to must be of a file that may be read, too.
pub(crate) fn create_to_map(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn fill(mut file: File, path: &Path, amount: &Amount) -> Result<()> {
    let piece = vec![b'm'; 64 << 10];
    let rate = amount.rate.map(|rate| rate.0);
    let done = paced(Some(amount.total.0), rate, page_size(), |from, to| {
        let mut left = (to - from) as usize;
        while left > 0 {
            let now = left.min(piece.len());
            file.write_all(&piece[..now])
                .with_context(|| format!("cannot write to {}; is its file system full?", path.display()))?;
            left -= now;
        }
        Ok(())
    })?;
    report::done_then_hold(done, amount.hold)
}
