//! Whether a memtrace that is not ours follows log lines or dirty pages meanwhile, as that of a live test does: both would be
//! measured.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Bed;
use crate::command::{command, find, output};

/// What the programs of these probes are called.
const NAMES: [&str; 6] = ["log_e", "lw_", "lr_", "dirty_", "wb_", "call_e"];
/// The kernel lets go of a program a moment after its last user has ended.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(600);
const BEAT: Duration = Duration::from_millis(100);

/// Waits until there is none.
pub(super) fn wait(bed: &Bed) -> Result<()> {
    bed.stop.wait("another memtrace to end", PATIENCE, || {
        if !is_another(false)? {
            return Ok(Some(()));
        }
        bed.stop.sleep(BEAT)?;
        Ok(None)
    })
}

/// Whether there is none, now that ours has ended.
pub(super) fn is_alone(bed: &Bed) -> Result<bool> {
    let end = Instant::now() + SETTLE;
    while is_another(false)? {
        if Instant::now() > end {
            return Ok(false);
        }
        bed.stop.sleep(BEAT)?;
    }
    Ok(true)
}

/// Whether there is one now, beside one of ours: that has each program once. None where nothing can tell.
pub(super) fn is_another(ours: bool) -> Result<bool> {
    if find("bpftool").is_none() {
        return Ok(false);
    }
    let listed = output(command("bpftool").args(["prog", "show", "--json"]))?;
    let listed: Value = serde_json::from_str(&listed).context("cannot read what bpftool printed")?;
    let programs = listed.as_array().into_iter().flatten();
    let mut names = programs
        .filter_map(|program| program["name"].as_str())
        .filter(|name| NAMES.iter().any(|own| name.starts_with(own)));
    let mut seen = HashSet::new();
    Ok(names.any(|name| !ours || !seen.insert(name)))
}
