//! The emulator: starts it, reads its serial console, ends it when its time is up. With the processor's own
//! virtualisation where that works, else emulated.

use std::{
    fmt,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::guest::{Files, MARKER_EXIT, MARKER_UP};
use crate::command::{command, not_started, tail};

const PROGRAM: &str = "qemu-system-x86_64";

/// What the second disk takes in a second: less than anybody writes.
const SLOW_DISK_BYTES_PER_S: u64 = 256 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

/// How a guest's command ended, and what it printed.
pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) lines: Vec<String>,
}

/// The emulator's process, ended with this value: it is the only one that we may end.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A guest whose user space is up.
pub(super) struct Guest {
    _emulator: Emulator,
    console: Receiver<String>,
}

/// Boots until the guest's init has everything in place.
pub(super) fn boot(image: &Path, files: &Files, append: &str, accelerator: Accelerator) -> Result<Guest> {
    let (emulator, console) = start_emulator(image, files, append, accelerator)?;
    let start = Instant::now();
    let patience = accelerator.patience();
    let mut boot = String::new();
    loop {
        match console.recv_timeout(patience.saturating_sub(start.elapsed())) {
            Ok(line) if line == MARKER_UP => {
                eprintln!("vm: up after {:.1} s", start.elapsed().as_secs_f64());
                return Ok(Guest { _emulator: emulator, console });
            }
            Ok(line) => {
                boot.push_str(&line);
                boot.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the guest did not come up within {} s; its last words:\n{}",
                    patience.as_secs(),
                    tail(&boot, 30)
                )
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the emulator ended before the guest was up; its last words:\n{}", tail(&boot, 30))
            }
        }
    }
}

impl Guest {
    /// Waits for the command's end; each line of the guest goes to `print`.
    pub(super) fn finish(self, timeout: Duration, mut print: impl FnMut(&str)) -> Result<Ended> {
        let start = Instant::now();
        let mut lines = Vec::new();
        loop {
            let line = match self.console.recv_timeout(timeout.saturating_sub(start.elapsed())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the command in the guest took longer than {} s and was ended", timeout.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => bail!(
                    "the guest ended without an exit status (a kernel panic?); its last words:\n{}",
                    tail(&lines.join("\n"), 30)
                ),
            };
            if let Some(status) = line.strip_prefix(MARKER_EXIT) {
                let status =
                    status.trim().parse().with_context(|| format!("the guest's status is `{status}`"))?;
                return Ok(Ended { status, lines });
            }
            print(&line);
            lines.push(line);
        }
    }
}

fn start_emulator(
    image: &Path,
    files: &Files,
    append: &str,
    accelerator: Accelerator,
) -> Result<(Emulator, Receiver<String>)> {
    // It must not outlive us, whatever ends us: nobody would ever end it.
    let mut qemu = command("setpriv");
    qemu.args(["--pdeathsig", "KILL", PROGRAM]);
    qemu.args(["-no-user-config", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.args(["-m", "3G", "-smp", "2", "-nic", "none"]);
    qemu.args(match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        // With a thread for each processor, one of them may run a breakpoint that the other has already patched away:
        // attaching to a busy tracepoint then ends in `Oops: int3` (seen with QEMU 7.2 on 6.12 and 7.2, every time).
        Accelerator::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max"],
    });
    // A panic ends the emulator (with -no-reboot). Messages of the kernel would break into lines of the tests.
    qemu.args(["-append", &format!("console=ttyS0 panic=-1 quiet loglevel=1 mitigations=off {append}")]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(&files.initramfs);
    // What the guest leaves on it is of no use to anybody.
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", files.disk.display()));
    qemu.arg("-drive").arg(format!(
        "file={},format=raw,if=virtio,cache=unsafe,throttling.bps-write={SLOW_DISK_BYTES_PER_S}",
        files.slow_disk.display()
    ));
    // No input: a Ctrl-C is for us and the emulator, not for the guest.
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = qemu.spawn().with_context(|| not_started(&qemu))?;
    let stdout = child.stdout.take().context("cannot read the console of the guest")?;
    let stderr = child.stderr.take().context("cannot read the messages of the emulator")?;
    let (sender, receiver) = mpsc::channel();
    let messages = sender.clone();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = messages.send(format!("qemu: {line}"));
        }
    });
    thread::spawn(move || read_console(stdout, |line| sender.send(line).is_ok()));
    Ok((Emulator(child), receiver))
}

/// Lines without the serial line's carriage returns, until the console or the reader ends.
fn read_console(console: ChildStdout, mut send: impl FnMut(String) -> bool) {
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    while console.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).replace('\r', "");
        if !send(text.trim_end_matches('\n').to_owned()) {
            return;
        }
        line.clear();
    }
}

impl Accelerator {
    /// After so long without a sign of life the guest will not come up. Emulated, on a busy machine, it takes a while.
    fn patience(self) -> Duration {
        Duration::from_secs(if self == Self::Kvm { 20 } else { 120 })
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg (emulated, about ten times slower)",
        })
    }
}
