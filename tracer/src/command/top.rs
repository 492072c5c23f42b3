//! `memtrace top`: the full screen, or plain rows, or NDJSON.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Failure,
    collect::{self, Demands, Unmatched},
};
use crate::{
    cli::Top,
    pipeline::{self, Chosen, LogWish, SiteWish, Snapshots},
    view::{
        demand::SITES,
        json,
        select::{Filter, Key, Order, select},
        site, table, tui,
    },
};

/// What is to be shown.
struct Shown {
    filter: Filter,
    order: Order,
    rows: Option<usize>,
    ascii: bool,
    json: bool,
}

pub fn run(options: Top) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let order = Order::default();
    let shown = Shown {
        filter: options.watch.container.clone().unwrap_or_default(),
        order: Order { key: Key::find(&options.sort).unwrap_or(order.key), ..order },
        rows: options.watch.rows.map(|rows| rows as usize),
        ascii: options.ascii,
        json: options.watch.json,
    };
    // An alternative that is named is wanted.
    let named = options.watch.attach.iter().any(|force| force.probe == Some("charge_site"));
    let sites = options.sites.or_else(|| named.then_some(SITES));
    let collected = pipeline::Options {
        charges: options.charges,
        stuck: Some(pipeline::STUCK),
        sites: sites.map(|time| SiteWish { chosen: Chosen::Pattern(shown.filter.clone()), time }),
        work: true,
        // What is wrong is told wherever memtrace runs.
        dead: true,
        signals: true,
        daemons: Some(Vec::new()),
        hold: pipeline::HOLD,
        budget: options.budget / 100.0,
        ..collect::options(&options.watch, LogWish::Counts)
    };
    let folded = options.folded.as_deref().map(Folded::create).transpose()?;
    let last = collect::run(collected, facts, |snapshots, demands| show(snapshots, shown, demands))?;
    match (folded, last.and_then(|snapshot| snapshot.sites.clone())) {
        (Some(file), Some(report)) => file.write(&site::folded(&report)),
        _ => Ok(()),
    }
}

/// `--folded FILE`: opened before the run, so that a wrong path is told at once.
struct Folded {
    file: File,
    path: PathBuf,
}

impl Folded {
    fn create(path: &Path) -> Result<Folded, Failure> {
        let file = File::create(path);
        let file = file.map_err(|error| {
            Failure::new(Failure::RUN, format!("cannot make {}: {error}", path.display()))
        })?;
        Ok(Folded { file, path: path.to_owned() })
    }

    fn write(mut self, stacks: &str) -> Result<(), Failure> {
        self.file.write_all(stacks.as_bytes()).map_err(|error| {
            Failure::new(Failure::RUN, format!("cannot write {}: {error}", self.path.display()))
        })
    }
}

async fn show(snapshots: Snapshots, shown: Shown, demands: Demands) -> anyhow::Result<()> {
    let Shown { filter, order, rows, ascii, json } = shown;
    if !json && io::stdout().is_terminal() && io::stdin().is_terminal() {
        let options = tui::Options { filter, order, limit: rows, ascii, demands: Some(demands) };
        return tui::run(snapshots, options).await;
    }
    let mut writer = json::Writer::default();
    let mut unmatched = Unmatched::default();
    collect::print_each(snapshots, |snapshot| {
        let rows = select(snapshot, &[&filter], order, rows);
        unmatched.tell(rows.is_empty(), &filter);
        // The opening interval is not printed.
        Ok(match json {
            _ if snapshot.sequence == 1 => String::new(),
            true => writer.top(snapshot, &rows) + "\n",
            false => table::top(snapshot, &rows),
        })
    })
    .await
}
