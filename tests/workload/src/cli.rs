//! The command line: one sub-command for each workload, and what all of them share.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    anon, calls, cgroups, dirty, dirty_storm, file, fuse, idle, known_calls, lines, log, nfs, page_tables,
    report, serve, slab, sock, storm,
};

/// Uses memory in a known way, of a known amount, at a known rate.
#[derive(Parser)]
#[command(name = "workload", version)]
struct Cli {
    /// Move into this cgroup first, so that all memory is charged to it
    #[arg(long, global = true, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// End when the parent process ends, however it does
    #[arg(long, global = true, overrides_with = "with_parent")]
    with_parent: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Anon(anon::Anon),
    Tmpfs(file::Tmpfs),
    Read(file::Read),
    Write(file::Write),
    Dirty(dirty::Dirty),
    PageTables(page_tables::PageTables),
    Slab(slab::Slab),
    Sock(sock::Sock),
    Serve(serve::Serve),
    Scrape(serve::Scrape),
    Fuse(fuse::Fuse),
    Nfs(nfs::Nfs),
    Log(log::Log),
    Lines(Box<lines::Lines>),
    Idle(idle::Idle),
    Spin(idle::Spin),
    FaultStorm(storm::FaultStorm),
    WriteStorm(storm::WriteStorm),
    MmapStorm(dirty_storm::MmapStorm),
    CopyStorm(dirty_storm::CopyStorm),
    Calls(calls::Calls),
    #[command(hide = true)]
    CallsReader(calls::Reader),
    KnownCalls(known_calls::KnownCalls),
    Cgroups(cgroups::Cgroups),
    #[command(hide = true)]
    CgroupsMember(cgroups::Member),
}

pub(crate) fn run() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&error);
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<()> {
        if self.with_parent {
            idle::end_with_parent()?;
        }
        if let Some(cgroup) = &self.cgroup {
            cgroups::join(cgroup)?;
        }
        self.command.run()
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        // `cgroups` has something to clean up, so it looks for the signal itself.
        if !matches!(self, Self::Cgroups(_)) {
            idle::exit_on_signal()?;
        }
        match self {
            Self::Anon(anon) => anon.run(),
            Self::Tmpfs(tmpfs) => tmpfs.run(),
            Self::Read(read) => read.run(),
            Self::Write(write) => write.run(),
            Self::Dirty(dirty) => dirty.run(),
            Self::PageTables(tables) => tables.run(),
            Self::Slab(slab) => slab.run(),
            Self::Sock(sock) => sock.run(),
            Self::Serve(serve) => serve.run(),
            Self::Scrape(scrape) => scrape.run(),
            Self::Fuse(fuse) => fuse.run(),
            Self::Nfs(nfs) => nfs.run(),
            Self::Log(log) => log.run(),
            Self::Lines(lines) => lines.run(),
            Self::Idle(idle) => idle.run(),
            Self::Spin(spin) => spin.run(),
            Self::FaultStorm(storm) => storm.run(),
            Self::WriteStorm(storm) => storm.run(),
            Self::MmapStorm(storm) => storm.run(),
            Self::CopyStorm(storm) => storm.run(),
            Self::Calls(calls) => calls.run(),
            Self::CallsReader(reader) => reader.run(),
            Self::KnownCalls(calls) => calls.run(),
            Self::Cgroups(cgroups) => cgroups.run(),
            Self::CgroupsMember(member) => member.run(),
        }
    }
}
