//! `memtrace cgroups`: removed memory cgroups that the kernel keeps, an interval each, as rows or as NDJSON.

use super::{Failure, Unserved, collect};
use crate::{
    cli::Cgroups,
    pipeline::{self, LogWish},
    snapshot::Snapshot,
    view::cgroups::{json, missing, select, table},
};

pub fn run(options: Cgroups) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let collected = pipeline::Options { dead: true, ..collect::options(&options.watch, LogWish::Off) };
    collect::run(collected, facts, |snapshots, _| {
        collect::print_each(snapshots, move |snapshot| text(snapshot, &options))
    })
    .map(drop)
}

fn text(snapshot: &Snapshot, options: &Cgroups) -> anyhow::Result<String> {
    let Some(report) = snapshot.dead.as_deref() else {
        return Err(Unserved(missing(snapshot)).into());
    };
    if snapshot.sequence == 1 {
        // The opening interval is not printed.
        return Ok(String::new());
    }
    let filter = options.watch.container.clone().unwrap_or_default();
    let rows = options.watch.rows.map(|rows| rows as usize);
    if options.watch.json {
        let origins = select(report, &filter, rows);
        return Ok(json(snapshot, report, origins) + "\n");
    }
    Ok(table(snapshot, report, &select(report, &filter, None), rows))
}
