//! File systems on which tasks hang for as long as the test wants: one that is frozen, and one whose server does not answer.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

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
///
/// The server takes requests and is slow to no end with them: one that it has not taken yet is withdrawn by a signal.
pub struct Silent {
    pub file: PathBuf,
    control: PathBuf,
    _server: Daemon,
}

impl Silent {
    pub fn new() -> Silent {
        let dir = scratch::dir("silent");
        let (file, export, control) = (dir.join("file"), dir.join("export"), dir.join("control"));
        let lines = "line\n".repeat(100_000);
        fs::write(&file, lines).and_then(|()| fs::write(&export, "")).expect("the disk can be written");
        let mut server = Command::new("qemu-storage-daemon");
        server
            .arg("--chardev")
            .arg(format!("socket,id=control,path={},server=on,wait=off", control.display()))
            .args(["--monitor", "control", "--object", "throttle-group,id=pace", "--blockdev"])
            .arg(format!("driver=file,node-name=file,filename={}", file.display()))
            .args(["--blockdev", "driver=throttle,node-name=slow,throttle-group=pace,file=file", "--export"])
            .arg(format!("type=fuse,id=silent,node-name=slow,mountpoint={}", export.display()));
        let mut server = Daemon::start(server, &dir, "qemu-storage-daemon");
        wait_for("the export to be there", || {
            server.lives();
            let mounts = fs::read_to_string("/proc/mounts").expect("it is there");
            mounts.contains(&format!(" {} ", export.display())).then_some(())
        });
        Silent { file: export, control, _server: server }
    }

    /// So many bytes a second are read; 0: as many as come.
    fn pace(&self, bytes_per_s: u64) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&self.control)?;
        let limits = format!(
            r#"{{"execute":"qom-set","arguments":{{"path":"/objects/pace","property":"limits","value":{{"bps-read":{bytes_per_s}}}}}}}"#
        );
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        // It greets first.
        answers.next().transpose()?;
        for command in [r#"{"execute":"qmp_capabilities"}"#, &limits] {
            writeln!(stream, "{command}")?;
            let answer = answers.next().transpose()?.unwrap_or_default();
            assert!(answer.contains("return"), "{command}: {answer}");
        }
        Ok(())
    }

    /// From now on whoever reads the file sleeps.
    pub fn stop(&self) {
        self.pace(1).expect("the server takes commands");
    }

    pub fn go_on(&self) {
        // One that is gone holds nobody.
        let _ = self.pace(0);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.go_on();
    }
}
