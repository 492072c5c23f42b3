//! `cargo xtask bench`: what memtrace costs, beside what a user would otherwise run. Every figure is a ratio or a
//! difference taken within one run; what was set up for it is undone on every way out. Never part of a test.

mod calls;
mod containers;
mod cost;
mod dirty;
mod docker;
mod empty;
mod lines;
mod member;
mod netdata;
mod peers;
mod probes;
mod process;
mod quiet;
mod report;
mod rounds;
mod stop;
mod storm;
mod switches;
mod syscalls;
mod terminal;
mod tracing;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    process::Running,
    report::{Machine, Report},
    stop::Stop,
};
use crate::{
    artifact,
    command::{command, is_root},
    hierarchy::Hierarchy,
    setup::{Purpose, set_up},
    workspace,
};

/// Measure what memtrace costs, beside other tools (as root; a quiet machine gives better numbers)
#[derive(Args)]
pub(crate) struct Bench {
    /// Which ones [default: all]
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Write the numbers to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many cgroups a full host has
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cgroups: u32,
    /// How many real containers
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    containers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Name {
    /// Anonymous page faults, with and without memtrace
    Faults,
    /// Writes into the page cache, with and without memtrace
    Writes,
    /// Log lines: writes to a pipe and other calls, with and without memtrace
    Lines,
    /// Dirty pages: writes, stores to a mapping, a copy; and page faults, with and without memtrace
    Dirty,
    /// System calls, with and without memtrace counting them
    Calls,
    /// Switches of tasks, forks, waits for a disk, with and without memtrace
    Switches,
    /// From exec to the first screen
    Start,
    /// CPU and memory of memtrace itself beside many cgroups
    Cost,
    /// memtrace, docker stats and others beside real containers
    Containers,
    /// Nanoseconds of each kernel program
    Probes,
}

/// What every benchmark has at hand.
struct Bed {
    memtrace: PathBuf,
    workload: PathBuf,
    hierarchy: Hierarchy,
    stop: Stop,
    rounds: u32,
    cgroups: u32,
    containers: u32,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !is_root() {
            bail!("only root may attach to the kernel; run this as root");
        }
        set_up(Purpose::Bench)?;
        let bed = Bed {
            memtrace: artifact::memtrace()?,
            workload: artifact::workload()?,
            hierarchy: Hierarchy::of_memory()?,
            stop: Stop::on_signals()?,
            rounds: self.rounds,
            cgroups: self.cgroups,
            containers: self.containers,
        };
        tracing::mount_where_missing()?;
        let mut names = self.names;
        if names.is_empty() {
            names = Name::value_variants().to_vec();
        }
        names.sort_unstable();
        names.dedup();
        let mut report = Report::new(Machine::here()?);
        // What was measured before a failure or a signal is worth having.
        let done = names.into_iter().try_for_each(|name| name.run(&bed, &mut report));
        print!("{}", report.table());
        if let Some(path) = &self.json {
            fs::write(path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        done?;
        Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Name {
    fn run(self, bed: &Bed, report: &mut Report) -> Result<()> {
        eprintln!("bench: {self:?} ...");
        match self {
            Self::Faults => storm::faults(bed, report),
            Self::Writes => storm::writes(bed, report),
            Self::Lines => lines::lines(bed, report),
            Self::Dirty => dirty::dirty(bed, report),
            Self::Calls => syscalls::calls(bed, report),
            Self::Switches => switches::switches(bed, report),
            Self::Start => terminal::start(bed, report),
            Self::Cost => cost::cost(bed, report),
            Self::Containers => containers::containers(bed, report),
            Self::Probes => probes::probes(bed, report),
        }
    }
}

/// Until `diagnose` has attached its probes and taken its first look.
const DIAGNOSING: Duration = Duration::from_secs(3);

impl Bed {
    fn memtrace(&self, args: &[&str]) -> Command {
        let mut top = command(&self.memtrace);
        top.arg("top").args(args);
        top
    }

    /// Everything that it can attach by itself, attached: it says nothing before its end.
    fn diagnosing(&self) -> Result<Running> {
        let mut diagnose = command(&self.memtrace);
        diagnose.args(["diagnose", "--json", "-d", "3600"]);
        let running = Running::start(&mut diagnose)?;
        self.stop.sleep(DIAGNOSING)?;
        Ok(running)
    }

    /// A folder for what is written, on the file system of the build.
    fn folder(&self) -> Result<PathBuf> {
        let folder = workspace::target().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}
