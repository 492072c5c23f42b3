//! What counting system calls adds to them: of the container that is chosen, of another one, beside empty programs on the
//! same hooks and beside other ways of counting calls with how long they take. One process makes all calls.

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
    report::{Aim, Line, Report, Unit},
    rounds::Rounds,
    storm::{OwnCgroup, Took, median},
    tracing,
};
use crate::command::find;

const NAME: &str = "calls";
const ADDED: &str = "calls, added";

/// Of what empty programs on the same hooks add,
const AIM_FLOOR: f64 = 1.5;
/// and of what bpftrace adds for the same.
const AIM_BPFTRACE: f64 = 0.5;

const fn call(what: &'static str, word: &'static str) -> Call {
    Call { what, word, bytes: 100, line: 0, many: false }
}

const CALLS: [Call; 3] = [
    call("getppid", "getppid"),
    call("read of /dev/zero", "zero"),
    call("mixed, one of which fails", "mixed"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    Own,
    Every,
    Others,
    Floor,
    Bpftrace,
    Strace,
    Perf,
}

/// Ended when dropped.
#[derive(Default)]
struct Started {
    program: Option<Running>,
    _empty: Vec<Empty>,
}

/// Where the calls are made, and where they are not.
struct Places {
    own: OwnCgroup,
    other: OwnCgroup,
}

pub(super) fn calls(bed: &Bed, report: &mut Report) -> Result<()> {
    let cgroup = |what| OwnCgroup::make(member::parent(bed).with_extension(what));
    let (own, reader, other) = (cgroup("caller")?, cgroup("caller-reader")?, cgroup("no-caller")?);
    let mut caller = Calls::start(bed, own.path(), reader.path(), false)?;
    let places = Places { own, other };
    let mut kinds = Vec::new();
    for kind in [
        Beside::Nothing,
        Beside::Own,
        Beside::Every,
        Beside::Others,
        Beside::Floor,
        Beside::Bpftrace,
        Beside::Strace,
        Beside::Perf,
    ] {
        match kind.start(bed, &caller, &places) {
            Ok(_) => kinds.push(kind),
            // Without it there is nothing to tell.
            Err(error) if kind.is_memtrace() => return Err(error),
            Err(error) => peers::failed(bed, report, NAME, kind.name(), &error)?,
        }
    }
    let rounds = Rounds::run(bed, kinds, CALLS.len(), |kind: Beside| {
        let started = kind.start(bed, &caller, &places)?;
        let mut found = Vec::new();
        let mut alone = true;
        for call in &CALLS[..kind.calls()] {
            found.push(caller.storm(bed, call)?);
            alone = alone && !quiet::is_another(kind.is_memtrace())?;
        }
        kind.check(bed, &started)?;
        Ok(alone.then_some(found))
    })?;
    drop(caller);
    tell(&rounds, report)
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Own => "memtrace syscalls of this container",
            Self::Every => "memtrace syscalls of all containers",
            Self::Others => "memtrace syscalls of another container",
            Self::Floor => "empty programs on sys_enter and sys_exit",
            Self::Bpftrace => "bpftrace, counts and histograms",
            Self::Strace => "strace -c",
            Self::Perf => "perf trace -s",
        }
    }

    /// Those that stop the process, or send each call to user space, are tried once.
    fn calls(self) -> usize {
        match self {
            Self::Strace | Self::Perf => 1,
            _ => CALLS.len(),
        }
    }

    fn is_memtrace(self) -> bool {
        matches!(self, Self::Own | Self::Every | Self::Others)
    }

    /// Whether another process does the work, so that CPU time of the caller tells nothing.
    fn elsewhere(self) -> bool {
        matches!(self, Self::Strace | Self::Perf)
    }

    fn start(self, bed: &Bed, caller: &Calls, places: &Places) -> Result<Started> {
        let id = caller.id().to_string();
        let memtrace = |cgroup: Option<&OwnCgroup>| {
            let mut syscalls = Command::new(&bed.memtrace);
            syscalls.args(["syscalls", "--json", "-i", "0.5"]);
            let name = cgroup.and_then(|cgroup| cgroup.path().file_name());
            if let Some(name) = name {
                syscalls.arg("-c").arg(format!("*{}", name.to_string_lossy()));
            }
            syscalls
        };
        let mut command = match self {
            Self::Nothing => return Ok(Started::default()),
            Self::Floor => {
                let empty = vec![Empty::attach(c"sys_exit")?, Empty::attach(c"sys_enter")?];
                return Ok(Started { program: None, _empty: empty });
            }
            Self::Own => memtrace(Some(&places.own)),
            Self::Every => memtrace(None),
            Self::Others => memtrace(Some(&places.other)),
            Self::Bpftrace => tracing::counting(&tracing::calls_of(&id))?,
            Self::Strace => {
                ensure!(find("strace").is_some(), "strace is not installed");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-c", "-o", "/dev/null", "-p", &id]);
                strace
            }
            Self::Perf => {
                ensure!(find("perf").is_some(), "perf is not installed");
                let mut perf = Command::new("perf");
                perf.args(["trace", "-s", "-o", "/dev/null", "-p", &id]);
                perf
            }
        };
        let mut running = Running::start(&mut command)?;
        match self {
            Self::Strace => caller.traced(bed)?,
            Self::Perf => {
                // It does not say when it has begun.
                bed.stop.sleep(std::time::Duration::from_secs(1))?;
                ensure!(!running.ended()?, "perf trace ended: {}", running.errors().trim());
            }
            // bpftrace says how many probes it attaches before it does.
            Self::Bpftrace => drop(running.line(&bed.stop, 2)?),
            _ => drop(running.line(&bed.stop, 1)?),
        }
        Ok(Started { program: Some(running), _empty: Vec::new() })
    }

    /// A number of a program that saw nothing, or what it should not have, would mean nothing.
    fn check(self, bed: &Bed, started: &Started) -> Result<()> {
        let Some(running) = started.program.as_ref().filter(|_| self.is_memtrace()) else { return Ok(()) };
        // What came last is told with the next interval.
        bed.stop.sleep(std::time::Duration::from_millis(1200))?;
        let said: Value =
            serde_json::from_str(&running.last_line()).context("cannot read what memtrace printed")?;
        let calls = said["containers"].as_array().into_iter().flatten();
        let calls = calls.filter_map(|row| row["calls"].as_array()).flatten();
        let most = calls.filter_map(|call| call["count"].as_u64()).max().unwrap_or(0);
        match self {
            Self::Others => ensure!(most == 0, "memtrace counted {most} calls of another container"),
            _ => ensure!(most > 100_000, "memtrace counted {most} calls only; did its interval not end?"),
        }
        Ok(())
    }
}

