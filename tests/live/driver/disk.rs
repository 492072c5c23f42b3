//! Files that go through the page cache, which can be written back and dropped.

use std::{fs, io::Write as _, path::PathBuf};

use super::{MIB, scratch};

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

/// What nobody uses goes. Removed cgroups that only it kept alive go with it: what earlier tests leave is a finding, and true.
pub fn drop_caches() {
    rustix::fs::sync();
    // Twice: what was dirty is clean by then.
    for what in ["1", "3"] {
        fs::write("/proc/sys/vm/drop_caches", what).expect("root may drop caches");
    }
}
