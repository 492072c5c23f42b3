//! An anonymous mapping whose pages are touched one by one: what is touched is what is charged.

use std::ptr;

use anyhow::{Context, Result, bail};
use rustix::{
    mm::{self, Advice, MapFlags, ProtFlags},
    param,
};

pub(crate) struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Maps whole pages for `bytes`, none of them touched yet.
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        if bytes == 0 {
            bail!("cannot map 0 bytes; give a size of at least one");
        }
        let length = usize::try_from(bytes.next_multiple_of(page_size()))
            .context("the size is more than this machine can address")?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new private mapping at an address of the kernel's choice overlaps nothing that exists.
        let start =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), length, protection, flags) }.with_context(|| {
                format!("cannot map {length} bytes; is there a limit on address space (ulimit -v)?")
            })?;
        let mapping = Self { start: start.cast(), length };
        // A huge page would charge 2 MiB for one touch. Kernels without huge pages refuse the advice: all the better.
        // SAFETY: the range is the mapping just made; the advice changes the size of its pages, not their content.
        let _ = unsafe { mm::madvise(start, length, Advice::LinuxNoHugepage) };
        Ok(mapping)
    }

    /// Writes to every page that starts in `from..to` (bytes into the mapping).
    pub(crate) fn touch(&mut self, from: u64, to: u64) {
        let end = to.min(self.length as u64);
        let mut at = from.next_multiple_of(page_size());
        while at < end {
            // SAFETY: `at` is below `length`, so this is inside the mapping, which lives as long as `self`; volatile,
            // since nobody reads it and the write must happen.
            unsafe { self.start.add(at as usize).write_volatile(1) };
            at += page_size();
        }
    }

    /// Its first bytes.
    pub(crate) fn bytes(&self, count: u64) -> &[u8] {
        assert!(count as usize <= self.length, "beyond the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`; writing to it takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start, count as usize) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is our own mapping, and nothing points into it any more.
        let _ = unsafe { mm::munmap(self.start.cast(), self.length) };
    }
}

pub(crate) fn page_size() -> u64 {
    param::page_size() as u64
}
