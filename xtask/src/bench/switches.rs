//! What memtrace adds to switches of tasks, to forks, and to work that waits for a disk: beside an empty program on
//! `sched_switch` and beside bpftrace timing the same.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    Bed,
    empty::Empty,
    peers,
    process::Running,
    quiet,
    report::{Aim, Line, Report, Unit},
    rounds::Rounds,
    storm::{Took, median},
    tracing,
};
use crate::command::find;

const NAME: &str = "switches";
const ADDED: &str = "switches, added";

/// Of what an empty program on the same hook adds,
const AIM_FLOOR: f64 = 1.3;
/// and of what bpftrace adds for the same.
const AIM_BPFTRACE: f64 = 0.5;
/// Slower than alone by no more than this share.
const AIM_DISK: f64 = 0.03;

const SWITCHES: u32 = 40_000;
/// Of so many runs the one that took least counts: what another machine on the same processor adds is far more than a
/// program on a switch does, and never less than nothing.
const PIPES: u32 = 8;
const FORKS: u32 = 500;
const WRITES: u32 = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Pipe,
    Forks,
    Disk,
}

const WORKS: [Work; 3] = [Work::Pipe, Work::Forks, Work::Disk];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    /// All that it attaches: a pipe is followed as a log, too.
    Top,
    /// Everything that it attaches by itself.
    Diagnose,
    /// What follows switches, and nothing else that is met here.
    Stuck,
    Calls,
    Floor,
    Bpftrace,
}

/// Ended when dropped.
#[derive(Default)]
struct Started {
    _program: Option<Running>,
    _empty: Option<Empty>,
}

pub(super) fn switches(bed: &Bed, report: &mut Report) -> Result<()> {
    ensure!(find("perf").is_some(), "perf is not installed: `perf bench sched pipe` is what is measured");
    let mut kinds = Vec::new();
    for kind in [
        Beside::Nothing,
        Beside::Top,
        Beside::Diagnose,
        Beside::Stuck,
        Beside::Calls,
        Beside::Floor,
        Beside::Bpftrace,
    ] {
        match kind.start(bed) {
            Ok(_) => kinds.push(kind),
            Err(error) if kind.is_memtrace() => return Err(error),
            Err(error) => peers::failed(bed, report, NAME, kind.name(), &error)?,
        }
    }
    let rounds = Rounds::run(bed, kinds, WORKS.len(), |kind: Beside| {
        let _beside = kind.start(bed)?;
        let mut found = Vec::new();
        let mut alone = true;
        for work in WORKS {
            found.push(work.done(bed)?);
            alone = alone && !quiet::is_another(kind.is_memtrace())?;
        }
        Ok(alone.then_some(found))
    })?;
    tell(&rounds, report)
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Pipe => "a round of perf bench sched pipe",
            Self::Forks => "a fork with its exec",
            Self::Disk => "4 KiB written past the page cache",
        }
    }

    /// Of each operation, with what its processes took.
    fn done(self, bed: &Bed) -> Result<Took> {
        let (mut command, operations) = match self {
            Self::Pipe => {
                // On one processor: each way is a switch then, and not a wake-up of another, which a virtual one may take
                // any time for.
                let mut perf = Command::new("taskset");
                perf.args(["-c", "0", "perf", "bench", "sched", "pipe", "-l", &SWITCHES.to_string()]);
                (perf, SWITCHES)
            }
            Self::Forks => {
                let mut shell = Command::new("sh");
                shell.args([
                    "-c",
                    &format!("left={FORKS}; while [ $left -gt 0 ]; do /bin/true; left=$((left - 1)); done"),
                ]);
                (shell, FORKS)
            }
            Self::Disk => {
                let file = bed.folder()?.join("disk-bound");
                let mut dd = Command::new("dd");
                dd.args(["if=/dev/zero", "bs=4k", "oflag=direct,dsync", "status=none"]);
                dd.arg(format!("of={}", file.display())).arg(format!("count={WRITES}"));
                (dd, WRITES)
            }
        };
        let runs = if self == Self::Pipe { PIPES } else { 1 };
        let mut least: Option<Took> = None;
        for _ in 0..runs {
            let took = self.timed(bed, &mut command, operations)?;
            least = Some(match least {
                Some(least) => Took { cpu: least.cpu.min(took.cpu), wall: least.wall.min(took.wall) },
                None => took,
            });
        }
        least.context("nothing was measured")
    }

    fn timed(self, bed: &Bed, command: &mut Command, operations: u32) -> Result<Took> {
        bed.stop.check()?;
        let (before, start) = (of_children(), Instant::now());
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let wall = start.elapsed().as_secs_f64();
        ensure!(status.context("cannot start what is measured")?.success(), "{} failed", self.name());
        let each = |seconds: f64| seconds * 1e9 / f64::from(operations);
        Ok(Took { cpu: each(of_children() - before), wall: each(wall) })
    }
}

