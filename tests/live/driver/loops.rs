//! A file system in a file, on a loop device.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{MIB, guard, output, scratch, wait_for};

/// Ends with the value.
pub struct Loop {
    pub image: PathBuf,
    pub mount: PathBuf,
}

impl Loop {
    /// Of so many MiB; or why there is none.
    pub fn mount(kind: &str, mib: u64) -> Result<Loop, String> {
        let known = fs::read_to_string("/proc/filesystems").expect("it is there");
        if !known.lines().any(|line| line.trim() == kind) {
            return Err(format!("this kernel has no {kind}"));
        }
        // Its own program: the shell of the emulated machine would take busybox's, which knows no ext4.
        let (name, words) = match kind {
            "ext4" => ("mke2fs", "-q -F -t ext4"),
            _ => ("mkfs.xfs", "-q -f"),
        };
        let places = ["/usr/sbin", "/sbin", "/bin"].map(|place| Path::new(place).join(name));
        let Some(make) = places.iter().find(|path| path.exists() && !path.is_symlink()) else {
            return Err(format!("there is no {name}; `cargo xtask setup --for test` installs it"));
        };
        let dir = scratch::dir("loop");
        let (image, mount) = (dir.join("image"), dir.join("mount"));
        fs::create_dir_all(&mount).expect("the disk can be written");
        let script = format!(
            "dd if=/dev/zero of={0} bs=1M count={mib} 2>/dev/null && sync {0} && {2} {words} {0} && mount -o loop {0} {1} && sync",
            image.display(),
            mount.display(),
            make.display(),
        );
        guard::at_end(&format!("umount {} 2>/dev/null", mount.display()));
        let made = output::of(Command::new("sh").args(["-c", &script]));
        assert!(
            made.status.success(),
            "no file system could be made: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Loop { image, mount })
    }

    /// Where the kernel keeps what its device may have dirty.
    fn bdi(&self) -> PathBuf {
        let dev = fs::metadata(&self.mount).expect("it is mounted").dev();
        Path::new("/sys/class/bdi").join(format!("{}:{}", dev >> 8 & 0xfff, dev & 0xff))
    }

    /// Keeps its device to a hundredth of what may be dirty on the host; the device, or `None` where that cannot be.
    pub fn strict(&self) -> Option<String> {
        let bdi = self.bdi();
        // The device is there after us, for others.
        guard::at_end(&format!("cd {} && echo 0 > strict_limit; echo 100 > max_ratio; cd /", bdi.display()));
        fs::write(bdi.join("strict_limit"), "1").ok()?;
        // The finest there is: bytes, where the kernel has that.
        fs::write(bdi.join("max_bytes"), (4 * MIB).to_string())
            .or_else(|_| fs::write(bdi.join("max_ratio"), "0"))
            .ok()?;
        Some(bdi.display().to_string())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        for (file, usual) in [("strict_limit", "0"), ("max_ratio", "100")] {
            // What was never asked of it is as it was.
            let _ = fs::write(self.bdi().join(file), usual);
        }
        wait_for("a loop device to be let go", || {
            let done = output::of(Command::new("umount").arg(&self.mount));
            done.status.success().then_some(())
        });
        let _ = fs::remove_file(&self.image);
    }
}
