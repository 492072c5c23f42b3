//! The whole line, and the only place that sees it all: attaches the probes, takes in events, keeps the tree,
//! the names and the rows together, and hands a snapshot to whoever views it at each tick.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use hdrhistogram::Histogram;
use tokio::{io::unix::AsyncFd, sync::watch};

use crate::{
    aggregator::{Aggregator, Served},
    event::{
        Event,
        cgroupfs::Cgroupfs,
        counters::Counters,
        decode,
        procfs::{bpf_costs, bpf_descriptors, host, own},
    },
    kernel::Facts,
    probe::{
        attach::{Loader, Outcome, Sizes},
        plan::{Force, Wishes, plan},
        registry::{self, Cost},
    },
    resolve::{
        Cgroup, Container,
        metadata::{Lookup, Metadata, Names},
        tree::{Change, Tree},
    },
    snapshot::{Host, Own, Snapshot},
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
    /// 0 is off, else an `aya_log` level.
    pub probe_log: u8,
}

/// A newborn cgroup is read this often for this long, so that one that lives shorter than a tick is accounted.
const NEWBORN_BEAT: Duration = Duration::from_millis(50);
const NEWBORN_AGE: Duration = Duration::from_secs(1);
/// In a storm of new cgroups only so many are read between ticks; all of them are at the tick.
const NEWBORNS: usize = 128;
/// Cgroups that no event told of are looked for this often; with every tick where no probe tells of them.
const RESCAN: Duration = Duration::from_secs(10);
/// Looking up names may take this long in one go.
const NAMING: Duration = Duration::from_millis(100);
/// Processes that lead to a container's name.
const PIDS: usize = 4;

/// What the collector sends.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// The running line.
pub struct Pipeline {
    options: Options,
    facts: Facts,
    loader: Option<Loader>,
    counters: Option<Counters>,
    ring: Option<RingBuf<MapData>>,
    log: Option<EbpfLogger<ProbeLog>>,
    outcomes: Vec<Outcome>,
    charges_until: Option<Instant>,
    tree: Tree,
    names: Names,
    /// Rows without a name yet, and when to look again.
    unnamed: HashMap<u64, Instant>,
    cgroupfs: Cgroupfs,
    aggregator: Aggregator,
    newborns: Vec<(u64, Instant)>,
    rescanned: Instant,
    started: Instant,
    garbled: u64,
    descriptors: Vec<PathBuf>,
    cpu_before: Option<(Instant, Duration)>,
    tick_times: Histogram<u64>,
    sequence: u64,
    hostname: String,
    probes: Arc<[String]>,
}

impl Pipeline {
    /// Attaches what can be had and takes the first look around.
    pub fn start(options: Options, facts: Facts) -> anyhow::Result<Pipeline> {
        raise_descriptor_limit();
        let started = Instant::now();
        let layout = facts.cgroup.clone();
        let tree = Tree::walk(&layout.memory, layout.memory_v2)
            .with_context(|| format!("cannot read the cgroups below {}", layout.memory.display()))?;
        let cgroupfs =
            Cgroupfs::open(&layout.memory, layout.memory_v2, layout.cpu.as_deref(), layout.pids.as_deref())
                .with_context(|| format!("cannot open {}", layout.memory.display()))?;
        let mut pipeline = Pipeline {
            facts,
            loader: None,
            counters: None,
            ring: None,
            log: None,
            outcomes: Vec::new(),
            charges_until: options.charges.map(|time| started + time),
            tree,
            names: Names::new(Path::new("/")),
            unnamed: HashMap::new(),
            cgroupfs,
            aggregator: Aggregator::default(),
            newborns: Vec::new(),
            rescanned: started,
            started,
            garbled: 0,
            descriptors: Vec::new(),
            cpu_before: None,
            tick_times: Histogram::new(3).context("cannot make a histogram")?,
            sequence: 0,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            probes: Arc::from([]),
            options,
        };
        pipeline.attach()?;
        // Between the walk and the attach more may have come.
        let mut changes = Vec::new();
        pipeline.tree.rescan(&mut changes);
        let rows: Vec<u64> = pipeline.tree.rows().collect();
        for id in rows {
            pipeline.place(id, None);
        }
        pipeline.name_rows(Instant::now());
        Ok(pipeline)
    }

