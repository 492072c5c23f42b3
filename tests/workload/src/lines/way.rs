//! The ways in which bytes get into a stream; each tells what the kernel took.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use io_uring::{IoUring, opcode, types::Fd};
use rustix::{
    fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create, sendfile},
    io::{Errno, write, writev},
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
    pipe::{IoSliceRaw, SpliceFlags, pipe, splice, tee, vmsplice},
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
    /// send(2), to a socket
    Send,
    /// sendmsg(2) with a thousand segments, to a socket
    Sendmsg,
    /// A write that is handed to io_uring
    Uring,
    Splice,
    Tee,
    Vmsplice,
    Sendfile,
}

impl By {
    /// Nobody could look at the bytes.
    fn moves(self) -> bool {
        matches!(self, By::Splice | By::Tee | By::Vmsplice | By::Sendfile)
    }
}

const SEGMENTS: usize = 1000;

/// A way, ready for use.
pub(crate) struct Out<'a> {
    fd: BorrowedFd<'a>,
    by: By,
    /// A file that is moved from; the reading end of a pipe that is copied from.
    file: Option<OwnedFd>,
    ring: Option<IoUring>,
    /// What memory is moved from: it must not change before its reader has it, which nobody tells.
    page: Vec<u8>,
    random: Random,
}

impl<'a> Out<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, by: By, text: &str, length: usize) -> Result<Self> {
        let page: Vec<u8> = if by.moves() { text.bytes().cycle().take(length).collect() } else { Vec::new() };
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
            By::Tee => {
                let (out, into) = pipe().context("cannot make a pipe")?;
                let filled = write(&into, &page).context("cannot fill a pipe")?;
                ensure!(filled == page.len(), "a pipe holds only {filled} bytes; give a smaller --length");
                Some(out)
            }
            _ => None,
        };
        let ring = match by {
            By::Uring => Some(IoUring::new(1).context("cannot set up io_uring; is it disabled here?")?),
            _ => None,
        };
        Ok(Self { fd, by, file, ring, page, random: Random(length as u64) })
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
                    if self.by.moves() {
                        truth.moved(taken as u64);
                    } else {
                        truth.wrote(done);
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
            (By::Send, _) => send(self.fd, bytes, SendFlags::NOSIGNAL),
            (By::Sendmsg, _) => {
                let segments = segments(bytes, &mut self.random);
                sendmsg(self.fd, &segments, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            }
            (By::Uring, _) => self.submit(bytes),
            (By::Tee, Some(pipe)) => tee(pipe, self.fd, length, SpliceFlags::empty()),
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

    fn submit(&mut self, bytes: &[u8]) -> rustix::io::Result<usize> {
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let ring = self.ring.as_mut().ok_or(Errno::INVAL)?;
        // At no offset: a stream has none.
        let write = opcode::Write::new(Fd(self.fd.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
            .offset(u64::MAX)
            .build();
        // SAFETY: the bytes outlive the write, whose end is waited for.
        unsafe { ring.submission().push(&write) }.map_err(|_| Errno::BUSY)?;
        ring.submit_and_wait(1).map_err(errno)?;
        let done = ring.completion().next().ok_or(Errno::IO)?;
        usize::try_from(done.result()).map_err(|_| Errno::from_raw_os_error(-done.result()))
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
