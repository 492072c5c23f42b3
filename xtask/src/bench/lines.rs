//! What looking at log lines adds to the writes that carry them, and to system calls that do not, beside other ways of
//! looking at writes. One process makes all calls; the reader of its pipe takes its turn outside what is measured.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    Bed,
    calls::{Call, Calls},
    empty::Empty,
    member, peers,
    process::Running,
    quiet,
    report::{Aim, Line, Report, Spread, Unit},
    rounds::Rounds,
    storm::{OwnCgroup, Took, median},
    tracing,
};
use crate::command::find;

const NAME: &str = "lines";
const OTHERS: &str = "other calls";
const ADDED: &str = "lines, added";

/// At most this share of what bpftrace adds for less.
const AIM_ADDED: f64 = 0.5;
const AIM_SCANNED: f64 = 4.0;
const AIM_LINE: f64 = 100.0;
/// Of the floor: what can still be told from it.
const AIM_OTHERS: f64 = 1.1;

const fn pipe(what: &'static str, bytes: u32, line: u32) -> Call {
    Call { what, word: "pipe", bytes, line, many: false }
}
const fn other(what: &'static str, word: &'static str) -> Call {
    Call { what, word, bytes: 100, line: 0, many: false }
}
/// The same by a process with a large table of descriptors.
const fn many(what: &'static str, call: Call) -> Call {
    Call { what, many: true, ..call }
}

/// Writes to a pipe first.
const CALLS: [Call; 11] = [
    pipe("100 B, a line", 100, 100),
    pipe("4 KiB, lines of 80", 4096, 80),
    pipe("4 KiB, no newline", 4096, 0),
    pipe("64 KiB, lines of 80", 65_536, 80),
    pipe("64 KiB, no newline", 65_536, 0),
    pipe("64 KiB, lines of 2", 65_536, 2),
    many("100 B, > 64 descriptors", pipe("", 100, 100)),
    other("getppid", "getppid"),
    other("read of /dev/zero", "zero"),
    other("write to /dev/null", "null"),
    many("the same, > 64 descriptors", other("", "null")),
];
const LINES_80: usize = 3;
const NO_NEWLINE: usize = 4;
const LINES_2: usize = 5;
const PIPES: usize = 7;

/// What runs beside the calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    Lengths,
    Counts,
    Diagnose,
    Sizes,
    Floor,
    PerCall,
    Function,
    Strace,
    Perf,
}

/// Ended when dropped.
#[derive(Default)]
struct Started {
    program: Option<Running>,
    _empty: Option<Empty>,
}

pub(super) fn lines(bed: &Bed, report: &mut Report) -> Result<()> {
    let cgroup = |what| OwnCgroup::make(member::parent(bed).with_extension(what));
    let cgroups = [cgroup("few")?, cgroup("few-reader")?, cgroup("many")?, cgroup("many-reader")?];
    let [writer, reader, many_writer, many_reader] = cgroups.each_ref().map(OwnCgroup::path);
    let mut few = Calls::start(bed, writer, reader, false)?;
    let mut many = Calls::start(bed, many_writer, many_reader, true)?;
    let kinds = usable(bed, report, &few)?;
    let rounds = Rounds::run(bed, kinds, CALLS.len(), |kind: Beside| {
        let started = kind.start(bed, &few)?;
        let mut found = Vec::new();
        let mut alone = true;
        for call in &CALLS[..kind.calls()] {
            found.push(if call.many { &mut many } else { &mut few }.storm(bed, call)?);
            alone = alone && !quiet::is_another(kind.is_memtrace())?;
        }
        kind.check(&started)?;
        Ok(alone.then_some(found))
    })?;
    drop((few, many));
    tell(&rounds, report)
}