    fn attach(&mut self) -> anyhow::Result<()> {
        let wishes = Wishes { force: self.options.force.clone(), per_page: self.options.charges.is_some() };
        let planned = plan(&self.facts, &wishes);
        let sizes = Sizes::new(self.tree.len(), &self.facts);
        match Loader::load(&self.facts, sizes, self.options.probe_log) {
            Ok(mut loader) => {
                self.counters =
                    Some(Counters::take(&mut loader.ebpf).context("cannot open the counter maps")?);
                let ring = loader.ebpf.take_map("EVENTS").context("the object has no ring buffer")?;
                self.ring = Some(RingBuf::try_from(ring).context("cannot map the ring buffer")?);
                if self.options.probe_log > 0 {
                    let log = EbpfLogger::init_with_logger(&mut loader.ebpf, ProbeLog);
                    self.log = Some(log.context("cannot open the log of the kernel programs")?);
                }
                for probe in &planned {
                    self.outcomes.push(loader.serve(probe)?);
                }
                self.loader = Some(loader);
            }
            // Named by the user, it must be there; else cgroupfs alone still tells who grows.
            Err(error) if !wishes.force.is_empty() => return Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                self.outcomes = planned.iter().map(|probe| Outcome::refused(probe, &why)).collect();
            }
        }
        self.served();
        Ok(())
    }

    fn served(&mut self) {
        let chosen = |name: &str| {
            self.outcomes.iter().any(|outcome| outcome.probe.name == name && outcome.chosen.is_some())
        };
        self.aggregator.served = Served { charges: chosen("charge"), tasks: chosen("task_life") };
        self.probes = self.outcomes.iter().map(Outcome::line).collect();
        self.descriptors = bpf_descriptors();
    }

    /// Whether new cgroups are told by a probe.
    fn told_of_cgroups(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.probe.name == "cgroup_life" && outcome.chosen.is_some())
    }

    /// Runs until `stop` changes, the time is up, or nobody listens any more.
    pub async fn run(
        mut self,
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        // SAFETY: the ring buffer owns its descriptor and keeps it open while it is registered.
        let register = |ring| unsafe { AsyncFd::register(ring) }.map_err(std::io::Error::from);
        let mut ring = self.ring.take().map(register).transpose().context("cannot poll the ring buffer")?;
        let start = tokio::time::Instant::now();
        let end = self.options.duration.map(|time| start + time);
        let mut ticks = tokio::time::interval_at(start + self.options.interval, self.options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut newborn_beat = tokio::time::interval(NEWBORN_BEAT);
        newborn_beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        snapshots.send_replace(Some(self.tick()));
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                () = tokio::time::sleep_until(end.unwrap_or(start)), if end.is_some() => break,
                _ = ticks.tick() => {
                    self.drain(ring.as_mut());
                    snapshots.send_replace(Some(self.tick()));
                    last = Instant::now();
                }
                () = readable(ring.as_mut()) => self.drain(ring.as_mut()),
                _ = newborn_beat.tick(), if !self.newborns.is_empty() => self.read_newborns(),
                () = snapshots.closed() => return Ok(()),
            }
        }
        // The last interval, unless it has only just begun.
        if last.elapsed() > self.options.interval / 10 {
            self.drain(ring.as_mut());
            snapshots.send_replace(Some(self.tick()));
        }
        Ok(())
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Takes in everything that the ring buffer holds.
    fn drain(&mut self, ring: Option<&mut AsyncFd<RingBuf<MapData>>>) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let Some(ring) = ring else { return };
        let mut events = Vec::new();
        while let Some(item) = ring.get_mut().next() {
            match decode::record(&item) {
                Ok(event) => events.push(event),
                Err(_) => self.garbled += 1,
            }
        }
        for event in events {
            self.take_in(event);
        }
    }

    fn take_in(&mut self, event: Event) {
        let now = Instant::now();
        let mut changes = Vec::new();
        match &event {
            Event::CgroupMade { id, path } => {
                self.tree.made(*id, path.as_deref(), &mut changes);
                self.newborns.push((*id, now));
            }
            Event::CgroupRenamed { .. } => self.tree.renamed(&mut changes),
            Event::CgroupRemoved { id, .. } => {
                self.aggregator.apply(&event, None, self.since_start(now));
                self.tree.removed(*id, &mut changes);
            }
            Event::TaskMoved { id, pid } => {
                if let Some(row) = self.tree.nearest_row(*id)
                    && self.unnamed.contains_key(&row)
                {
                    self.look_up(row, &[*pid], now);
                }
            }
            _ => {
                let row = match &event {
                    Event::Counted { id, .. } => self.tree.nearest_row(*id),
                    _ => None,
                };
                self.aggregator.apply(&event, row, self.since_start(now));
            }
        }
        self.follow(&changes, now);
    }

    /// Carries changes of the tree on to the readings and the rows.
    fn follow(&mut self, changes: &[Change], now: Instant) {
        for change in changes {
            match *change {
                Change::Row(id) => {
                    let born = self.told_of_cgroups().then_some(now);
                    self.place(id, born);
                    // A row that came between others is now the one around some of them.
                    let below: Vec<u64> =
                        self.tree.rows().filter(|other| self.tree.row_above(*other) == Some(id)).collect();
                    for other in below {
                        self.place(other, None);
                    }
                    if self.newborns.len() < NEWBORNS {
                        self.sample_now(id, now);
                    }
                    self.look_up(id, &[], now);
                }
                Change::Gone(id) => {
                    self.aggregator.gone(id, self.since_start(now));
                    self.cgroupfs.forget(id);
                    self.unnamed.remove(&id);
                    self.newborns.retain(|(other, _)| *other != id);
                }
            }
        }
    }

    fn place(&mut self, id: u64, born: Option<Instant>) {
        let Some(node) = self.tree.node(id) else { return };
        let container = self
            .aggregator
            .container(id)
            .cloned()
            .unwrap_or_else(|| identity(id, node.path.clone(), &node.shape, None));
        let path = node.path.clone();
        let above = self.tree.row_above(id);
        let born = born.map(|born| self.since_start(born));
        let new = self.aggregator.container(id).is_none();
        self.aggregator.place(id, container, above, born);
        if new {
            self.cgroupfs.watch(id, &path);
            self.unnamed.insert(id, Instant::now());
        }
    }

    /// Names of rows that have none, as far as the time allows.
    fn name_rows(&mut self, now: Instant) {
        let due: Vec<u64> =
            self.unnamed.iter().filter(|(_, retry)| **retry <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.look_up(id, &[], Instant::now());
            if now.elapsed() > NAMING {
                break;
            }
        }
    }

    fn look_up(&mut self, id: u64, pids: &[u32], now: Instant) {
        let Some(node) = self.tree.node(id) else { return };
        let (path, shape) = (node.path.clone(), node.shape.clone());
        let mut found = self.names.lookup(&shape, pids, now);
        if matches!(found, Lookup::Later(_)) && pids.is_empty() {
            let pids = self.cgroupfs.processes(id, PIDS);
            if !pids.is_empty() {
                found = self.names.lookup(&shape, &pids, now);
            }
        }
        match found {
            Lookup::Known(metadata) => {
                self.unnamed.remove(&id);
                let provenance = Some(metadata.provenance.clone());
                self.aggregator.name(id, identity(id, path, &shape, Some(&metadata)), provenance);
            }
            Lookup::Later(retry) => {
                self.unnamed.insert(id, retry);
            }
            Lookup::Nameless => {
                self.unnamed.remove(&id);
            }
        }
    }

    fn sample_now(&mut self, id: u64, now: Instant) {
        let mut events = Vec::new();
        self.cgroupfs.sample_now(id, now, &mut events);
        let at = self.since_start(now);
        for event in &events {
            self.aggregator.apply(event, None, at);
        }
    }

    /// Between ticks: cgroups that were only just made.
    fn read_newborns(&mut self) {
        let now = Instant::now();
        self.newborns.retain(|(_, born)| now.saturating_duration_since(*born) < NEWBORN_AGE);
        let ids: Vec<u64> = self.newborns.iter().map(|(id, _)| *id).take(NEWBORNS).collect();
        for id in ids {
            let mut changes = Vec::new();
            self.tree.settle(id, &mut changes);
            self.follow(&changes, now);
            self.sample_now(id, now);
            if self.unnamed.get(&id).is_some_and(|retry| *retry <= now) {
                self.look_up(id, &[], now);
            }
        }
    }

    /// Reads everything that is read once a tick and closes the interval.
    fn tick(&mut self) -> Arc<Snapshot> {
        let now = Instant::now();
        let wanted = if self.told_of_cgroups() { RESCAN } else { Duration::ZERO };
        if now.saturating_duration_since(self.rescanned) >= wanted {
            let mut changes = Vec::new();
            self.tree.rescan(&mut changes);
            self.follow(&changes, now);
            self.rescanned = now;
            if let Some(counters) = &mut self.counters {
                counters.retain(|id| self.tree.node(id).is_some());
            }
            self.aggregator.retain_totals(|id| self.tree.node(id).is_some());
        }
        self.end_charges(now);
        self.name_rows(now);

        let mut events = Vec::new();
        if let Some(counters) = &mut self.counters {
            counters.read(&mut events);
        }
        let moved: HashSet<u64> = events
            .iter()
            .filter_map(|event| match event {
                Event::Counted { id, .. } => self.tree.nearest_row(*id),
                _ => None,
            })
            .collect();
        self.cgroupfs.sample(now, &moved, &mut events);
        events.push(Event::Host(host(&self.facts.cgroup, self.tree.len() as u64)));
        let (maps, misses) = bpf_costs(&self.descriptors);
        let lost = [
            ("runs of a program that the kernel skipped because another was running", misses),
            ("records of the ring buffer that could not be read", self.garbled),
            ("cgroups that were not followed because there are too many", self.tree.beyond()),
        ];
        events.extend(
            lost.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Event::Lost { what, count }),
        );
        for event in events {
            self.take_in(event);
        }
        let tick = self.aggregator.tick(self.since_start(now));
        let own = self.own(now, maps);
        self.sequence += 1;
        let host = Host::take(&self.aggregator, &tick, own);
        // Its own time is known a tick later.
        self.tick_times.saturating_record(now.elapsed().as_micros() as u64);
        Arc::new(Snapshot {
            at: SystemTime::now(),
            sequence: self.sequence,
            interval_s: tick.interval.as_secs_f64(),
            hostname: self.hostname.clone(),
            kernel: self.facts.release.clone(),
            host,
            rows: tick.rows,
            probes: Arc::clone(&self.probes),
        })
    }

    /// Per-page counting ends when its time is up.
    fn end_charges(&mut self, now: Instant) {
        if self.charges_until.is_none_or(|until| now < until) {
            return;
        }
        self.charges_until = None;
        let dear = |outcome: &&mut Outcome| outcome.chosen.is_some_and(|chosen| chosen.cost == Cost::Page);
        if let (Some(loader), Some(outcome)) = (&mut self.loader, self.outcomes.iter_mut().find(dear))
            && let Some(chosen) = outcome.chosen.take()
        {
            loader.detach(chosen);
            for attempt in &mut outcome.attempts {
                attempt.why.get_or_insert_with(|| "its time was up (--charges)".to_owned());
            }
        }
        self.served();
    }

    fn own(&mut self, now: Instant, maps: u64) -> Own {
        let (cpu, rss) = own();
        let before = std::mem::replace(&mut self.cpu_before, cpu.map(|cpu| (now, cpu)));
        let cpu_share = before.zip(cpu).and_then(|((then, before), cpu)| {
            let wall = now.saturating_duration_since(then).as_secs_f64();
            (wall > 0.0).then(|| cpu.saturating_sub(before).as_secs_f64() / wall)
        });
        let quantile =
            |q: f64| (!self.tick_times.is_empty()).then(|| self.tick_times.value_at_quantile(q) as f64 / 1e6);
        Own {
            cpu_share,
            rss,
            maps: self.loader.as_ref().map(|_| maps),
            tick_p50_s: quantile(0.5),
            tick_p99_s: quantile(0.99),
        }
    }
}

