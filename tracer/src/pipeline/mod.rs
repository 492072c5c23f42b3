//! The whole line, and the only place that sees it all: takes in events, lets each part do its share at each
//! tick, and hands a snapshot to whoever views it.
//!
//! `probes` is what is attached, `logs` what comes of log lines, `dirty` of dirty pages, `oom` of kills, `sites` and `calls`
//! what is attached for chosen containers only, `work` what is in flight, `rows` what is known of cgroups, `dead` what is kept
//! of removed ones, `own` what memtrace costs, `budget` what that may be.

mod budget;
mod calls;
mod daemons;
mod dead;
mod dirty;
mod logs;
mod oom;
mod own;
mod probes;
mod rows;
mod signals;
mod sites;
mod stuck;
mod work;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, watch};
use tracer_ebpf::abi::failure::Failure;

use self::{
    budget::Budget, calls::CallCounter, daemons::DaemonWatch, dead::Undertaker, dirty::DirtyPages,
    logs::LogLines, oom::OomWatch, own::Meter, probes::Probes, rows::Rows, signals::SignalWatch,
    sites::Sampler, stuck::StuckWatch, work::Work,
};
pub use self::{
    budget::DEFAULT as BUDGET,
    calls::Callers,
    sites::{Chosen, SiteWish},
};
use crate::{
    aggregator::{
        daemon::Wanted,
        row::How,
        signal::{Signalled, Signals},
    },
    event::{Event, procfs},
    finding,
    kernel::{Facts, cgroup::LayoutError},
    probe::{plan::Force, registry},
    snapshot::{Host, Own, Snapshot},
    view::demand::Demand,
};

/// What the command line chose.
#[derive(Debug, Clone)]
pub struct Options {
    pub interval: Duration,
    /// Ends by itself after this long.
    pub duration: Option<Duration>,
    pub force: Vec<Force>,
    /// Count charges for this long even where that costs every page.
    pub charges: Option<Duration>,
    /// Follow charges to processes and kernel sites.
    pub sites: Option<SiteWish>,
    /// What of log lines is counted.
    pub logs: LogWish,
    /// What of dirty pages is followed.
    pub dirty: DirtyWish,
    /// Whose system calls are counted.
    pub calls: CallWish,
    /// Dead cgroups are wanted one by one, with what they pin.
    pub dead: bool,
    /// Who signals whom.
    pub signals: bool,
    /// Daemons and shims of containers, and whoever is named here; `None`: they are not looked at.
    pub daemons: Option<Vec<Wanted>>,
    /// Work in flight is wanted: connections, children.
    pub work: bool,
    /// Tasks in uninterruptible sleep are wanted, and those that are for so long one by one.
    pub stuck: Option<Duration>,
    /// A finding that is not found any more is kept for so long.
    pub hold: Duration,
    /// What memtrace may take, its programs in the kernel too, in processors.
    pub budget: f64,
    /// 0 is off, else an `aya_log` level.
    pub probe_log: u8,
}

/// Whose system calls are counted: every one of them is looked at, so not everybody's without being asked.
#[derive(Debug, Clone, PartialEq)]
pub enum CallWish {
    /// Nobody's, until a view asks.
    Off,
    Of(Callers),
    /// Those of rows that a finding has to know more about.
    Suspects,
}

/// How much of log lines is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogWish {
    /// Nothing is attached for it: where every system call comes by, every write would pay.
    Off,
    /// Lines, bytes, the open line, readers.
    Counts,
    /// These, and the length of every line.
    Lengths,
}

/// How much of dirty pages is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirtyWish {
    /// Nothing is attached for it.
    Off,
    /// Sums, what the files are called, and what was dirtied before attach.
    Names,
    /// These, and what is written back even where counting that costs every page.
    Written,
}

/// A task is stuck that sleeps uninterruptibly for so long.
pub const STUCK: Duration = Duration::from_secs(5);

/// `top` and `diagnose` keep a finding for so long after it was last found.
pub const HOLD: Duration = Duration::from_secs(5);

/// A newborn cgroup is read, and files that have become dirty are asked for, this often.
const NEWBORN_BEAT: Duration = Duration::from_millis(50);
/// Cgroups that no event told of are looked for this often, each directory of them; with every tick where no probe tells
/// of cgroups,
const RESCAN: Duration = Duration::from_secs(30);
/// and this often while events are lost.
const RESCAN_LOSING: Duration = Duration::from_secs(10);
/// The same where the events may have been of cgroups: a storm of them.
const RESCAN_OVERFLOWED: Duration = Duration::from_secs(1);
/// New names are looked for, and what is long gone is forgotten, this often, however often the tree is looked at.
const UPKEEP: Duration = Duration::from_secs(10);

