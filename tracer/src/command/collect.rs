//! What every live command does alike: one thread collects, this one shows, and both end together, also on a signal.

use std::{
    future::Future,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{Failure, facts, permitted, print};
use crate::{
    cli::{LOG_LEVELS, Watch},
    kernel::Facts,
    pipeline::{self, CallWish, Callers, DirtyWish, LogWish, Pipeline, Snapshots},
    probe::registry,
    snapshot::Snapshot,
    view::{demand::Demand, select::Filter},
};

/// How long the collector may take to end, unless a second signal comes. On a dying host a look at the cgroups may take
/// seconds, or hang in the kernel for good; the process does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a view sends its wishes.
pub type Demands = mpsc::UnboundedSender<Demand>;

/// Facts of this kernel, where a probe may be attached at all; what its cgroups hide is said.
pub fn usable_facts() -> Result<Facts, Failure> {
    let facts = facts()?;
    permitted(&facts)?;
    if let Some(lost) = facts.cgroup.blind() {
        say(&lost);
    }
    Ok(facts)
}

/// What the shared options choose; the rest is off.
pub fn options(watch: &Watch, logs: LogWish) -> pipeline::Options {
    let level = watch.probe_log.as_ref().and_then(|word| LOG_LEVELS.iter().position(|level| level == word));
    // An alternative that is named is wanted.
    let named = watch.attach.iter().any(|force| force.probe == Some(registry::OF_CALLS));
    pipeline::Options {
        interval: watch.interval,
        duration: watch.duration,
        force: watch.attach.clone(),
        charges: None,
        sites: None,
        calls: if named { CallWish::Of(Callers::Every) } else { CallWish::Off },
        logs,
        dirty: DirtyWish::Off,
        dead: false,
        signals: false,
        daemons: None,
        work: false,
        stuck: None,
        hold: Duration::ZERO,
        budget: pipeline::BUDGET,
        probe_log: level.map_or(0, |place| place as u8 + 1),
    }
}

/// Collects and shows until the time is up, the view ends, or a signal comes; gives the last interval.
pub fn run<View>(
    options: pipeline::Options,
    facts: Facts,
    view: impl FnOnce(Snapshots, Demands) -> View,
) -> Result<Option<Arc<Snapshot>>, Failure>
where
    View: Future<Output = anyhow::Result<()>>,
{
    let (sender, snapshots) = watch::channel(None);
    let last = snapshots.clone();
    let (stop, stopped) = watch::channel(false);
    let (demand, demands) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Failure::RUN, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        // First: one that comes while probes are loaded is an ordinary end, too.
        let mut signals = Signals::new()?;
        let collector = Collector::start(options, facts, sender, stopped, demands)?;
        let viewed = until_signal(view(snapshots, demand), &mut signals, &stop).await;
        stop.send_replace(true);
        collector.ended(&mut signals).await?;
        viewed.map_err(Failure::from)
    })?;
    let last = last.borrow().clone();
    Ok(last)
}

/// The thread that collects.
struct Collector {
    thread: JoinHandle<anyhow::Result<()>>,
    /// It reads what the kernel tells. Before that it loads programs, afterwards it detaches them.
    watching: Arc<AtomicBool>,
}

impl Collector {
    fn start(
        options: pipeline::Options,
        facts: Facts,
        sender: watch::Sender<Option<Arc<Snapshot>>>,
        stopped: watch::Receiver<bool>,
        demands: mpsc::UnboundedReceiver<Demand>,
    ) -> Result<Collector, Failure> {
        let watching = Arc::new(AtomicBool::new(false));
        let watches = Arc::clone(&watching);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let mut pipeline = Pipeline::start(options, facts)?;
                watches.store(true, Ordering::Relaxed);
                let ended = pipeline.run(sender, stopped, demands).await;
                watches.store(false, Ordering::Relaxed);
                ended
            })
        };
        let thread = thread::Builder::new()
            .name("collector".to_owned())
            .spawn(work)
            .map_err(|error| Failure::new(Failure::RUN, format!("cannot start a thread: {error}")))?;
        Ok(Collector { thread, watching })
    }

    /// Waits for its end. One that only loads or detaches probes is left to the end of the process, by which the kernel
    /// detaches them; so is one that hangs, but then the last interval is missing.
    async fn ended(self, signals: &mut Signals) -> Result<(), Failure> {
        let asked = Instant::now();
        while !self.thread.is_finished() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
                () = signals.any() => return Ok(()),
            }
            if asked.elapsed() > PATIENCE {
                if !self.watching.load(Ordering::Relaxed) {
                    return Ok(());
                }
                return Err(Failure::new(
                    Failure::RUN,
                    "the collector hangs in the kernel (reading a cgroup or /proc); it ends with this process",
                ));
            }
        }
        self.thread.join().map_err(|_| Failure::new(Failure::RUN, "the collector panicked"))??;
        Ok(())
    }
}