/// CPU seconds of the children that have ended.
fn of_children() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: it writes one structure, of which any bit pattern is valid.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Top => "memtrace top",
            Self::Diagnose => "memtrace diagnose",
            Self::Stuck => "memtrace stuck",
            Self::Calls => "memtrace syscalls",
            Self::Floor => "an empty program on sched_switch",
            Self::Bpftrace => "bpftrace, time off the processor",
        }
    }

    fn is_memtrace(self) -> bool {
        matches!(self, Self::Top | Self::Diagnose | Self::Stuck | Self::Calls)
    }

    fn start(self, bed: &Bed) -> Result<Started> {
        let mut command = match self {
            Self::Nothing => return Ok(Started::default()),
            Self::Floor => {
                return Ok(Started { _program: None, _empty: Some(Empty::attach(c"sched_switch")?) });
            }
            Self::Diagnose => {
                return Ok(Started { _program: Some(bed.diagnosing()?), _empty: None });
            }
            Self::Top => bed.memtrace(&["--json"]),
            Self::Stuck | Self::Calls => {
                let mut view = Command::new(&bed.memtrace);
                view.args([if self == Self::Stuck { "stuck" } else { "syscalls" }, "--json"]);
                view
            }
            Self::Bpftrace => tracing::counting(tracing::OFF_CPU)?,
        };
        let mut running = Running::start(&mut command)?;
        drop(running.line(&bed.stop, if self == Self::Bpftrace { 2 } else { 1 })?);
        Ok(Started { _program: Some(running), _empty: None })
    }
}

fn tell(rounds: &Rounds<Beside>, report: &mut Report) -> Result<()> {
    for (index, work) in WORKS.into_iter().enumerate() {
        for kind in rounds.kinds.iter().skip(1) {
            // Who waits for a disk takes time, who switches takes CPU.
            let (clock, of): (_, fn(&Took) -> f64) = match work {
                Work::Disk => ("time", |took| took.wall),
                _ => ("CPU", |took| took.cpu),
            };
            let what = format!("{}: {}, {clock}", work.name(), kind.name());
            if let Some(line) = rounds.line(*kind, index, NAME, what, of)? {
                let aimed = *kind == Beside::Top && work == Work::Disk;
                report.add(if aimed { line.aim(Aim::Slowdown(AIM_DISK)) } else { line });
            }
        }
    }
    for (than, most) in [(Beside::Floor, AIM_FLOOR), (Beside::Bpftrace, AIM_BPFTRACE)] {
        let (Some(own), Some(other)) = (rounds.added(Beside::Stuck, 0), rounds.added(than, 0)) else {
            continue;
        };
        let what = format!("{}: {} beside {}", Work::Pipe.name(), Beside::Stuck.name(), than.name());
        let line = Line::new(ADDED, what, Unit::Nanoseconds, median(own.into_iter()));
        report.add(line.beside(median(other.into_iter())).aim(Aim::Ratio(most)));
    }
    Ok(())
}
