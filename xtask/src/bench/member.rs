//! A host full of containers: cgroups with one process each.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Bed, process::Running};

/// The parent of the cgroups of a benchmark.
pub(super) fn parent(bed: &Bed) -> PathBuf {
    bed.hierarchy.mount.join(format!("memtrace-bench-{}", std::process::id()))
}

/// Cgroups that live as long as this is kept.
pub(super) fn cgroups(bed: &Bed, active: bool) -> Result<Running> {
    let start = Instant::now();
    let mut command = Command::new(&bed.workload);
    command.args(["--with-parent", "cgroups"]).arg(parent(bed));
    command.args(["--count", &bed.cgroups.to_string()]).args(active.then_some("--active"));
    let mut members = Running::start(&mut command)?;
    members.line(&bed.stop, 1)?;
    let kind = if active { "active" } else { "idle" };
    eprintln!("bench: {} {kind} cgroups made in {:.1} s", bed.cgroups, start.elapsed().as_secs_f64());
    // Their start is not what is measured.
    bed.stop.sleep(Duration::from_secs(2))?;
    Ok(members)
}