/// A row's identity from its path and what the runtime wrote about it.
fn identity(
    id: u64,
    path: String,
    shape: &crate::resolve::container::Shape,
    metadata: Option<&Metadata>,
) -> Container {
    let known = metadata.cloned().unwrap_or_default();
    Container {
        runtime: known.runtime.filter(|_| !shape.certain).unwrap_or(shape.runtime),
        id: shape.id.clone(),
        name: known.name,
        pod: known.pod,
        namespace: known.namespace,
        image: known.image,
        sandbox: known.sandbox,
        cgroup: Cgroup { id, path },
    }
}

/// What the kernel programs log, to standard error (`--probe-log`).
struct ProbeLog;

impl log::Log for ProbeLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("probe {}: {}", record.level().as_str().to_lowercase(), record.args());
    }

    fn flush(&self) {}
}

async fn readable(ring: Option<&mut AsyncFd<RingBuf<MapData>>>) {
    match ring {
        Some(ring) => {
            if let Ok(mut guard) = ring.readable_mut().await {
                guard.clear_ready();
            }
        }
        None => std::future::pending().await,
    }
}

/// Two descriptors are kept per cgroup; the default limit is for ordinary programs.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Facts of the running kernel, as the registry asks for them.
pub fn facts() -> Result<Facts, crate::kernel::cgroup::LayoutError> {
    Facts::gather(&registry::questions())
}
