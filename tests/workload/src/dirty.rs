//! A file whose pages are made dirty, or are not, in each of the ways there are.

use std::{
    ffi::c_void,
    fs::{self, File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    ptr,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate},
    mm::{self, MapFlags, ProtFlags},
};

use crate::{
    amount::{Bytes, Hold},
    mapping::{Mapping, page_size},
    pace::paced,
    report,
};

/// Bytes written at a time.
const PIECE: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// write(2)
    Buffered,
    /// write(2) past the page cache
    Direct,
    /// Stores to a shared mapping
    Mmap,
    /// Room without content
    Fallocate,
}

/// Make a file's pages dirty in a known way
#[derive(Args)]
pub(crate) struct Dirty {
    /// The file, made anew
    path: PathBuf,
    #[arg(long, value_enum, default_value = "buffered")]
    way: Way,
    /// How much, as 4096, 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// At most so many bytes each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<Bytes>,
    /// So many times over, each written back before the next
    #[arg(long, default_value = "1")]
    rounds: u32,
    /// Then write it back
    #[arg(long)]
    sync: bool,
    /// Remove its name before it is written
    #[arg(long)]
    unlink: bool,
    /// Then cut it to nothing, unwritten
    #[arg(long)]
    truncate: bool,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl Dirty {
    pub(crate) fn run(self) -> Result<()> {
        let shown = self.path.display();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        if self.way == Way::Direct {
            options.custom_flags(OFlags::DIRECT.bits() as i32);
        }
        let mut file = options.open(&self.path).with_context(|| format!("cannot make {shown}"))?;
        if self.unlink {
            fs::remove_file(&self.path).with_context(|| format!("cannot remove {shown}"))?;
        }
        let mut done = 0;
        for round in 0..self.rounds {
            if round > 0 {
                file.sync_data().with_context(|| format!("cannot write {shown} back"))?;
                file.seek(SeekFrom::Start(0)).with_context(|| format!("cannot go back in {shown}"))?;
            }
            done += self.fill(&mut file).with_context(|| format!("cannot write {shown}"))?;
        }
        if self.sync {
            file.sync_all().with_context(|| format!("cannot write {shown} back"))?;
        }
        if self.truncate {
            file.set_len(0).with_context(|| format!("cannot cut {shown}"))?;
        }
        report::done_then_hold(done, self.hold)
    }

    fn fill(&self, file: &mut File) -> Result<u64> {
        let (total, rate) = (self.total.0, self.rate.map(|rate| rate.0));
        match self.way {
            Way::Fallocate => {
                fallocate(&*file, FallocateFlags::empty(), 0, total)?;
                Ok(total)
            }
            Way::Mmap => {
                file.set_len(total)?;
                let map = Shared::new(file, total)?;
                paced(Some(total), rate, page_size(), |from, to| {
                    for at in (from..to).step_by(page_size() as usize) {
                        map.store(at);
                    }
                    Ok(())
                })
            }
            // From pages of its own, as direct writes must be.
            Way::Buffered | Way::Direct => {
                let source = Mapping::new(PIECE)?;
                paced(Some(total), rate, page_size(), |from, to| {
                    let mut left = to - from;
                    while left > 0 {
                        let now = left.min(PIECE);
                        file.write_all(source.bytes(now))?;
                        left -= now;
                    }
                    Ok(())
                })
            }
        }
    }
}

/// A file mapped so that stores reach it.
pub(crate) struct Shared {
    start: *mut c_void,
    length: usize,
}

impl Shared {
    pub(crate) fn new(file: &File, bytes: u64) -> Result<Shared> {
        let length = bytes as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
        let start = unsafe { mm::mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) };
        Ok(Shared { start: start.context("cannot map the file")?, length })
    }

    pub(crate) fn store(&self, at: u64) {
        assert!((at as usize) < self.length, "beyond the mapping");
        // SAFETY: within the mapping; the file is as long, and nobody else has it.
        unsafe { self.start.cast::<u8>().add(at as usize).write_volatile(1) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made; nothing of it is used any more.
        let _ = unsafe { mm::munmap(self.start, self.length) };
    }
}
