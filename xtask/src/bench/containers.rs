//! Real containers, for the tools that know no others: what each costs beside them, and how long it is from its start
//! to the first picture with a container's memory in it.

use std::{
    any::Any,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Bed, cost,
    docker::{self, Docker, GROWS},
    netdata::{self, Netdata},
    peers,
    process::{Running, Usage},
    report::{Line, Report, Spread, Unit},
    terminal::{OnTerminal, bpftrace},
    tracing,
};
use crate::command::find;

const NAME: &str = "containers";
const FIRST: &str = "first picture";
/// Until docker's statistics have all containers.
const SETTLE: Duration = Duration::from_secs(5);
/// A start of netdata takes ten seconds and more.
const ROUNDS: u32 = 3;

/// What a first picture is waited for; what it gives is ended after the clock is stopped.
struct First {
    what: &'static str,
    missing: fn() -> Option<String>,
    look: fn(&Bed, &Docker) -> Result<Box<dyn Any>>,
}

const FIRSTS: &[First] = &[
    First {
        what: "memtrace top",
        missing: || None,
        look: |bed, _| on_terminal(bed, &mut bed.memtrace(&["--sort", "current"]), GROWS),
    },
    First {
        what: "docker stats",
        missing: || None,
        look: |bed, docker| on_terminal(bed, &mut docker.stats(), "MiB / "),
    },
    First {
        what: "atop 1, its processes",
        missing: || find("atop").is_none().then(|| "atop is not installed".to_owned()),
        look: |bed, _| on_terminal(bed, Command::new("atop").args(["-m", "1"]), "workload"),
    },
    First {
        what: "bpftrace, a count of its charges",
        missing: || tracing::missing().map(str::to_owned),
        look: |bed, docker| {
            let id = docker.cgroup_id(bed)?;
            let program = format!("{} interval:ms:20 {{ print(@); }}", tracing::COUNT);
            on_terminal(bed, &mut bpftrace(&program), &format!("@[{id}]"))
        },
    },
    First {
        what: "netdata, cgroups alone",
        missing: netdata::missing,
        look: |bed, docker| {
            let mut netdata = Netdata::start(bed)?;
            netdata.until(bed, &docker.id[..12])?;
            Ok(Box::new(netdata))
        },
    },
];

fn on_terminal(bed: &Bed, command: &mut Command, text: &str) -> Result<Box<dyn Any>> {
    let mut program = OnTerminal::start(command)?;
    program.until(bed, text)?;
    Ok(Box::new(program))
}

pub(super) fn containers(bed: &Bed, report: &mut Report) -> Result<()> {
    if let Some(why) = docker::missing() {
        report.skip("what all of them cost beside containers", &why);
        return Ok(());
    }
    let start = Instant::now();
    let docker = Docker::start(bed, bed.containers)?;
    eprintln!("bench: {} containers started in {:.1} s", bed.containers, start.elapsed().as_secs_f64());
    let own = cost::own(bed, report, NAME, None)?;
    match stats(bed, &docker) {
        Ok((share, usage, daemons)) => {
            peers::add(report, NAME, "docker stats with its daemon's part", share, usage, own);
            let daemons = daemons.iter().map(|usage| usage.rss as f64).sum();
            report.add(Line::new(NAME, "docker's daemons, which run anyway, RSS", Unit::Bytes, daemons));
        }
        Err(error) => peers::failed(bed, report, NAME, "docker stats", &error)?,
    }
    peers::cost(bed, report, NAME, own)?;
    firsts(bed, report, &docker)
}

/// The client's share of a core with what the daemons use more while it asks; its memory is the client's alone.
fn stats(bed: &Bed, docker: &Docker) -> Result<(f64, Usage, [Usage; 2])> {
    let daemons = || -> Result<f64> {
        let (start, before) = (Instant::now(), docker.usage()?);
        bed.stop.sleep(cost::WINDOW)?;
        let used =
            docker.usage()?.into_iter().zip(before).map(|(now, before)| now.cpu.saturating_sub(before.cpu));
        Ok(used.sum::<Duration>().as_secs_f64() / start.elapsed().as_secs_f64())
    };
    let without = daemons()?;
    let mut client = Running::start(&mut docker.stats())?;
    client.line(&bed.stop, 1)?;
    bed.stop.sleep(SETTLE)?;
    let (start, before) = (Instant::now(), client.usage()?.cpu);
    let with = daemons()?;
    let usage = client.usage()?;
    let own = usage.cpu.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok((own + (with - without).max(0.0), usage, docker.usage()?))
}

fn firsts(bed: &Bed, report: &mut Report, docker: &Docker) -> Result<()> {
    let mut memtrace = None;
    for first in FIRSTS {
        match first.took(bed, docker) {
            Ok(spread) => {
                let line = Line::new(FIRST, first.what, Unit::Seconds, spread.p50);
                report.add(match memtrace {
                    Some(memtrace) => line.beside(memtrace),
                    None => line.spread(spread),
                });
                memtrace.get_or_insert(spread.p50);
            }
            Err(error) => peers::failed(bed, report, FIRST, first.what, &error)?,
        }
    }
    Ok(())
}

impl First {
    fn took(&self, bed: &Bed, docker: &Docker) -> Result<Spread> {
        if let Some(why) = (self.missing)() {
            anyhow::bail!(why);
        }
        // The first brings the files into the page cache.
        let times = (0..=ROUNDS).map(|_| {
            let from = Instant::now();
            let shown = (self.look)(bed, docker)?;
            let took = from.elapsed().as_secs_f64();
            drop(shown);
            Ok(took)
        });
        let times = times.collect::<Result<Vec<f64>>>()?;
        Spread::of(&times[1..])
    }
}
