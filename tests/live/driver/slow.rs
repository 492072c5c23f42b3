//! A disk that takes as many bytes a second as it is told to: a file that a daemon lets through slowly (FUSE), a loop
//! device on it, and a file system. It needs no network and no module.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{daemon::Daemon, guard, image::ran, output, scratch, throttle, wait_for};

pub struct SlowDisk {
    /// Where it is mounted.
    pub mount: PathBuf,
    dir: PathBuf,
    daemon: Daemon,
}

impl SlowDisk {
    /// Of so many MiB, empty, at full speed.
    pub fn new(mib: u64) -> SlowDisk {
        let dir = scratch::dir("slow");
        let (file, export, mount) = (dir.join("file"), dir.join("export"), dir.join("mount"));
        fs::create_dir(&mount).and_then(|()| fs::write(&export, "")).expect("the disk can be written");
        ran(Command::new("truncate").arg(format!("--size={mib}M")).arg(&file));
        ran(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1"]).arg(&file));
        let shown = dir.display();
        let mut daemon = Command::new("qemu-storage-daemon");
        daemon
            .arg("--chardev")
            .arg(format!("socket,id=control,path={shown}/control,server=on,wait=off"))
            .args(["--monitor", "control", "--object", "throttle-group,id=pace", "--blockdev"])
            // Past the page cache: what it writes must not be dirty once more.
            .arg(format!("driver=file,node-name=file,filename={shown}/file,cache.direct=on"))
            .args(["--blockdev", "driver=throttle,node-name=slow,throttle-group=pace,file=file", "--export"])
            .arg(format!("type=fuse,id=slow,node-name=slow,writable=on,mountpoint={shown}/export"));
        let daemon = throttle::start(daemon, &dir, &export);
        // What is not written yet goes with its file; the rest would take its time.
        guard::at_end(&format!(
            "(rm -rf {0}/*; umount {0} || umount -l {0}; true) 2>/dev/null",
            mount.display()
        ));
        ran(Command::new("mount").args(["-o", "loop"]).arg(&export).arg(&mount));
        SlowDisk { mount, dir, daemon }
    }

    /// Bytes a second that it takes from now on; 0: as many as come.
    pub fn pace(&self, bytes_per_s: u64) {
        self.tell(bytes_per_s).expect("the daemon of the slow disk takes commands");
    }

    /// Answers nothing as long as the value lives.
    pub fn hang(&self) -> Hangs {
        let pid = Pid::from_raw(self.daemon.pid() as i32).expect("no process has the id 0");
        kill_process(pid, Signal::STOP).expect("the daemon runs");
        Hangs(pid)
    }

    fn tell(&self, bytes_per_s: u64) -> std::io::Result<()> {
        throttle::limit(&self.dir.join("control"), "bps-write", bytes_per_s)
    }
}

/// A disk that does not answer.
pub struct Hangs(Pid);

impl Drop for Hangs {
    fn drop(&mut self) {
        // One that is gone was ended by the guard.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The emulated machine's second disk, which takes a quarter of a mebibyte a second, with a file system whose write-back
/// knows no cgroups (vfat).
pub struct EmulatedDisk {
    pub mount: PathBuf,
}

impl EmulatedDisk {
    pub fn mount() -> EmulatedDisk {
        // Of a long queue everything would be under way to the disk at once, and be waited for at the end.
        for (file, value) in [("nr_requests", "4"), ("max_sectors_kb", "512")] {
            fs::write(format!("/sys/block/vdb/queue/{file}"), value).expect("a disk has a queue");
        }
        let mount = scratch::dir("emulated");
        ran(Command::new("mount")
            .args(["-t", "vfat", "-o", "codepage=437,iocharset=ascii", "/dev/vdb"])
            .arg(&mount));
        EmulatedDisk { mount }
    }
}

impl Drop for EmulatedDisk {
    fn drop(&mut self) {
        empty(&self.mount);
        wait_for("the emulated disk to be let go", || {
            output::of(Command::new("umount").arg(&self.mount)).status.success().then_some(())
        });
    }
}

/// What is not written yet goes with its file.
fn empty(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // One that does not answer is ended by the guard.
        let _ = self.tell(0);
        empty(&self.mount);
        wait_for("the slow disk to be let go", || {
            output::of(Command::new("umount").arg(&self.mount)).status.success().then_some(())
        });
    }
}
