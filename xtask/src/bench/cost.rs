//! CPU and memory of memtrace itself on a host full of containers, idle and active.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bed, member,
    process::{Running, Usage},
    report::{Aim, Line, Report, Unit},
    storm::median,
    terminal::OnTerminal,
    tracing,
};
use crate::command::find;

/// After the start, before anything is counted: the first sweep of every cgroup is over, and the allocator is warm.
const SETTLE: Duration = Duration::from_secs(12);
/// Three windows of this; the median counts.
const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS: usize = 3;

const IDLE_CPU: f64 = 0.005;
const RSS: f64 = 40.0 * 1_048_576.0;
const MAPS: f64 = 32.0 * 1_048_576.0;

pub(super) fn cost(bed: &Bed, report: &mut Report) -> Result<()> {
    for (name, active) in [("idle cgroups", false), ("active cgroups", true)] {
        let members = member::cgroups(bed, active)?;
        screen(bed, report, name, active)?;
        stream(bed, report, name)?;
        others(bed, report, name)?;
        drop(members);
    }
    Ok(())
}

/// Shares of one core in consecutive windows.
fn shares(bed: &Bed, mut window: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..WINDOWS)
        .map(|_| {
            bed.stop.check()?;
            window()
        })
        .collect()
}

/// As a person has it: a full screen, redrawn each second.
fn screen(bed: &Bed, report: &mut Report, name: &'static str, active: bool) -> Result<()> {
    let mut top = OnTerminal::start(&mut bed.memtrace(&["-i", "1"]))?;
    top.until(bed, "GROWTH")?;
    top.read_for(bed, SETTLE)?;
    let shares = shares(bed, || {
        let before = top.running.usage()?.cpu;
        top.read_for(bed, WINDOW)?;
        let used = top.running.usage()?.cpu.saturating_sub(before);
        Ok(used.as_secs_f64() / WINDOW.as_secs_f64())
    })?;
    let cpu = Line::new(name, "memtrace top, CPU of one core", Unit::Share, median(shares.iter().copied()))
        .spread(super::report::Spread::of(&shares)?);
    report.add(if active { cpu } else { cpu.aim(Aim::AtMost(IDLE_CPU)) });
    memory(report, name, "memtrace top", top.running.usage()?);
    Ok(())
}

/// As a collector has it: every row, each second.
fn stream(bed: &Bed, report: &mut Report, name: &'static str) -> Result<()> {
    let mut top = Running::start(&mut bed.memtrace(&["--json", "-i", "1"]))?;
    top.line(&bed.stop, 1)?;
    bed.stop.sleep(SETTLE)?;
    let shares = shares(bed, || top.cpu_share(&bed.stop, WINDOW))?;
    let share = median(shares.iter().copied());
    let said: Value =
        serde_json::from_str(&top.last_line()).context("cannot read what memtrace printed last")?;
    let own = &said["host"]["own"];
    let seconds = |key: &str| own[key].as_f64().unwrap_or(f64::NAN) * 1000.0;
    let rows = said["containers"].as_array().map_or(0, Vec::len);
    report.add(
        Line::new(name, "memtrace top --json, CPU of one core", Unit::Share, share)
            .spread(super::report::Spread::of(&shares)?)
            .note(format!(
                "{rows} rows; a tick takes {:.1} ms (p50), {:.1} ms (p99)",
                seconds("tick_p50_s"),
                seconds("tick_p99_s")
            )),
    );
    memory(report, name, "memtrace top --json", top.usage()?);
    if let Some(maps) = own["maps"].as_f64() {
        report.add(Line::new(name, "memtrace, maps in the kernel", Unit::Bytes, maps).aim(Aim::AtMost(MAPS)));
    }
    Ok(())
}

fn memory(report: &mut Report, name: &'static str, what: &str, usage: Usage) {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let line = Line::new(name, format!("{what}, RSS"), Unit::Bytes, usage.rss as f64).aim(Aim::AtMost(RSS));
    let pss = usage.pss.map_or_else(String::new, |pss| format!(", PSS {:.1} MiB", mib(pss)));
    report.add(line.note(format!("peak {:.1} MiB{pss}", mib(usage.peak))));
}

/// What a user would otherwise run.
fn others(bed: &Bed, report: &mut Report, name: &'static str) -> Result<()> {
    match tracing::missing() {
        Some(why) => report.skip("the cost of bpftrace", why),
        None => {
            let mut bpftrace = Running::start(Command::new("bpftrace").args(["-e", tracing::COUNT]))?;
            bpftrace.line(&bed.stop, 1)?;
            bed.stop.sleep(Duration::from_secs(1))?;
            other(bed, report, name, "bpftrace, charges by cgroup", &bpftrace)?;
        }
    }
    if find("atop").is_none() {
        report.skip("the cost of atop", "it is not installed");
        return Ok(());
    }
    let mut atop = Running::start(Command::new("atop").arg("1"))?;
    atop.line(&bed.stop, 1)?;
    other(bed, report, name, "atop 1", &atop)
}

fn other(bed: &Bed, report: &mut Report, name: &'static str, what: &str, running: &Running) -> Result<()> {
    let share = running.cpu_share(&bed.stop, WINDOW)?;
    let usage = running.usage()?;
    report.add(Line::new(name, format!("{what}, CPU of one core"), Unit::Share, share));
    report.add(Line::new(name, format!("{what}, RSS"), Unit::Bytes, usage.rss as f64));
    Ok(())
}
