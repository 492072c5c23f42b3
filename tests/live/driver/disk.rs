//! A directory whose files go through the page cache and can be written back. The emulated machine has only tmpfs, so
//! there a file system is made in a file.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{MIB, guard, in_vm, output, scratch};

/// A fresh directory.
pub fn dir(name: &str) -> PathBuf {
    static DISK: OnceLock<Option<PathBuf>> = OnceLock::new();
    match DISK.get_or_init(|| in_vm().then(image)) {
        None => scratch::dir(name),
        Some(disk) => {
            let dir = disk.join(name);
            fs::create_dir_all(&dir).expect("the disk can be written");
            dir
        }
    }
}

/// A file of so many bytes in it.
pub fn file(name: &str, bytes: u64) -> PathBuf {
    let path = dir(name).join("file");
    fill(&path, bytes);
    path
}

fn fill(path: &Path, bytes: u64) {
    let mut file = fs::File::create(path).expect("the disk can be written");
    let piece = vec![b'd'; MIB as usize];
    for _ in 0..bytes / MIB {
        file.write_all(&piece).expect("there is room on the disk");
    }
    file.sync_all().expect("the disk can be written");
}

/// Filled, not sparse: a page of the file that a write makes is charged to whoever wrote into the file system.
fn image() -> PathBuf {
    let image = scratch::dir("disk").join("image");
    fill(&image, 256 * MIB);
    let mount = scratch::dir("mounted");
    let script = format!(
        "mke2fs -F -t ext4 {0} >/dev/null && mount -o loop {0} {1}",
        image.display(),
        mount.display()
    );
    let made = output::of(Command::new("sh").args(["-c", &script]));
    assert!(made.status.success(), "no file system could be made: {}", String::from_utf8_lossy(&made.stderr));
    guard::at_end(&format!("umount {}", mount.display()));
    mount
}
