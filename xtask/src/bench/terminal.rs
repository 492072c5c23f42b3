//! From exec to the first screen with a table, in a terminal of its own.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::{ioctl_tiocsctty, setsid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    stdio::stdin,
    termios::{Winsize, tcsetwinsize},
};

use super::{
    Bed, member,
    process::Running,
    report::{Aim, Line, Report, Spread, Unit},
    tracing,
};

const AIM: f64 = 0.5;
/// In the header of the table, which is drawn with the first rows.
const HEADER: &str = "GROWTH";
const SIZE: Winsize = Winsize { ws_row: 40, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };

/// A program on a terminal of its own. The fields are dropped in this order: it restores its terminal first.
pub(super) struct OnTerminal {
    pub(super) running: Running,
    screen: File,
}

impl OnTerminal {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let (screen, inner) = terminal().context("cannot make a pseudo-terminal")?;
        let again = || inner.try_clone().context("cannot copy a descriptor");
        command.env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        command.stdin(again()?).stdout(again()?).stderr(again()?);
        // SAFETY: only system calls are made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                ioctl_tiocsctty(stdin()).map_err(io::Error::from)
            });
        }
        Ok(Self { running: Running::over(command)?, screen: File::from(screen) })
    }

    /// Reads until the text is there.
    pub(super) fn until(&mut self, bed: &Bed, text: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        while Instant::now() < end {
            bed.stop.check()?;
            self.read(&mut seen, Duration::from_millis(20))?;
            if seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(());
            }
        }
        bail!("no {text:?} on the screen within a minute: {}", String::from_utf8_lossy(&seen))
    }

    /// Reads what is drawn, as a terminal does, for so long.
    pub(super) fn read_for(&mut self, bed: &Bed, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let mut seen = Vec::new();
        while Instant::now() < end {
            bed.stop.check()?;
            self.read(&mut seen, Duration::from_millis(20))?;
            seen.clear();
        }
        Ok(())
    }

    fn read(&mut self, seen: &mut Vec<u8>, patience: Duration) -> Result<()> {
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        let mut polled = [PollFd::new(&self.screen, PollFlags::IN)];
        match poll(&mut polled, Some(&patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for a terminal"),
        }
        let mut buffer = [0; 64 << 10];
        let count = self.screen.read(&mut buffer).context("the program left its terminal")?;
        seen.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

fn terminal() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&screen)?;
    unlockpt(&screen)?;
    let name = ptsname(&screen, Vec::new())?;
    let inner = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&inner, SIZE)?;
    Ok((screen, inner))
}

/// What a first output is waited for.
struct Start {
    what: &'static str,
    program: fn(&Bed) -> Command,
    text: &'static str,
}

const MEMTRACE: Start =
    Start { what: "memtrace top, first screen", program: |bed| bed.memtrace(&[]), text: HEADER };

const OTHERS: &[Start] = &[
    Start {
        what: "bpftrace, nothing attached",
        program: |_| bpftrace("BEGIN { printf(\"first\\n\"); exit(); }"),
        text: "first",
    },
    Start {
        what: "bpftrace, charges by cgroup",
        program: |_| {
            bpftrace(&format!("{} interval:ms:1 {{ printf(\"first\\n\"); exit(); }}", tracing::COUNT))
        },
        text: "first",
    },
];

pub(super) fn bpftrace(program: &str) -> Command {
    let mut bpftrace = Command::new("bpftrace");
    bpftrace.args(["-e", program]);
    bpftrace
}

pub(super) fn start(bed: &Bed, report: &mut Report) -> Result<()> {
    let mut starts = vec![&MEMTRACE];
    match tracing::missing() {
        None => starts.extend(OTHERS),
        Some(why) => report.skip("the start of bpftrace", why),
    }
    rounds(bed, report, "start", &starts)?;
    let _members = member::cgroups(bed, false)?;
    rounds(bed, report, "start, many cgroups", &starts)
}

fn rounds(bed: &Bed, report: &mut Report, name: &'static str, starts: &[&Start]) -> Result<()> {
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); starts.len()];
    // The first brings the files into the page cache.
    for round in 0..=bed.rounds * 2 {
        for (start, took) in starts.iter().zip(&mut took) {
            let mut command = (start.program)(bed);
            let from = Instant::now();
            let mut program = OnTerminal::start(&mut command)?;
            program.until(bed, start.text).with_context(|| start.what.to_owned())?;
            if round > 0 {
                took.push(from.elapsed().as_secs_f64());
            }
        }
    }
    let spreads = took.iter().map(|took| Spread::of(took)).collect::<Result<Vec<_>>>()?;
    for (index, (start, spread)) in starts.iter().zip(&spreads).enumerate() {
        let line = Line::new(name, start.what, Unit::Seconds, spread.p50).spread(*spread);
        report.add(if index == 0 { line.aim(Aim::AtMost(AIM)) } else { line });
    }
    Ok(())
}
