//! The two storms, each in a cgroup of its own: alone, beside memtrace, beside bpftrace counting the same.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bed, member,
    process::Running,
    report::{Aim, Line, Report, Unit},
    tracing,
};
use crate::command::output;

/// Each storm of each round.
const SECONDS: &str = "1";
const AIM: f64 = 0.03;

/// What runs beside the storm.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Default,
    /// All that it attaches by itself.
    Diagnose,
    Charges,
    /// Its own charges followed to their sites, and those of another cgroup.
    Sites,
    OtherSites,
    Bpftrace,
    BpftraceStacks,
}

pub(super) struct Storm {
    pub(super) name: &'static str,
    pub(super) args: Vec<String>,
    /// The field of its report that counts, and how many make one operation.
    pub(super) counts: &'static str,
    pub(super) operation: f64,
    pub(super) what: &'static str,
}

/// Nanoseconds an operation: of CPU time, which other programs on the machine move least, and of time.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub(super) cpu: f64,
    pub(super) wall: f64,
}

/// A cgroup that is removed on every way out.
pub(super) struct OwnCgroup(PathBuf);

pub(super) fn faults(bed: &Bed, report: &mut Report) -> Result<()> {
    let args = ["fault-storm", "--seconds", SECONDS].map(str::to_owned).to_vec();
    let storm = Storm { name: "faults", args, counts: "faults", operation: 1.0, what: "a fault" };
    run(bed, report, &storm)
}

pub(super) fn writes(bed: &Bed, report: &mut Report) -> Result<()> {
    let file = bed.folder()?.join("write-storm");
    let path = file.to_string_lossy().into_owned();
    let args = ["write-storm", &path, "--seconds", SECONDS].map(str::to_owned).to_vec();
    let storm = Storm { name: "writes", args, counts: "bytes", operation: 4096.0, what: "4 KiB" };
    let done = run(bed, report, &storm);
    // It may not have been made.
    let _ = fs::remove_file(file);
    done
}

fn run(bed: &Bed, report: &mut Report, storm: &Storm) -> Result<()> {
    let mut kinds = vec![
        Beside::Nothing,
        Beside::Default,
        Beside::Diagnose,
        Beside::Charges,
        Beside::OtherSites,
        Beside::Sites,
    ];
    match tracing::missing() {
        None => kinds.extend([Beside::Bpftrace, Beside::BpftraceStacks]),
        Some(why) => report.skip("a storm beside bpftrace", why),
    }
    let cgroup = OwnCgroup::make(member::parent(bed))?;
    // Caches, clock frequency, the file's blocks.
    storm.once(bed, &cgroup)?;
    let mut took: Vec<Vec<Took>> = vec![Vec::new(); kinds.len()];
    for _ in 0..bed.rounds {
        let mut round: Vec<Vec<Took>> = vec![Vec::new(); kinds.len()];
        // There and back again: a drift of the machine falls on all alike.
        for index in (0..kinds.len()).chain((0..kinds.len()).rev()) {
            let beside = kinds[index].start(bed)?;
            round[index].push(storm.once(bed, &cgroup)?);
            drop(beside);
        }
        for (all, two) in took.iter_mut().zip(round) {
            all.push(Took::mean(&two));
        }
    }
    let alone = &took[0];
    for (kind, with) in kinds.iter().zip(&took).skip(1) {
        let ratios = |of: fn(&Took) -> f64| -> Vec<f64> {
            with.iter().zip(alone).map(|(with, alone)| of(with) / of(alone)).collect()
        };
        let line = |clock: &str, of: fn(&Took) -> f64| -> Result<Line> {
            let what = format!("{}, {clock} {}", kind.name(), storm.what);
            let line = Line::new(storm.name, what, Unit::Nanoseconds, median(with.iter().map(of)));
            line.beside(median(alone.iter().map(of))).ratios(&ratios(of))
        };
        let cpu = line("CPU", |took| took.cpu)?;
        let wall = line("time", |took| took.wall)?;
        let aimed = *kind == Beside::Default;
        report.add(if aimed { cpu.aim(Aim::Slowdown(AIM)) } else { cpu });
        report.add(if aimed { wall.aim(Aim::Slowdown(AIM)) } else { wall });
    }
    Ok(())
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Default => "memtrace top",
            Self::Diagnose => "memtrace diagnose",
            Self::Charges => "memtrace top --charges",
            Self::Sites => "memtrace top -c it --sites",
            Self::OtherSites => "memtrace top -c other --sites",
            Self::Bpftrace => "bpftrace, charges by cgroup",
            Self::BpftraceStacks => "bpftrace, charges by stack",
        }
    }

    /// Started, and attached.
    fn start(self, bed: &Bed) -> Result<Option<Running>> {
        let mut command = match self {
            Self::Nothing => return Ok(None),
            Self::Diagnose => return Ok(Some(bed.diagnosing()?)),
            Self::Default => bed.memtrace(&["--json"]),
            Self::Charges => bed.memtrace(&["--json", "--charges=60"]),
            Self::Sites => {
                let name = member::parent(bed);
                let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
                bed.memtrace(&["--json", "-c", &format!("/{name}"), "--sites=60"])
            }
            Self::OtherSites => bed.memtrace(&["--json", "-c", "/nobody-is-called-so", "--sites=60"]),
            Self::Bpftrace | Self::BpftraceStacks => {
                let count = if self == Self::Bpftrace { tracing::COUNT } else { tracing::STACKS };
                tracing::counting(count)?
            }
        };
        let mut running = Running::start(&mut command)?;
        // bpftrace says how many probes it attaches before it does.
        running.line(&bed.stop, if matches!(self, Self::Bpftrace | Self::BpftraceStacks) { 2 } else { 1 })?;
        Ok(Some(running))
    }
}

impl Storm {
    pub(super) fn once(&self, bed: &Bed, cgroup: &OwnCgroup) -> Result<Took> {
        bed.stop.check()?;
        let mut command = Command::new(&bed.workload);
        command.arg("--with-parent").arg("--cgroup").arg(&cgroup.0).args(&self.args);
        let printed = output(&mut command)?;
        let said: Value = serde_json::from_str(&printed).context("cannot read what the workload reported")?;
        let number = |key: &str| {
            said[key].as_f64().with_context(|| format!("the workload reported no {key}: {printed}"))
        };
        let operations = number(self.counts)? / self.operation;
        Ok(Took {
            cpu: number("cpu_seconds")? * 1e9 / operations,
            wall: number("seconds")? * 1e9 / operations,
        })
    }
}

impl Took {
    pub(super) fn mean(all: &[Took]) -> Took {
        let mean = |of: fn(&Took) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        Took { cpu: mean(|took| took.cpu), wall: mean(|took| took.wall) }
    }
}

impl OwnCgroup {
    pub(super) fn make(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // Its processes were waited for; their cgroup may be busy for a moment.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("bench: cannot remove the cgroup {}", self.0.display());
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}
