//! What each command does, from options to views; exit statuses are decided here.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    thread,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    cli::{Cli, Command, Doctor, LOG_LEVELS, Top},
    kernel::{Facts, privilege},
    metric, pipeline,
    pipeline::{Pipeline, Snapshots},
    probe::{
        attach::{AttachError, Loader, Outcome, Sizes},
        plan::{Wishes, plan},
        registry::Kind,
    },
    resolve::{container::Role, tree::Tree},
    view::{
        doctor, json,
        select::{Filter, Key, Order, select},
        table, tui,
    },
};

/// Why a command failed, and the status that says so.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    const RUN: u8 = 1;
    const NOT_PERMITTED: u8 = 3;

    fn new(status: u8, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string() }
    }

    /// One sentence to standard error.
    pub fn report(&self) -> ExitCode {
        // A closed standard error cannot be told anything.
        let _ = writeln!(io::stderr(), "memtrace: {}", self.message);
        ExitCode::from(self.status)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let status = if error.is::<AttachError>() { Failure::NOT_PERMITTED } else { Failure::RUN };
        Failure::new(status, format!("{error:#}"))
    }
}

pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Top(options) => top(*options),
        Command::Doctor(options) => examine(&options),
        Command::GenerateDocs { page } => {
            print(&if page == "probes" { doctor::markdown() } else { metric::markdown() }).map(drop)
        }
    }
}

/// Facts of this kernel, or the sentence that says what is missing.
fn facts() -> Result<Facts, Failure> {
    pipeline::facts().map_err(|error| Failure::new(Failure::NOT_PERMITTED, error))
}

/// Fails where a capability is missing without which no program can be loaded.
fn permitted(facts: &Facts) -> Result<(), Failure> {
    let needed = ["CAP_BPF", "CAP_PERFMON"];
    match facts.capabilities_missing.iter().find(|missing| needed.contains(&missing.as_str())) {
        None => Ok(()),
        Some(missing) => Err(Failure::new(
            Failure::NOT_PERMITTED,
            format!(
                "not permitted to {} ({missing} is missing): run it with sudo, or in a container with \
                 --privileged or the capabilities that `memtrace doctor` lists",
                privilege::purpose(missing)
            ),
        )),
    }
}

fn top(options: Top) -> Result<(), Failure> {
    let facts = facts()?;
    permitted(&facts)?;
    let filter = options.container.clone().unwrap_or_default();
    let order = Order::default();
    let order = Order { key: Key::find(&options.sort).unwrap_or(order.key), ..order };
    let rows = options.rows.map(|rows| rows as usize);
    let screen = !options.json && io::stdout().is_terminal() && io::stdin().is_terminal();
    let pipeline_options = pipeline::Options {
        interval: options.interval,
        duration: options.duration,
        force: options.attach,
        charges: options.charges,
        probe_log: options
            .probe_log
            .and_then(|word| LOG_LEVELS.iter().position(|level| *level == word))
            .map_or(0, |place| place as u8 + 1),
    };

    let (sender, snapshots) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let (demand, demands) = mpsc::unbounded_channel();
    let collector = thread::Builder::new()
        .name("collector".to_owned())
        .spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                Pipeline::start(pipeline_options, facts)?.run(sender, stopped, demands).await
            })
        })
        .map_err(|error| Failure::new(Failure::RUN, format!("cannot start a thread: {error}")))?;

    let viewed = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Failure::RUN, format!("cannot start the runtime: {error}")))?
        .block_on(async {
            let view = async {
                if screen {
                    let options = tui::Options {
                        filter,
                        order,
                        limit: rows,
                        ascii: options.ascii,
                        demands: Some(demand),
                    };
                    tui::run(snapshots, options).await
                } else {
                    stream(snapshots, &filter, order, rows, options.json).await
                }
            };
            tokio::pin!(view);
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    done = &mut view => break done,
                    // The view ends by itself once the last interval is shown.
                    _ = interrupt.recv() => { stop.send_replace(true); }
                    _ = terminate.recv() => { stop.send_replace(true); }
                    _ = hangup.recv() => { stop.send_replace(true); }
                }
            }
        });
    stop.send_replace(true);
    let collected = collector.join().map_err(|_| Failure::new(Failure::RUN, "the collector panicked"))?;
    collected?;
    viewed?;
    Ok(())
}

/// Plain rows or NDJSON: one block an interval, from the first whole interval on.
async fn stream(
    mut snapshots: Snapshots,
    filter: &Filter,
    order: Order,
    rows: Option<usize>,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut last = 1;
    let mut warned = false;
    while snapshots.changed().await.is_ok() {
        let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
        let shown = select(&snapshot, &[filter], order, rows);
        if shown.is_empty() && !warned && !filter.pattern().is_empty() {
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
        let text = if as_json { json::top(&snapshot, &shown) + "\n" } else { table::top(&snapshot, &shown) };
        match print(&text) {
            Ok(true) => {}
            // Nobody reads any more: that is an ordinary end.
            Ok(false) => break,
            Err(failure) => anyhow::bail!(failure.message),
        }
    }
    Ok(())
}

/// Writes to standard output; `false` when its reader is gone.
fn print(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Failure::RUN, format!("cannot write to standard output: {error}"))),
    }
}

/// `doctor`: tries every alternative of every probe and leaves none attached.
fn examine(options: &Doctor) -> Result<(), Failure> {
    let mut facts = facts()?;
    let allowed = permitted(&facts);
    let planned = plan(&facts, &Wishes::default());
    let outcomes: Vec<Outcome> = match &allowed {
        Ok(()) => {
            let mut loader = Loader::load(&facts, Sizes::new(0, &facts), 0)
                .map_err(|error| Failure::new(Failure::NOT_PERMITTED, error))?;
            planned.iter().map(|probe| loader.examine(probe)).collect()
        }
        Err(failure) => planned.iter().map(|probe| Outcome::refused(probe, &failure.message)).collect(),
    };
    if options.facts {
        for kind in Kind::ALL {
            let mut tried =
                outcomes.iter().flat_map(|outcome| &outcome.attempts).filter(|a| a.alternative.kind == kind);
            let refusals: Vec<&str> =
                tried.clone().filter_map(|a| a.why.as_deref().filter(|_| !a.usable)).collect();
            if !tried.any(|attempt| attempt.usable)
                && let Some(refusal) = refusals.first()
                && allowed.is_ok()
            {
                facts.refused.insert(kind.as_str().to_owned(), (*refusal).to_owned());
            }
        }
        let text = serde_json::to_string_pretty(&facts)
            .map_err(|error| Failure::new(Failure::RUN, format!("cannot write the facts: {error}")))?;
        return print(&(text + "\n")).map(drop);
    }
    let report = doctor::Report { facts: &facts, outcomes: &outcomes, runtimes: runtimes(&facts) };
    print(&if options.json { report.json() + "\n" } else { report.text() })?;
    allowed
}

/// Runtimes that have a container now.
fn runtimes(facts: &Facts) -> Vec<&'static str> {
    let Ok(tree) = Tree::walk(&facts.cgroup.memory, facts.cgroup.memory_v2) else { return Vec::new() };
    let mut found: Vec<&'static str> = tree
        .rows()
        .filter_map(|id| tree.node(id))
        .filter(|node| node.shape.role == Role::Container)
        .map(|node| node.shape.runtime.as_str())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
