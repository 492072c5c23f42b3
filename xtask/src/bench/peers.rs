//! What a user would otherwise run, in the same job: what it costs, as a ratio to memtrace's full screen.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::{
    Bed,
    cost::{Own, WINDOW},
    netdata::{self, Netdata},
    process::{Running, Usage},
    report::{Line, Report, Unit},
    terminal::bpftrace,
    tracing,
};
use crate::command::find;

/// One that only needs to be started.
struct Peer {
    name: &'static str,
    missing: fn() -> Option<String>,
    start: fn(&Bed) -> Result<Started>,
    /// Until it does no more than it always does.
    settle: Duration,
}

/// A running peer, ended when dropped.
enum Started {
    Program(Running),
    Netdata(Netdata),
}

const PEERS: &[Peer] = &[
    Peer {
        name: "bpftrace, charges by cgroup",
        missing: || tracing::missing().map(str::to_owned),
        start: |bed| program(bed, &mut bpftrace(tracing::COUNT)),
        settle: Duration::from_secs(1),
    },
    Peer {
        name: "atop 1",
        missing: || find("atop").is_none().then(|| "atop is not installed".to_owned()),
        start: |bed| program(bed, Command::new("atop").arg("1")),
        settle: Duration::from_secs(1),
    },
    Peer {
        name: "netdata, cgroups alone",
        missing: netdata::missing,
        start: |bed| {
            let mut netdata = Netdata::start(bed)?;
            netdata.until(bed, "")?;
            Ok(Started::Netdata(netdata))
        },
        // It looks for cgroups each ten seconds, and takes them in one after the other.
        settle: Duration::from_secs(15),
    },
];

fn program(bed: &Bed, command: &mut Command) -> Result<Started> {
    let mut running = Running::start(command)?;
    running.line(&bed.stop, 1)?;
    Ok(Started::Program(running))
}

impl Started {
    fn running(&self) -> &Running {
        match self {
            Self::Program(running) => running,
            Self::Netdata(netdata) => &netdata.running,
        }
    }
}

/// Each in turn; one that cannot run has a row that says why.
pub(super) fn cost(bed: &Bed, report: &mut Report, name: &'static str, own: Own) -> Result<()> {
    for peer in PEERS {
        match peer.cost(bed) {
            Ok((share, usage)) => add(report, name, peer.name, share, usage, own),
            Err(error) => failed(bed, report, name, peer.name, &error)?,
        }
    }
    Ok(())
}

impl Peer {
    fn cost(&self, bed: &Bed) -> Result<(f64, Usage)> {
        if let Some(why) = (self.missing)() {
            anyhow::bail!(why);
        }
        let started = (self.start)(bed)?;
        bed.stop.sleep(self.settle)?;
        let share = started.running().cpu_share(&bed.stop, WINDOW)?;
        Ok((share, started.running().usage()?))
    }
}

/// Two rows beside memtrace's own.
pub(super) fn add(report: &mut Report, name: &'static str, what: &str, share: f64, usage: Usage, own: Own) {
    report.add(Line::new(name, format!("{what}, CPU of one core"), Unit::Share, share).beside(own.cpu));
    let rss = Line::new(name, format!("{what}, RSS"), Unit::Bytes, usage.rss as f64);
    report.add(rss.beside(own.rss));
}

/// A row that says why; a signal ends the whole run.
pub(super) fn failed(
    bed: &Bed,
    report: &mut Report,
    name: &'static str,
    what: &str,
    error: &anyhow::Error,
) -> Result<()> {
    bed.stop.check()?;
    report.add(Line::failed(name, what, format!("{error:#}")));
    Ok(())
}
