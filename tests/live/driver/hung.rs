//! File systems on which tasks hang for as long as the test wants: one that is frozen, and one whose server does not answer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    cgroup::Cgroup, daemon::Daemon, guard, image::ran, loops::Loop, output, scratch, throttle, wait_for,
};

/// State of a task, and how often it has left a processor.
fn stands(tid: u32) -> Option<(char, String)> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let switches = status.lines().filter(|line| line.contains("ctxt_switches:")).collect();
    Some((state(tid)?, switches))
}

pub fn state(tid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Until a task is blocked and stays so: a sleep that ends, as in its start, is none.
pub fn wait_until_hung(tid: u32) {
    wait_for("the task to hang", || {
        let before = stands(tid).filter(|(state, _)| *state == 'D')?;
        thread::sleep(Duration::from_millis(200));
        (stands(tid)? == before).then_some(())
    });
}

/// A process in a cgroup that does what the script says; ends with the value, as soon as it can.
pub struct Hung(Child);

impl Hung {
    pub fn start(cgroup: &Cgroup, script: &str) -> Hung {
        let script = format!("echo $$ > {}/cgroup.procs; {script}", cgroup.dir().display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        Hung(command.spawn().expect("there is a shell"))
    }

    /// Opened before, so that only the write waits.
    pub fn writer(cgroup: &Cgroup, file: &Path) -> Hung {
        let hung = Hung::start(
            cgroup,
            &format!("exec dd if=/dev/zero bs=1k count=1 conv=notrunc of={} 2>/dev/null", file.display()),
        );
        wait_until_hung(hung.pid());
        hung
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn state(&self) -> Option<char> {
        state(self.pid())
    }

    /// Waits until it ended by itself, and did what it was to do.
    pub fn wait(mut self) {
        let status = wait_for("it to end", || self.0.try_wait().expect("it is our child"));
        assert!(status.success(), "it failed: {status}");
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // What it waits for may end with a value that is dropped after it: then it goes without being waited for.
        for _ in 0..100 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

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

/// A file that a server of FUSE exports, which ends with the value.
///
/// The server takes requests and is slow to no end with them: one that it has not taken yet is withdrawn by a signal. Who is to
/// hang in a request reads with `O_DIRECT`: the page cache's own reads are waited for as for a page, which a signal ends.
pub struct Silent {
    pub file: PathBuf,
    control: PathBuf,
    server: Daemon,
}

/// Of the file.
const SILENT: u64 = 1 << 30;
/// What is read in a second at first: some ten blocks, so that one who reads them goes on for hours.
const PACE: u64 = 40_960;

impl Silent {
    pub fn new() -> Silent {
        let dir = scratch::dir("silent");
        let (file, export, control) = (dir.join("file"), dir.join("export"), dir.join("control"));
        // Sparse: more than is ever read.
        let made = fs::File::create(&file).and_then(|file| file.set_len(SILENT));
        made.and_then(|()| fs::write(&export, "")).expect("the disk can be written");
        let mut server = Command::new("qemu-storage-daemon");
        server
            .arg("--chardev")
            .arg(format!("socket,id=control,path={},server=on,wait=off", control.display()))
            .args(["--monitor", "control", "--object", "iothread,id=own"])
            .args(["--object", &format!("throttle-group,id=pace,x-bps-read={PACE}"), "--blockdev"])
            .arg(format!("driver=file,node-name=file,filename={}", file.display()))
            .args(["--blockdev", "driver=throttle,node-name=slow,throttle-group=pace,file=file", "--export"])
            .arg(format!("type=fuse,id=silent,node-name=slow,iothread=own,mountpoint={}", export.display()));
        let server = throttle::start(server, &dir, &export);
        Silent { file: export, control, server }
    }

    /// From now on whoever reads the file sleeps.
    pub fn stop(&self) {
        throttle::limit(&self.control, "bps-read", 1).expect("the server takes commands");
    }

    /// It ends, and whoever waits for it gets an error: a request that is held back once stays so whatever the pace.
    pub fn end(&self) {
        let pid = Pid::from_raw(self.server.pid() as i32).expect("it has a number");
        let _ = kill_process(pid, Signal::KILL);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.end();
        // Whoever still has it open keeps it from the server, which then ends at last.
        let _ = output::of(Command::new("umount").arg("-l").arg(&self.file));
    }
}
