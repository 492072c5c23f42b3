//! Files that go through the page cache, which can be written back and dropped.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use rustix::{
    fs::{Advice, fadvise},
    mm::{self, MapFlags, ProtFlags},
};

use super::{MIB, guard, output, scratch};

/// A file of so many bytes.
pub fn file(name: &str, bytes: u64) -> PathBuf {
    let path = scratch::dir(name).join("file");
    let mut file = fs::File::create(&path).expect("the disk can be written");
    let piece = vec![b'd'; MIB as usize];
    for _ in 0..bytes / MIB {
        file.write_all(&piece).expect("there is room on the disk");
    }
    file.sync_all().expect("the disk can be written");
    path
}

/// Nothing of it is in the page cache any more.
pub fn forget(path: &Path) {
    let file = fs::File::open(path).expect("it is there");
    fadvise(&file, 0, None, Advice::DontNeed).expect("clean pages can be let go");
}

/// A file that the kernel swaps to. Ends with the value.
pub struct Swap(PathBuf);

impl Swap {
    /// With room for so many bytes; or why there is none.
    pub fn on(bytes: u64) -> Result<Swap, String> {
        let swap = Swap(file("swap", bytes));
        let path = swap.0.display().to_string();
        guard::at_end(&format!("swapoff {path} 2>/dev/null"));
        let script = format!("chmod 600 {path} && mkswap {path} && swapon {path}");
        let made = output::of(Command::new("sh").args(["-c", &script]));
        match made.status.success() {
            true => Ok(swap),
            false => {
                Err(format!("this machine cannot swap: {}", String::from_utf8_lossy(&made.stderr).trim()))
            }
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        output::of(Command::new("swapoff").arg(&self.0));
    }
}

/// What nobody uses goes. Removed cgroups that only it kept alive go with it: what earlier tests leave is a finding, and true.
pub fn drop_caches() {
    rustix::fs::sync();
    // Twice: what was dirty is clean by then.
    for what in ["1", "3"] {
        fs::write("/proc/sys/vm/drop_caches", what).expect("root may drop caches");
    }
}

/// Bytes of a file that are in the page cache. A kernel may let go of pages that nobody has used for a while though no memory is
/// short (`DAMON_RECLAIM`), so a file's length is no truth of what it pins.
pub fn cached(path: &Path) -> u64 {
    let file = fs::File::open(path).expect("it is ours");
    let length = file.metadata().expect("it is open").len() as usize;
    if length == 0 {
        return 0;
    }
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
    let start = unsafe { mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, &file, 0) };
    let start = start.expect("a file can be mapped");
    let page = rustix::param::page_size();
    let mut pages = vec![0u8; length.div_ceil(page)];
    // SAFETY: within the mapping that was made, and one byte for each of its pages.
    let told = unsafe { libc::mincore(start, length, pages.as_mut_ptr()) };
    // SAFETY: the mapping that was made; nothing of it is used any more.
    let _ = unsafe { mm::munmap(start, length) };
    assert_eq!(told, 0, "the kernel tells which pages of {} are cached", path.display());
    pages.iter().filter(|page| **page & 1 == 1).count() as u64 * page as u64
}
