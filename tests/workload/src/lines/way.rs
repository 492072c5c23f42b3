//! The ways in which bytes get into a stream; each tells what the kernel took.

use std::{
    io::IoSlice,
    os::fd::{BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use rustix::{
    fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create, sendfile},
    io::{Errno, write, writev},
    pipe::{IoSliceRaw, SpliceFlags, splice, vmsplice},
};

use super::{shape::Random, truth::Truth};

/// How it is written
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Write,
    /// write(2) that never waits: a full pipe takes a part, or nothing
    Nonblocking,
    /// writev(2) with a thousand segments, empty ones too
    Vectors,
    Splice,
    Vmsplice,
    Sendfile,
}

const SEGMENTS: usize = 1000;

/// A way, ready for use.
pub(crate) struct Out<'a> {
    fd: BorrowedFd<'a>,
    by: By,
    /// A file that is moved from.
    file: Option<OwnedFd>,
    /// What memory is moved from: it must not change before its reader has it, which nobody tells.
    page: Vec<u8>,
    random: Random,
}

impl<'a> Out<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, by: By, text: &str, length: usize) -> Result<Self> {
        let page: Vec<u8> = match by {
            By::Splice | By::Vmsplice | By::Sendfile => text.bytes().cycle().take(length).collect(),
            _ => Vec::new(),
        };
        if by == By::Nonblocking {
            let flags = fcntl_getfl(fd).context("cannot ask for the flags of the stream")?;
            fcntl_setfl(fd, flags | OFlags::NONBLOCK).context("cannot make the stream non-blocking")?;
        }
        let file = match by {
            By::Splice | By::Sendfile => {
                let file =
                    memfd_create(c"lines", MemfdFlags::CLOEXEC).context("cannot make a file in memory")?;
                let mut done = 0;
                while done < page.len() {
                    done += write(&file, &page[done..]).context("cannot fill a file in memory")?;
                }
                Some(file)
            }
            _ => None,
        };
        Ok(Self { fd, by, file, page, random: Random(length as u64) })
    }

    /// All of it, in as many system calls as the kernel asks for; of what is moved only the length counts. `false`: this
    /// kernel knows no such way.
    pub(crate) fn put(&mut self, bytes: &[u8], truth: &mut Truth) -> Result<bool> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.once(rest) {
                Ok(0) => bail!("the stream takes no more; is its reader gone?"),
                Ok(taken) => {
                    let (done, left) = rest.split_at(taken);
                    match self.by {
                        By::Write | By::Nonblocking | By::Vectors => truth.wrote(done),
                        By::Splice | By::Vmsplice | By::Sendfile => truth.moved(taken as u64),
                    }
                    rest = left;
                }
                Err(Errno::AGAIN) => thread::sleep(Duration::from_micros(300)),
                Err(Errno::INTR) => {}
                // Up to 5.11 nothing can be sent into a pipe.
                Err(Errno::INVAL) if self.by == By::Sendfile => return Ok(false),
                Err(error) => return Err(error).context("cannot write a log line; is its reader gone?"),
            }
        }
        Ok(true)
    }

    fn once(&mut self, bytes: &[u8]) -> rustix::io::Result<usize> {
        let length = bytes.len().min(self.page.len());
        let mut offset = 0;
        match (self.by, &self.file) {
            (By::Vectors, _) => {
                let segments = segments(bytes, &mut self.random);
                writev(self.fd, &segments)
            }
            (By::Splice, Some(file)) => {
                splice(file, Some(&mut offset), self.fd, None, length, SpliceFlags::empty())
            }
            (By::Sendfile, Some(file)) => sendfile(self.fd, file, Some(&mut offset), length),
            (By::Vmsplice, _) => {
                let segment = IoSliceRaw::from_slice(&self.page[..length]);
                // SAFETY: the pages are never written again, and stay until the process ends: `page` is leaked.
                unsafe { vmsplice(self.fd, &[segment], SpliceFlags::empty()) }
            }
            _ => write(self.fd, bytes),
        }
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.page));
    }
}

fn segments<'b>(bytes: &'b [u8], random: &mut Random) -> Vec<IoSlice<'b>> {
    let mut borders: Vec<usize> = (1..SEGMENTS).map(|_| random.below(bytes.len() + 1)).collect();
    borders.sort_unstable();
    borders.push(bytes.len());
    let mut from = 0;
    borders
        .into_iter()
        .map(|to| {
            let segment = IoSlice::new(&bytes[from..to]);
            from = to;
            segment
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_all_of_it() {
        let bytes: Vec<u8> = (0..=255).collect();
        let segments = segments(&bytes, &mut Random(1));
        assert_eq!(segments.len(), SEGMENTS);
        assert_eq!(segments.iter().flat_map(|segment| segment.iter().copied()).collect::<Vec<_>>(), bytes);
    }
}
