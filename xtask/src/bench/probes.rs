//! Nanoseconds of each kernel program, as the kernel counts them, beside an empty program on the same hook.

use std::{collections::HashMap, fs, process::Command, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Bed, member,
    process::Running,
    report::{Line, Report, Unit},
    tracing,
};
use crate::command::{command, output};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
const NAME: &str = "probes";

/// The kernel's statistics of programs, on for as long as this lives and then as they were.
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    pub(super) fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, self.before.trim()) {
            eprintln!("bench: cannot set {SWITCH} back to {}: {error}", self.before.trim());
        }
    }
}

/// Runs and their time, by the name of the program.
pub(super) type Counts = HashMap<String, (u64, u64)>;

pub(super) fn probes(bed: &Bed, report: &mut Report) -> Result<()> {
    let _on = Statistics::on()?;
    let mut floor = None;
    if let Some(why) = tracing::missing() {
        report.skip("the floor of a probe on mod_memcg_lruvec_state", why);
    } else {
        let mut bpftrace = Running::start(Command::new("bpftrace").args(["-e", tracing::EMPTY]))?;
        bpftrace.line(&bed.stop, 1)?;
        bed.stop.sleep(Duration::from_millis(500))?;
        let counts = during(bed, &bpftrace, exercise)?;
        for (name, cost) in average(&counts) {
            floor = Some(cost);
            let what = format!("bpftrace, an empty program ({name})");
            report.add(Line::new(NAME, what, Unit::Nanoseconds, cost).note(runs(&counts, &name)));
        }
    }
    let mut top = Running::start(&mut bed.memtrace(&["--json", "--charges=600"]))?;
    top.line(&bed.stop, 1)?;
    let counts = during(bed, &top, exercise)?;
    for (name, cost) in average(&counts) {
        let line = Line::new(NAME, name.clone(), Unit::Nanoseconds, cost).note(runs(&counts, &name));
        let same_hook = name.contains("lruvec");
        report.add(match floor.filter(|_| same_hook) {
            Some(floor) => line.beside(floor),
            None => line,
        });
    }
    Ok(())
}

pub(super) fn runs(counts: &Counts, name: &str) -> String {
    format!("{} runs", counts.get(name).map_or(0, |(_, runs)| *runs))
}

pub(super) fn average(counts: &Counts) -> Vec<(String, f64)> {
    let mut averages: Vec<(String, f64)> = counts
        .iter()
        .filter(|(_, (_, runs))| *runs > 0)
        .map(|(name, (time, runs))| (name.clone(), *time as f64 / *runs as f64))
        .collect();
    averages.sort_by(|a, b| a.0.cmp(&b.0));
    averages
}

/// Something for every hook: faults, file pages, programs that start and end in cgroups that come and go.
fn exercise(bed: &Bed) -> Result<()> {
    let storm = |args: &[&str]| output(Command::new(&bed.workload).arg("--with-parent").args(args)).map(drop);
    storm(&["fault-storm", "--seconds", "2"])?;
    let file = bed.folder()?.join("probe-storm");
    let written = storm(&["write-storm", &file.to_string_lossy(), "--seconds", "2"]);
    // It may not have been made.
    let _ = fs::remove_file(file);
    written?;
    drop(member::cgroups(bed, false)?);
    bed.stop.check()
}

pub(super) fn during(bed: &Bed, of: &Running, work: impl FnOnce(&Bed) -> Result<()>) -> Result<Counts> {
    let before = counts(of)?;
    work(bed)?;
    let mut after = counts(of)?;
    for (name, (time, runs)) in &mut after {
        let (time_before, runs_before) = before.get(name).copied().unwrap_or_default();
        *time -= time_before;
        *runs -= runs_before;
    }
    Ok(after)
}

/// Of the programs that the process holds; `fdinfo` tells their ids and counts, bpftool their names.
pub(super) fn counts(of: &Running) -> Result<Counts> {
    let listed = output(command("bpftool").args(["prog", "show", "--json"]))?;
    let listed: Value = serde_json::from_str(&listed).context("cannot read what bpftool printed")?;
    let names: HashMap<u64, &str> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|program| Some((program["id"].as_u64()?, program["name"].as_str()?)))
        .collect();
    let dir = format!("/proc/{}/fdinfo", of.id());
    let files = fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))?;
    let mut counts = Counts::new();
    for text in files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()) {
        let get =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        if let (Some(id), Some(time), Some(runs)) = (get("prog_id:"), get("run_time_ns:"), get("run_cnt:")) {
            let name = names.get(&id).map_or_else(|| format!("program {id}"), |name| (*name).to_owned());
            counts.insert(name, (time, runs));
        }
    }
    Ok(counts)
}
