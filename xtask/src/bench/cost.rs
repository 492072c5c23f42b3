//! CPU and memory of memtrace itself on a host full of containers, idle and active.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bed, member, peers,
    process::{Running, Usage},
    report::{Aim, Line, Report, Unit},
    storm::median,
    terminal::OnTerminal,
};

/// After the start, before anything is counted: the first sweep of every cgroup is over, and the allocator is warm.
const SETTLE: Duration = Duration::from_secs(12);
/// Three windows of this; the median counts.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS: usize = 3;

const IDLE_CPU: f64 = 0.005;
const RSS: f64 = 40.0 * 1_048_576.0;
const MAPS: f64 = 32.0 * 1_048_576.0;

pub(super) fn cost(bed: &Bed, report: &mut Report) -> Result<()> {
    for (name, active) in [("idle cgroups", false), ("active cgroups", true)] {
        let members = member::cgroups(bed, active)?;
        let own = own(bed, report, name, (!active).then_some(IDLE_CPU))?;
        peers::cost(bed, report, name, own)?;
        drop(members);
    }
    Ok(())
}

/// What the full screen takes: peers are compared with it.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) cpu: f64,
    pub(super) rss: f64,
}

/// memtrace itself, both ways of looking.
pub(super) fn own(bed: &Bed, report: &mut Report, name: &'static str, aim: Option<f64>) -> Result<Own> {
    let own = screen(bed, report, name, aim)?;
    stream(bed, report, name)?;
    everything(bed, report, name)?;
    Ok(own)
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
fn screen(bed: &Bed, report: &mut Report, name: &'static str, aim: Option<f64>) -> Result<Own> {
    let mut top = OnTerminal::start(&mut bed.memtrace(&["-i", "1"]))?;
    top.until(bed, "GROWTH")?;
    top.read_for(bed, SETTLE)?;
    let shares = shares(bed, || {
        let before = top.running.usage()?.cpu;
        top.read_for(bed, WINDOW)?;
        let used = top.running.usage()?.cpu.saturating_sub(before);
        Ok(used.as_secs_f64() / WINDOW.as_secs_f64())
    })?;
    let share = median(shares.iter().copied());
    let cpu = Line::new(name, "memtrace top, CPU of one core", Unit::Share, share)
        .spread(super::report::Spread::of(&shares)?);
    report.add(match aim {
        Some(aim) => cpu.aim(Aim::AtMost(aim)),
        None => cpu,
    });
    let usage = top.running.usage()?;
    memory(report, name, "memtrace top", usage);
    Ok(Own { cpu: share, rss: usage.rss as f64 })
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

/// `diagnose`, with all that it attaches; what its programs take falls on whoever runs into them, and is in the storms.
fn everything(bed: &Bed, report: &mut Report, name: &'static str) -> Result<()> {
    let diagnose = bed.diagnosing()?;
    bed.stop.sleep(SETTLE)?;
    let shares = shares(bed, || diagnose.cpu_share(&bed.stop, WINDOW))?;
    let share = median(shares.iter().copied());
    report.add(
        Line::new(name, "memtrace diagnose, CPU of one core", Unit::Share, share)
            .spread(super::report::Spread::of(&shares)?),
    );
    memory(report, name, "memtrace diagnose", diagnose.usage()?);
    Ok(())
}

fn memory(report: &mut Report, name: &'static str, what: &str, usage: Usage) {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let line = Line::new(name, format!("{what}, RSS"), Unit::Bytes, usage.rss as f64).aim(Aim::AtMost(RSS));
    let pss = usage.pss.map_or_else(String::new, |pss| format!(", PSS {:.1} MiB", mib(pss)));
    report.add(line.note(format!("peak {:.1} MiB{pss}", mib(usage.peak))));
}
