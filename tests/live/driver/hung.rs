//! File systems on which tasks hang for as long as the test wants: one that is frozen, and one whose server does not answer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{daemon::Daemon, guard, image::ran, loops::Loop, output, scratch, wait_for};

/// An ext4 on a loop device. Thawed with the value, and by the guard.
pub struct Frozen {
    disk: Loop,
}

impl Frozen {
    pub fn new() -> Result<Frozen, String> {
        let disk = Loop::mount("ext4", 16)?;
        // Before it is unmounted: undone is in reverse.
        guard::at_end(&format!("fsfreeze --unfreeze {} 2>/dev/null", disk.mount.display()));
        Ok(Frozen { disk })
    }

    pub fn mount(&self) -> &Path {
        &self.disk.mount
    }

    /// From now on whoever writes sleeps.
    pub fn freeze(&self) {
        ran(Command::new("fsfreeze").arg("--freeze").arg(&self.disk.mount));
    }

    /// One that is not frozen is left as it is.
    pub fn thaw(&self) {
        let _ = output::of(Command::new("fsfreeze").arg("--unfreeze").arg(&self.disk.mount));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// A file that a server of FUSE exports. It answers again with the value's end, and the guard ends it.
pub struct Silent {
    pub file: PathBuf,
    server: Daemon,
}

impl Silent {
    pub fn new() -> Silent {
        let dir = scratch::dir("silent");
        let (file, export) = (dir.join("file"), dir.join("export"));
        fs::write(&file, vec![0; 1 << 20])
            .and_then(|()| fs::write(&export, ""))
            .expect("the disk can be written");
        let mut server = Command::new("qemu-storage-daemon");
        server
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=file,filename={}", file.display()))
            .arg("--export")
            .arg(format!("type=fuse,id=silent,node-name=file,mountpoint={}", export.display()));
        let mut server = Daemon::start(server, &dir, "qemu-storage-daemon");
        wait_for("the export to be there", || {
            server.lives();
            let mounts = fs::read_to_string("/proc/mounts").expect("it is there");
            mounts.contains(&format!(" {} ", export.display())).then_some(())
        });
        Silent { file: export, server }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.server.pid() as i32).expect("it has a number");
        kill_process(pid, signal).expect("it is our child, not yet waited for");
    }

    /// From now on whoever opens the file sleeps.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.go_on();
    }
}