fn tell(rounds: &Rounds<Beside>, report: &mut Report) -> Result<()> {
    for (index, call) in CALLS.iter().enumerate() {
        for kind in rounds.kinds.iter().skip(1) {
            let (clock, of): (_, fn(&Took) -> f64) =
                if kind.elsewhere() { ("time", |took| took.wall) } else { ("CPU", |took| took.cpu) };
            let what = format!("{}: {}, {clock}", call.what, kind.name());
            if let Some(line) = rounds.line(*kind, index, NAME, what, of)? {
                report.add(line);
            }
        }
    }
    for (index, call) in CALLS.iter().enumerate() {
        let pairs = [
            (Beside::Own, Beside::Floor, AIM_FLOOR),
            (Beside::Own, Beside::Bpftrace, AIM_BPFTRACE),
            (Beside::Others, Beside::Floor, AIM_FLOOR),
        ];
        for (kind, than, most) in pairs {
            let (Some(own), Some(other)) = (rounds.added(kind, index), rounds.added(than, index)) else {
                continue;
            };
            let what = format!("{}: {} beside {}", call.what, kind.name(), than.name());
            let line = Line::new(ADDED, what, Unit::Nanoseconds, median(own.into_iter()));
            report.add(line.beside(median(other.into_iter())).aim(Aim::Ratio(most)));
        }
    }
    Ok(())
}