/// What the pipeline sends.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Facts of the running kernel, as the registry asks for them.
pub fn facts() -> Result<Facts, LayoutError> {
    Facts::gather(&registry::questions())
}

/// The running line.
pub struct Pipeline {
    options: Options,
    facts: Facts,
    probes: Probes,
    rows: Rows,
    logs: LogLines,
    dirty: DirtyPages,
    oom: OomWatch,
    signals: SignalWatch,
    daemons: Option<DaemonWatch>,
    sites: Sampler,
    calls: CallCounter,
    work: Work,
    stuck: Option<StuckWatch>,
    dead: Undertaker,
    watch: finding::Watch,
    standing: finding::Standing,
    meter: Meter,
    budget: Budget,
    rescanned: Instant,
    kept_up: Instant,
    /// Events lost when the tree was last looked at.
    lost: u64,
    /// Of them those for which the ring buffer had no room.
    overflowed: u64,
    started: Instant,
    sequence: u64,
    hostname: String,
}

impl Pipeline {
    /// Attaches what can be had and takes the first look around. Must run inside the runtime.
    pub fn start(options: Options, facts: Facts) -> anyhow::Result<Pipeline> {
        raise_descriptor_limit();
        let standing = finding::Standing::new(options.hold);
        let started = Instant::now();
        let mut rows = Rows::walk(&facts.cgroup, started)?;
        let mut probes = Probes::attach(&options, facts.clone(), rows.tree.len())?;
        rows.place_all();
        let mut sites = Sampler::default();
        if let Some(wish) = &options.sites {
            sites.start(wish, &facts, &options.force, Instant::now())?;
            probes.recount();
        }
        let mut calls = CallCounter::default();
        if let CallWish::Of(callers) = &options.calls {
            let now = Instant::now();
            let at = now.saturating_duration_since(started);
            calls.want(Some(callers.clone()), &facts, &options.force, &rows, (at, now))?;
            probes.recount();
        }
        let dirty = DirtyPages::new(options.dirty);
        let oom = OomWatch::start(&mut probes);
        let logs = LogLines::new(options.logs == LogWish::Lengths);
        let daemons = options.daemons.clone().map(DaemonWatch::new);
        let dead = Undertaker::new(options.dead, &facts);
        let work = Work::new(options.work);
        let stuck = options.stuck.map(StuckWatch::new);
        let budget = Budget::new(options.budget, started);
        stay_in_memory();
        Ok(Pipeline {
            dead,
            stuck,
            options,
            facts,
            probes,
            rows,
            logs,
            dirty,
            oom,
            signals: SignalWatch::default(),
            daemons,
            sites,
            calls,
            work,
            watch: finding::Watch::default(),
            standing,
            meter: Meter::new()?,
            budget,
            rescanned: started,
            kept_up: started,
            lost: 0,
            overflowed: 0,
            started,
            sequence: 0,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        })
    }