/// Those by which we are asked to end.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Signals([interrupt?, terminate?, hangup?]))
    }

    /// The next of them.
    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs the view until it ends, or until a signal and the last interval after it, or a second signal.
async fn until_signal(
    view: impl Future<Output = anyhow::Result<()>>,
    signals: &mut Signals,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    tokio::pin!(view);
    tokio::select! {
        done = &mut view => return done,
        () = signals.any() => {}
    }
    stop.send_replace(true);
    // The view ends by itself once the last interval is shown; dropped, it restores the terminal.
    tokio::select! {
        shown = tokio::time::timeout(PATIENCE, view) => shown.unwrap_or(Ok(())),
        () = signals.any() => Ok(()),
    }
}

/// Hands over each interval, the opening one too, until there are no more or `take` wants none.
pub async fn each(
    mut snapshots: Snapshots,
    mut take: impl FnMut(&Arc<Snapshot>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    while snapshots.changed().await.is_ok() {
        let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
        if !take(&snapshot)? {
            break;
        }
    }
    Ok(())
}

/// Prints each whole interval as `text` puts it, and says how many it missed. The opening one, which has no rates, is
/// put into words but not printed.
pub async fn print_each(
    snapshots: Snapshots,
    mut text: impl FnMut(&Snapshot) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut last = 1;
    each(snapshots, |snapshot| {
        let text = text(snapshot)?;
        if snapshot.sequence == 1 {
            return Ok(true);
        }
        if snapshot.sequence > last + 1 {
            let missed = snapshot.sequence - last - 1;
            say(&format!("{missed} intervals were not printed: the output is not read fast enough"));
        }
        last = snapshot.sequence;
        // Nobody reads any more: that is an ordinary end.
        print(&text).map_err(|failure| anyhow::anyhow!(failure.message))
    })
    .await
}

/// Once, when nothing passes the filter.
#[derive(Default)]
pub struct Unmatched {
    said: bool,
}

impl Unmatched {
    pub fn tell(&mut self, nothing: bool, filter: &Filter) {
        if nothing && !self.said && !filter.pattern().is_empty() {
            self.said = true;
            say(&format!(
                "no container matches {:?} now; one that starts later will be shown",
                filter.pattern()
            ));
        }
    }
}

/// A sentence to standard error; a closed one cannot be told anything.
pub fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "memtrace: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_when_nobody_sends_or_nobody_wants() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sender, snapshots) = watch::channel(None);
        drop(sender);
        runtime.block_on(each(snapshots, |_| panic!("there is none"))).unwrap();
        let (sender, snapshots) = watch::channel(None);
        let snapshot = Snapshot {
            findings: Vec::new(),
            finding_events: Arc::default(),
            at: std::time::SystemTime::UNIX_EPOCH,
            sequence: 1,
            interval_s: 1.0,
            hostname: String::new(),
            kernel: String::new(),
            host: crate::snapshot::Host::default(),
            rows: Vec::new(),
            probes: Arc::new([]),
            sites: None,
            calls: None,
            logs: None,
            dirty: Arc::default(),
            kills: Arc::new([]),
            dead: None,
            signals: None,
            daemons: None,
            stuck: None,
        };
        sender.send_replace(Some(Arc::new(snapshot)));
        let mut taken = 0;
        let take = |snapshot: &Arc<Snapshot>| {
            taken += snapshot.sequence;
            Ok(false)
        };
        runtime.block_on(each(snapshots, take)).unwrap();
        assert_eq!(taken, 1);
    }
}