/// What runs on this machine; why the others do not is told.
fn usable(bed: &Bed, report: &mut Report, calls: &Calls) -> Result<Vec<Beside>> {
    use Beside::{Counts, Diagnose, Floor, Function, Lengths, Nothing, PerCall, Perf, Sizes, Strace};
    let mut kinds = Vec::new();
    for kind in [Nothing, Lengths, Counts, Diagnose, Sizes, Floor, PerCall, Function, Strace, Perf] {
        match kind.start(bed, calls) {
            Ok(_) => kinds.push(kind),
            // Without these there is nothing to tell.
            Err(error) if kind.is_memtrace() => return Err(error),
            Err(_) if kind == Function => {
                report.skip(kind.name(), "bpftrace cannot attach to a function here")
            }
            Err(error) => peers::failed(bed, report, NAME, kind.name(), &error)?,
        }
    }
    Ok(kinds)
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Lengths => "memtrace lines",
            Self::Counts => "memtrace top",
            Self::Diagnose => "memtrace diagnose",
            Self::Sizes => "bpftrace, sizes of writes",
            Self::Floor => "an empty program on sys_exit",
            Self::PerCall => "bpftrace, empty programs on each call",
            Self::Function => "bpftrace, an empty program on anon_pipe_write",
            Self::Strace => "strace",
            Self::Perf => "perf trace",
        }
    }

    /// Those that stop the process, or send each call to user space, are tried with lines alone.
    fn calls(self) -> usize {
        match self {
            Self::Strace | Self::Perf => 1,
            _ => CALLS.len(),
        }
    }

    fn is_memtrace(self) -> bool {
        matches!(self, Self::Lengths | Self::Counts | Self::Diagnose)
    }

    /// Whether another process does the work, so that CPU time of the caller tells nothing.
    fn elsewhere(self) -> bool {
        matches!(self, Self::Strace | Self::Perf)
    }

    /// Started, and attached.
    fn start(self, bed: &Bed, calls: &Calls) -> Result<Started> {
        let id = calls.id().to_string();
        let mut command = match self {
            Self::Nothing => return Ok(Started::default()),
            Self::Floor => {
                return Empty::attach(c"sys_exit")
                    .map(|empty| Started { program: None, _empty: Some(empty) });
            }
            Self::Lengths => {
                let mut lines = Command::new(&bed.memtrace);
                lines.args(["lines", "--json"]);
                lines
            }
            Self::Counts => bed.memtrace(&["--json"]),
            Self::Diagnose => return Ok(Started { program: Some(bed.diagnosing()?), _empty: None }),
            Self::Sizes => tracing::counting(tracing::SIZES)?,
            Self::PerCall => tracing::counting(&tracing::each_call())?,
            Self::Function => tracing::counting(tracing::FUNCTION)?,
            Self::Strace => {
                ensure!(find("strace").is_some(), "strace is not installed");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-e", "trace=write", "-o", "/dev/null", "-p", &id]);
                strace
            }
            Self::Perf => {
                ensure!(find("perf").is_some(), "perf is not installed");
                let mut perf = Command::new("perf");
                perf.args(["trace", "-e", "write", "-o", "/dev/null", "-p", &id]);
                perf
            }
        };
        let mut running = Running::start(&mut command)?;
        match self {
            Self::Strace => calls.traced(bed)?,
            Self::Perf => {
                // It does not say when it has begun.
                bed.stop.sleep(std::time::Duration::from_secs(1))?;
                ensure!(!running.ended()?, "perf trace ended: {}", running.errors().trim());
            }
            // bpftrace says how many probes it attaches before it does.
            Self::Lengths | Self::Counts => drop(running.line(&bed.stop, 1)?),
            _ => drop(running.line(&bed.stop, 2)?),
        }
        Ok(Started { program: Some(running), _empty: None })
    }

    /// A number of a program that saw nothing would mean nothing.
    fn check(self, started: &Started) -> Result<()> {
        if let (Self::Lengths, Some(running)) = (self, &started.program) {
            let said: Value =
                serde_json::from_str(&running.last_line()).context("cannot read what memtrace printed")?;
            let streams = said["streams"].as_array().into_iter().flatten();
            let lines = streams.filter_map(|stream| stream["lines"].as_u64()).max();
            ensure!(
                lines > Some(100_000),
                "memtrace counted {lines:?} lines only; did its interval not end?"
            );
        }
        Ok(())
    }
}

fn tell(rounds: &Rounds<Beside>, report: &mut Report) -> Result<()> {
    for (index, call) in CALLS.iter().enumerate() {
        for kind in rounds.kinds.iter().skip(1) {
            let (clock, of): (_, fn(&Took) -> f64) =
                if kind.elsewhere() { ("time", |took| took.wall) } else { ("CPU", |took| took.cpu) };
            let name = if index < PIPES { NAME } else { OTHERS };
            let what = format!("{}: {}, {clock}", call.what, kind.name());
            if let Some(line) = rounds.line(*kind, index, name, what, of)? {
                report.add(line);
            }
        }
    }
    tell_added(rounds, report);
    tell_rates(rounds, report)
}

/// What memtrace adds, beside what bpftrace adds to the write of a line and an empty program to other calls.
fn tell_added(rounds: &Rounds<Beside>, report: &mut Report) {
    let compared = CALLS.iter().enumerate().filter(|(_, call)| call.bytes == 100);
    for (index, call) in compared {
        let (than, most) =
            if index < PIPES { (Beside::Sizes, AIM_ADDED) } else { (Beside::Floor, AIM_OTHERS) };
        for kind in [Beside::Lengths, Beside::Counts] {
            let (Some(own), Some(other)) = (rounds.added(kind, index), rounds.added(than, index)) else {
                continue;
            };
            let what = format!("{}: {} beside {}", call.what, kind.name(), than.name());
            let line = Line::new(ADDED, what, Unit::Nanoseconds, median(own.into_iter()));
            report.add(line.beside(median(other.into_iter())).aim(Aim::Ratio(most)));
        }
    }
}

fn tell_rates(rounds: &Rounds<Beside>, report: &mut Report) -> Result<()> {
    for kind in [Beside::Lengths, Beside::Counts] {
        let mut rate = |call: usize, what: &str, unit: Unit, of: fn(&Call, f64) -> f64, aim: Aim| {
            let Some(added) = rounds.added(kind, call) else { return Ok(()) };
            let rates: Vec<f64> = added.iter().map(|added| of(&CALLS[call], added.max(1e-3))).collect();
            let what = format!("{}, {what}", kind.name());
            let line = Line::new(ADDED, what, unit, median(rates.iter().copied()));
            report.add(line.spread(Spread::of(&rates)?).aim(aim));
            anyhow::Ok(())
        };
        let scanned = |call: &Call, added: f64| f64::from(call.bytes) / added;
        let a_line = |call: &Call, added: f64| added * f64::from(call.line) / f64::from(call.bytes);
        rate(NO_NEWLINE, "bytes scanned a second", Unit::Rate, scanned, Aim::AtLeast(AIM_SCANNED))?;
        rate(LINES_80, "a line of 80", Unit::Nanoseconds, a_line, Aim::AtMost(AIM_LINE))?;
        rate(LINES_2, "a line of 2", Unit::Nanoseconds, a_line, Aim::AtMost(AIM_LINE))?;
    }
    Ok(())
}
