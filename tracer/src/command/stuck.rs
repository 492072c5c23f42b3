//! `memtrace stuck`: tasks in uninterruptible sleep, an interval each, as rows or as NDJSON.

use std::io::{self, IsTerminal as _};

use super::{Failure, Unserved, collect};
use crate::{
    cli::Stuck,
    pipeline::{self, LogWish},
    snapshot::Snapshot,
    view::{
        stuck::{Sort, json, missing, select, table},
        text::Charset,
    },
};

pub fn run(options: Stuck) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let shared = collect::options(&options.watch, LogWish::Off);
    let collected = pipeline::Options { stuck: Some(options.threshold), signals: true, ..shared };
    let charset = match io::stdout().is_terminal() {
        _ if options.ascii => Charset::Ascii,
        true => Charset::of_environment(),
        false => Charset::Unicode,
    };
    let mut unmatched = collect::Unmatched::default();
    collect::run(collected, facts, |snapshots, _| {
        collect::print_each(snapshots, move |snapshot| text(snapshot, &options, charset, &mut unmatched))
    })
    .map(drop)
}

fn text(
    snapshot: &Snapshot,
    options: &Stuck,
    charset: Charset,
    unmatched: &mut collect::Unmatched,
) -> anyhow::Result<String> {
    let Some(report) = snapshot.stuck.as_deref() else {
        return Err(Unserved(missing(snapshot)).into());
    };
    let filter = options.watch.container.clone().unwrap_or_default();
    unmatched.tell(!snapshot.rows.iter().any(|row| filter.matches(&row.container)), &filter);
    if snapshot.sequence == 1 {
        // The opening interval is not printed.
        return Ok(String::new());
    }
    let sort = Sort::find(&options.sort);
    let limit = options.watch.rows.map(|rows| rows as usize);
    let shown = select(report, &filter, sort, limit);
    Ok(match options.watch.json {
        true => json(snapshot, report, &shown) + "\n",
        false => table(snapshot, report, &shown, charset),
    })
}
