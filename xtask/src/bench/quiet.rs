//! Whether a memtrace that is not ours follows log lines meanwhile, as that of a live test does: both would be measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Bed;
use crate::command::{command, find, output};

/// What the programs of the probe of log lines are called.
const NAMES: [&str; 3] = ["log_e", "lw_", "lr_"];
/// The kernel lets go of a program a moment after its last user has ended.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(600);
const BEAT: Duration = Duration::from_millis(100);

/// Waits until there is none.
pub(super) fn wait(bed: &Bed) -> Result<()> {
    bed.stop.wait("another memtrace to end", PATIENCE, || {
        if attached()? == 0 {
            return Ok(Some(()));
        }
        bed.stop.sleep(BEAT)?;
        Ok(None)
    })
}

/// Whether there is none, now that ours has ended.
pub(super) fn is_alone(bed: &Bed) -> Result<bool> {
    let end = Instant::now() + SETTLE;
    while attached()? > 0 {
        if Instant::now() > end {
            return Ok(false);
        }
        bed.stop.sleep(BEAT)?;
    }
    Ok(true)
}

/// None where nothing can tell.
fn attached() -> Result<usize> {
    if find("bpftool").is_none() {
        return Ok(0);
    }
    let listed = output(command("bpftool").args(["prog", "show", "--json"]))?;
    let listed: Value = serde_json::from_str(&listed).context("cannot read what bpftool printed")?;
    let programs = listed.as_array().into_iter().flatten();
    let names = programs.filter_map(|program| program["name"].as_str());
    Ok(names.filter(|name| NAMES.iter().any(|own| name.starts_with(own))).count())
}
