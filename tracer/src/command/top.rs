//! `memtrace top`: one thread collects, this one shows, and both end together.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{Failure, facts, permitted, print};
use crate::{
    cli::{LOG_LEVELS, Top},
    kernel::Facts,
    pipeline::{self, Chosen, Pipeline, SiteWish, Snapshots},
    view::{
        demand::{Demand, SITES},
        json,
        select::{Filter, Key, Order, select},
        site, table, tui,
    },
};

/// How long the collector may take to end. On a dying host it may hang in the kernel for good; the process does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is to be shown.
struct Shown {
    filter: Filter,
    order: Order,
    rows: Option<usize>,
    ascii: bool,
    json: bool,
}

pub fn run(options: Top) -> Result<(), Failure> {
    let facts = facts()?;
    permitted(&facts)?;
    if let Some(lost) = facts.cgroup.blind() {
        // A closed standard error cannot be told anything.
        let _ = writeln!(io::stderr(), "memtrace: {lost}");
    }
    let order = Order::default();
    let shown = Shown {
        filter: options.container.clone().unwrap_or_default(),
        order: Order { key: Key::find(&options.sort).unwrap_or(order.key), ..order },
        rows: options.rows.map(|rows| rows as usize),
        ascii: options.ascii,
        json: options.json,
    };
    // An alternative that is named is wanted.
    let named = options.attach.iter().any(|force| force.probe == Some("charge_site"));
    let sites = options.sites.or_else(|| named.then_some(SITES));
    let collected = pipeline::Options {
        interval: options.interval,
        duration: options.duration,
        force: options.attach,
        charges: options.charges,
        sites: sites.map(|time| SiteWish { chosen: Chosen::Pattern(shown.filter.clone()), time }),
        probe_log: options
            .probe_log
            .and_then(|word| LOG_LEVELS.iter().position(|level| *level == word))
            .map_or(0, |place| place as u8 + 1),
    };
    let folded = options.folded.as_deref().map(Folded::create).transpose()?;
    let (sender, snapshots) = watch::channel(None);
    let last = snapshots.clone();
    let (stop, stopped) = watch::channel(false);
    let (demand, demands) = mpsc::unbounded_channel();
    let collector = collect(collected, facts, sender, stopped, demands)?;
    let viewed = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Failure::RUN, format!("cannot start the runtime: {error}")))?
        .block_on(show(snapshots, shown, &stop, demand));
    stop.send_replace(true);
    ended(collector)?;
    viewed?;
    let report = last.borrow().as_ref().and_then(|snapshot| snapshot.sites.clone());
    match (folded, report) {
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

fn collect(
    options: pipeline::Options,
    facts: Facts,
    sender: watch::Sender<Option<std::sync::Arc<crate::snapshot::Snapshot>>>,
    stopped: watch::Receiver<bool>,
    demands: mpsc::UnboundedReceiver<Demand>,
) -> Result<JoinHandle<anyhow::Result<()>>, Failure> {
    thread::Builder::new()
        .name("collector".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime
                .block_on(async move { Pipeline::start(options, facts)?.run(sender, stopped, demands).await })
        })
        .map_err(|error| Failure::new(Failure::RUN, format!("cannot start a thread: {error}")))
}

/// Waits for the collector, which detaches the probes; one that hangs is left to the end of the process, which
/// detaches them too.
fn ended(collector: JoinHandle<anyhow::Result<()>>) -> Result<(), Failure> {
    let asked = Instant::now();
    while !collector.is_finished() {
        if asked.elapsed() > PATIENCE {
            return Err(Failure::new(
                Failure::RUN,
                "the collector hangs in the kernel (reading a cgroup or /proc); it ends with this process",
            ));
        }
        thread::sleep(Duration::from_millis(2));
    }
    collector.join().map_err(|_| Failure::new(Failure::RUN, "the collector panicked"))??;
    Ok(())
}

/// Runs the view until it ends, or until a signal and the last interval after it.
async fn show(
    snapshots: Snapshots,
    shown: Shown,
    stop: &watch::Sender<bool>,
    demands: mpsc::UnboundedSender<Demand>,
) -> anyhow::Result<()> {
    let screen = !shown.json && io::stdout().is_terminal() && io::stdin().is_terminal();
    let view = async {
        if screen {
            let Shown { filter, order, rows: limit, ascii, .. } = shown;
            tui::run(snapshots, tui::Options { filter, order, limit, ascii, demands: Some(demands) }).await
        } else {
            stream(snapshots, &shown).await
        }
    };
    tokio::pin!(view);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        done = &mut view => return done,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    stop.send_replace(true);
    // The view ends by itself once the last interval is shown; dropped, it restores the terminal.
    tokio::time::timeout(PATIENCE, view).await.unwrap_or(Ok(()))
}

/// Plain rows or NDJSON: one block an interval, from the first whole interval on.
async fn stream(mut snapshots: Snapshots, shown: &Shown) -> anyhow::Result<()> {
    let filter = &shown.filter;
    let mut json = json::Writer::default();
    let mut last = 1;
    let mut warned = false;
    while snapshots.changed().await.is_ok() {
        let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
        let rows = select(&snapshot, &[filter], shown.order, shown.rows);
        if rows.is_empty() && !warned && !filter.pattern().is_empty() {
            warned = true;
            let _ = writeln!(
                io::stderr(),
                "memtrace: no container matches {:?} now; one that starts later will be shown",
                filter.pattern()
            );
        }
        // The first snapshot has no rates: it opens the first interval.
        if snapshot.sequence == 1 {
            continue;
        }
        if snapshot.sequence > last + 1 {
            let missed = snapshot.sequence - last - 1;
            let _ = writeln!(
                io::stderr(),
                "memtrace: {missed} intervals were not printed: the output is not read fast enough"
            );
        }
        last = snapshot.sequence;
        let text = if shown.json { json.top(&snapshot, &rows) + "\n" } else { table::top(&snapshot, &rows) };
        match print(&text) {
            Ok(true) => {}
            // Nobody reads any more: that is an ordinary end.
            Ok(false) => break,
            Err(failure) => anyhow::bail!(failure.message),
        }
    }
    Ok(())
}