    /// Runs until `stop` changes, the time is up, or nobody listens any more.
    pub async fn run(
        &mut self,
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        mut stop: watch::Receiver<bool>,
        mut demands: mpsc::UnboundedReceiver<Demand>,
    ) -> anyhow::Result<()> {
        let start = tokio::time::Instant::now();
        let end = self.options.duration.map(|time| start + time);
        let skip = tokio::time::MissedTickBehavior::Skip;
        let mut ticks = tokio::time::interval_at(start + self.options.interval, self.options.interval);
        ticks.set_missed_tick_behavior(skip);
        let mut newborn_beat = tokio::time::interval(NEWBORN_BEAT);
        newborn_beat.set_missed_tick_behavior(skip);
        snapshots.send_replace(Some(self.tick(false)));
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                () = tokio::time::sleep_until(end.unwrap_or(start)), if end.is_some() => break,
                _ = ticks.tick() => {
                    snapshots.send_replace(Some(self.tick(false)));
                    last = Instant::now();
                }
                () = self.probes.readable() => self.drain(),
                _ = newborn_beat.tick(), if self.rows.has_newborns() || self.dirty.looks() => {
                    if self.rows.has_newborns() {
                        self.rows.read_newborns();
                    }
                    self.dirty.look(&mut self.probes, &self.rows);
                }
                () = tokio::time::sleep_until(self.budget.wakes().unwrap_or(last).into()),
                    if self.budget.wakes().is_some() =>
                {
                    self.budget.sample(Instant::now(), || self.probes.run_time());
                }
                Some(demand) = demands.recv() => self.demanded(demand),
                () = snapshots.closed() => return Ok(()),
            }
        }
        // The last interval, unless it has only just begun and nothing of it waits to be told.
        if last.elapsed() > self.options.interval / 10 || self.oom.waits() {
            snapshots.send_replace(Some(self.tick(true)));
        }
        Ok(())
    }

    fn drain(&mut self) {
        let events = self.probes.drain();
        let at = self.started.elapsed();
        for event in &events {
            self.logs.take_in(event, &mut self.probes, &self.rows, at);
            self.oom.take_in(event, &self.rows, at);
            self.rows.take_in(event);
        }
        if !events.is_empty() {
            self.sites.follow(&self.rows, self.started.elapsed());
            self.calls.follow(&self.rows, self.started.elapsed());
        }
    }

    fn demanded(&mut self, demand: Demand) {
        let now = Instant::now();
        match demand {
            Demand::Calls(row) => {
                // One that was asked for by a command goes on.
                if self.options.calls == CallWish::Off && self.budget.allows_calls(now) {
                    self.count_calls(row.map(|row| Callers::Rows(HashSet::from([row]))), now);
                }
            }
            Demand::Charges(time) => self.probes.demand_charges(time, now),
            Demand::Sites(row, time) => {
                let wish = SiteWish { chosen: Chosen::Row(row), time };
                // A failure is in the report, which the view shows.
                let _ = self.sites.start(&wish, &self.facts, &self.options.force, now);
                self.probes.recount();
            }
        }
    }

    /// Counts system calls of these from now on, or of none.
    fn count_calls(&mut self, callers: Option<Callers>, now: Instant) {
        let at = now.saturating_duration_since(self.started);
        let force = &self.options.force;
        // A failure is in the report, which the view shows.
        if self.calls.want(callers, &self.facts, force, &self.rows, (at, now)).unwrap_or(true) {
            self.probes.recount();
        }
    }

    /// Reads everything that is read once a tick and closes the interval; `last`: there is none after it.
    fn tick(&mut self, last: bool) -> Arc<Snapshot> {
        let now = Instant::now();
        self.drain();
        self.probes.end_charges(now);
        self.rows.aggregator.served = self.probes.served;
        let mut events = Vec::new();
        let maps = self.probes.read(now, &mut events);
        let lost =
            events.iter().map(|event| if let Event::Lost { count, .. } = event { *count } else { 0 }).sum();
        let overflowed = overflowed(&events);
        let due = match () {
            () if overflowed > self.overflowed => RESCAN_OVERFLOWED,
            () if lost > self.lost => RESCAN_LOSING,
            () => RESCAN,
        };
        let age = now.saturating_duration_since(self.rescanned);
        if age >= due || !self.probes.tell_of_cgroups() {
            self.rows.rescan(now);
            self.rescanned = now;
            (self.lost, self.overflowed) = (lost, overflowed);
        }
        self.rows.name_rows();
        self.rows.sample(now, &mut events);
        let at = now.saturating_duration_since(self.started);
        if self.sites.tick(&self.rows, at, now, &mut events) {
            self.probes.recount();
        }
        self.calls.tick(&self.rows, at, now, &mut events);
        events.extend(self.oom.lost());
        let mut host = procfs::host(&self.facts.cgroup, self.rows.tree.len() as u64);
        let failed = self.dead.tick(&mut self.probes, &mut self.rows, &self.facts, &mut host, (at, now));
        events.extend(failed);
        events.push(Event::Host(host));
        for event in &events {
            self.dirty.take_in(event, &self.rows, at);
            self.rows.take_in(event);
        }
        if now.saturating_duration_since(self.kept_up) >= UPKEEP {
            self.kept_up = now;
            self.rows.rename(now);
            self.rows.forget_departed(now);
            self.probes.retain(|id| self.rows.knows(id));
            if let Some(stuck) = &mut self.stuck {
                stuck.retain(|id| self.rows.knows(id));
            }
        }
        let logs = self.logs.tick(&mut self.probes, &mut self.rows, overflowed, at, now).map(Arc::new);
        let flights = self.work.tick(&mut self.probes, &self.rows, at, last);
        self.rows.aggregator.in_flight(flights);
        let stuck = self.stuck.as_mut().and_then(|stuck| stuck.tick(&mut self.probes, &mut self.rows, now));
        let tick = self.rows.aggregator.tick(at);
        self.work.choose(&tick.rows);
        let dirty = self.dirty.tick(&tick.rows, &mut self.probes, &self.rows, at);
        self.oom.tick(&tick.rows, &mut self.rows, &dirty, at, last);
        self.sequence += 1;
        for row in self.watch.suspects() {
            self.watch.processes(at, row, self.rows.anonymous(row));
        }
        if self.options.calls == CallWish::Suspects && self.budget.allows_calls(now) {
            let callers = self.watch.callers();
            self.count_calls(Some(Callers::Rows(callers)), now);
        }
        let calls = self.calls.report();
        let signals = self.signals.tick(&mut self.probes, &self.rows, at);
        let mut stuck = stuck;
        if let (Some(stuck), Some(signals)) = (&mut stuck, &signals) {
            Arc::make_mut(stuck).signalled(signals);
        }
        let mut suspects = suspects(signals.as_deref());
        let unkillable = stuck.iter().flat_map(|stuck| &stuck.tasks).filter(|task| task.is_unkillable());
        suspects.extend(unkillable.map(|task| task.container.cgroup.id));
        let daemons =
            self.daemons.as_mut().map(|daemons| daemons.tick(&self.rows, logs.as_deref(), suspects, at, now));
        let kills = self.oom.kills();
        let dead = self.dead.report(&tick.rows, at);
        let state = self.rows.aggregator.host();
        let found = self.watch.tick(&finding::Seen {
            at,
            rows: &tick.rows,
            host: &state.memory,
            left: state.remainder(&tick.attributed),
            held: tick.held,
            logs: logs.as_deref(),
            dirty: &dirty,
            kills: &kills,
            dead: dead.as_deref(),
            calls: calls.as_deref(),
            daemons: daemons.as_deref(),
            stuck: stuck.as_deref(),
        });
        let findings = self.standing.tick(at, found);
        let own = self.meter.read(now, maps);
        let asked_for = matches!(self.options.calls, CallWish::Of(_));
        let optional = self.calls.counting_since().filter(|_| !asked_for);
        if self.budget.tick(now, own.cpu_share, optional) {
            self.count_calls(None, now);
        }
        let programs_share = self.budget.programs();
        let programs_share_how = programs_share.map(|_| How::Sampled);
        let own = Own { programs_share, programs_share_how, over_budget: self.budget.says(now), ..own };
        let host = Host::take(&self.rows.aggregator, &tick, own);
        // A tick's own time is known to the next one.
        self.meter.ticked(now);
        Arc::new(Snapshot {
            at: SystemTime::now(),
            sequence: self.sequence,
            interval_s: tick.interval.as_secs_f64(),
            hostname: self.hostname.clone(),
            kernel: self.facts.release.clone(),
            host,
            rows: tick.rows,
            probes: Arc::clone(&self.probes.lines),
            sites: self.sites.report(),
            calls,
            logs,
            dirty: Arc::new(dirty),
            kills,
            dead,
            signals,
            daemons,
            stuck,
            findings,
            finding_events: Arc::clone(self.standing.changes()),
        })
    }
}

/// Rows in which somebody was sent SIGKILL and is still there.
fn suspects(signals: Option<&Signals>) -> BTreeSet<u64> {
    let lasting = |target: &&Signalled| target.kills > 0 && !target.gone;
    signals.iter().flat_map(|signals| &signals.targets).filter(lasting).filter_map(|one| one.row).collect()
}

/// Events since attach for which the ring buffer had no room.
fn overflowed(events: &[Event]) -> u64 {
    let full = |event: &Event| match event {
        Event::Lost { what, count } => (*what == Failure::RingFull.sentence()).then_some(*count),
        _ => None,
    };
    events.iter().find_map(full).unwrap_or(0)
}

/// Where memory is short the kernel drops program text first, and each page of it has to come back from a disk that is busy.
/// What is mapped now stays once it was touched; what is mapped later is not locked, for a limit would then refuse it.
fn stay_in_memory() {
    use rustix::mm::{MlockAllFlags, mlockall};
    // Without the capability, or above the limit, it is as any other program.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT);
}

/// Two descriptors are kept per cgroup; the default limit is for ordinary programs.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Without more of them files are opened each time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
