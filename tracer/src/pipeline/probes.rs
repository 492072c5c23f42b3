//! The probes of a run: which serve, what they send and count, what that costs in the kernel.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use super::{DirtyWish, LogWish, Options};
use crate::{
    aggregator::{Served, dirty, row::How},
    event::{
        Event,
        blocked::BlockedMaps,
        bpf_costs::BpfCosts,
        counters::Counters,
        dead::{BY_LISTS, Reading, Walked, Walker},
        decode,
        dirty::DirtyMaps,
        reclaims::Reclaims,
        signals::SignalMap,
        streams::Streams,
        work::WorkMaps,
    },
    kernel::Facts,
    probe::{
        attach::Loader,
        outcome::Outcome,
        plan::{Wishes, plan},
        registry::{self, Cost, Kind},
        size::Sizes,
    },
};

/// A file per map and program is read for what they cost and lose: not with every tick.
const COSTS_AGE: Duration = Duration::from_secs(5);

/// What is attached. Dropping it detaches all.
pub struct Probes {
    loader: Option<Loader>,
    counters: Option<Counters>,
    reclaims: Option<Reclaims>,
    /// The walk over dead cgroups.
    walker: Option<Walker>,
    /// Streams of log lines.
    pub streams: Option<Streams>,
    /// Tasks in uninterruptible sleep.
    pub blocked: Option<BlockedMaps>,
    /// What became dirty and was written.
    pub dirty: Option<DirtyMaps>,
    /// Who signalled whom.
    pub signals: Option<SignalMap>,
    /// Connections that arrived, processes that ended.
    pub work: Option<WorkMaps>,
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    log: Option<EbpfLogger<ProbeLog>>,
    outcomes: Vec<Outcome>,
    facts: Facts,
    /// When per-page counting ends.
    charges_until: Option<Instant>,
    descriptors: BpfCosts,
    /// When they were read, what the maps take, how many runs were skipped.
    costs: Option<(Instant, u64, u64)>,
    garbled: u64,
    pub served: Served,
    pub dirty_served: dirty::Served,
    /// One line a probe.
    pub lines: Arc<[String]>,
    /// What became of the kernel's log, if it cannot be read.
    kernel_log: Option<String>,
    /// What became of hooks that were attached when they were needed, if they could not be.
    late: Option<String>,
}

impl Probes {
    /// Attaches what can be had; `cgroups` is how many there are. Must run inside the runtime.
    pub fn attach(options: &Options, facts: Facts, cgroups: usize) -> anyhow::Result<Probes> {
        let wishes = Wishes {
            force: options.force.clone(),
            per_page: options.charges.is_some(),
            written: options.dirty == DirtyWish::Written,
            ..Wishes::default()
        };
        let planned = plan(&facts, &wishes);
        let lengths = options.logs == LogWish::Lengths;
        let mut sizes = Sizes::new(cgroups, &facts);
        // They run for each page that becomes dirty or is written, or for each write: only where that is asked for.
        let is_unasked = |name: &'static str| {
            let unwanted = match name {
                registry::OF_LOG_LINES => options.logs == LogWish::Off,
                registry::OF_SIGNALS => !options.signals,
                registry::OF_WORK => !options.work,
                _ if registry::OF_BLOCKED.contains(&name) => options.stuck.is_none(),
                _ => options.dirty == DirtyWish::Off && registry::OF_DIRTY_PAGES.contains(&name),
            };
            unwanted && !options.force.iter().any(|force| force.probe == Some(name))
        };
        if !is_unasked(registry::OF_LOG_LINES) {
            sizes = sizes.with_logs(lengths);
        }
        if registry::OF_DIRTY_PAGES.iter().any(|name| !is_unasked(name)) {
            sizes = sizes.with_dirty();
        }
        if !is_unasked(registry::OF_SIGNALS) {
            sizes = sizes.with_signals();
        }
        if registry::OF_BLOCKED.iter().any(|name| !is_unasked(name)) {
            sizes = sizes.with_blocked();
        }
        if options.dead {
            sizes = sizes.with_dead();
        }
        if !is_unasked(registry::OF_WORK) {
            sizes = sizes.with_work();
        }
        let loaded = Loader::load(&facts, sizes, options.probe_log);
        let mut probes = Probes {
            loader: None,
            counters: None,
            reclaims: None,
            walker: None,
            streams: None,
            blocked: None,
            dirty: None,
            signals: None,
            work: None,
            ring: None,
            log: None,
            outcomes: Vec::new(),
            facts,
            charges_until: options.charges.map(|time| Instant::now() + time),
            descriptors: BpfCosts::default(),
            costs: None,
            garbled: 0,
            served: Served::default(),
            dirty_served: dirty::Served::default(),
            lines: Arc::from([]),
            kernel_log: None,
            late: None,
        };
        match loaded {
            Ok(mut loader) => {
                probes.counters =
                    Some(Counters::take(&mut loader.ebpf).context("cannot open the counter maps")?);
                let ring = loader.ebpf.take_map("EVENTS").context("the object has no ring buffer")?;
                let ring = RingBuf::try_from(ring).context("cannot map the ring buffer")?;
                // SAFETY: the ring buffer owns its descriptor and keeps it open while it is registered.
                let ring = unsafe { AsyncFd::register(ring) }.map_err(io::Error::from);
                probes.ring = Some(ring.context("cannot poll the ring buffer")?);
                if options.probe_log > 0 {
                    let log = EbpfLogger::init_with_logger(&mut loader.ebpf, ProbeLog);
                    probes.log = Some(log.context("cannot open the log of the kernel programs")?);
                }
                for planned in &planned {
                    probes.outcomes.push(match planned.probe.on_demand {
                        None if is_unasked(planned.probe.name) => Outcome::unasked(planned),
                        None => loader.serve(planned)?,
                        Some(_) => Outcome::at_rest(planned),
                    });
                }
                if probes.serves("reclaim") {
                    let reclaims = Reclaims::take(&mut loader.ebpf);
                    probes.reclaims = Some(reclaims.context("cannot open the map of direct reclaim")?);
                }
                if probes.serves("dead_cgroups") {
                    let facts = &probes.facts;
                    let by_lists = BY_LISTS.iter().all(|symbol| facts.symbol(*symbol).is_some());
                    let reading = Reading { v2: facts.cgroup.memory_v2, by_lists };
                    let walker = Walker::take(&mut loader.ebpf, reading);
                    probes.walker = Some(walker.context("cannot open the maps of dead cgroups")?);
                }
                if probes.serves("log_write") {
                    let streams = Streams::take(&mut loader.ebpf, lengths);
                    probes.streams = Some(streams.context("cannot open the maps of log streams")?);
                }
                if probes.serves("signal") {
                    let signals = SignalMap::take(&mut loader.ebpf);
                    probes.signals = Some(signals.context("cannot open the map of signals")?);
                }
                if !is_unasked(registry::OF_WORK) {
                    let work = WorkMaps::take(&mut loader.ebpf);
                    probes.work = Some(work.context("cannot open the maps of work in flight")?);
                }
                if probes.serves("blocked") || probes.serves("blocked_before") {
                    let maps = BlockedMaps::take(&mut loader.ebpf);
                    probes.blocked = Some(maps.context("cannot open the maps of blocked tasks")?);
                }
                let maps = DirtyMaps::take(&mut loader.ebpf);
                probes.dirty = Some(maps.context("cannot open the maps of dirty pages")?);
                probes.loader = Some(loader);
            }
            // Named by the user, it must be there; else cgroupfs alone still tells who grows.
            Err(error) if !wishes.force.is_empty() => return Err(error.into()),
            Err(error) => {
                let why = error.to_string();
                probes.outcomes = planned.iter().map(|probe| Outcome::refused(probe, &why)).collect();
            }
        }
        probes.settle();
        Ok(probes)
    }

    /// After any change of what is attached.
    fn settle(&mut self) {
        if let Some(loader) = &mut self.loader {
            loader.rest();
        }
        self.served = Served {
            charges: self.serves("charge"),
            tasks: self.serves("task_life"),
            logs: self.serves("log_write"),
            reclaims: self.serves("reclaim"),
            arrivals: self.serves(registry::OF_WORK),
        };
        let by_record = self.kind("dirty") == Some(Kind::Tracepoint);
        let written = self.kind("writeback_done");
        self.dirty_served = dirty::Served {
            dirtied: self.serves("dirty"),
            dirtied_how: by_record.then_some(How::AtLeast),
            written: written.is_some(),
            by_statistics: !matches!(written, Some(Kind::Fentry | Kind::Kprobe)),
            throttled: self.serves("dirty_throttle"),
        };
        let lost = self.facts.cgroup.blind().map(|lost| format!("cgroups: {lost}"));
        let probes =
            self.outcomes.iter().map(Outcome::line).chain(self.late.clone()).chain(self.kernel_log.clone());
        self.lines = lost.into_iter().chain(probes).collect();
        self.recount();
    }

    /// What is loaded changed, here or elsewhere in this process.
    pub fn recount(&mut self) {
        self.descriptors.look();
        self.costs = None;
    }

    /// Of all programs so far, as far as statistics were on; nanoseconds.
    pub fn run_time(&self) -> u64 {
        self.descriptors.run_time()
    }

    fn serves(&self, name: &str) -> bool {
        self.outcomes.iter().any(|outcome| outcome.probe.name == name && outcome.chosen.is_some())
    }

    /// How what serves a probe is attached.
    fn kind(&self, name: &str) -> Option<Kind> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.probe.name == name)?;
        outcome.chosen.map(|alternative| alternative.kind)
    }

    /// Whether readers are looked for in `/proc`, too: where the probe sees every system call it looks at the reads of named
    /// processes only, and return probes miss those that wait for long.
    pub fn readers_are_looked_for(&self) -> bool {
        self.kind("log_write").is_some_and(|kind| kind != Kind::Fentry)
    }

    /// Hooks of the log probe that others would pay for are needed now.
    pub fn attach_late(&mut self) {
        let chosen = self.outcomes.iter().find(|outcome| outcome.probe.name == "log_write");
        if let (Some(loader), Some(chosen)) = (&mut self.loader, chosen.and_then(|outcome| outcome.chosen)) {
            let refused = loader.attach_late(chosen).err();
            self.late = refused.map(|why| format!("log_write: writes to sockets are not counted: {why}"));
        }
        self.settle();
    }

    /// The kernel's log cannot be read, for this reason.
    pub fn without_kernel_log(&mut self, why: &str) {
        self.kernel_log =
            Some(format!("kmsg: {why}; kills before attach and what was full at a kill are not known"));
        self.settle();
    }
    /// One walk over all memory cgroups; `None` without the probe.
    pub fn walk_dead(&mut self) -> Option<io::Result<Walked>> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.probe.name == "dead_cgroups");
        let chosen = outcome.and_then(|outcome| outcome.chosen)?;
        let (loader, walker) = (self.loader.as_mut()?, self.walker.as_mut()?);
        if chosen.kind == Kind::Iterator {
            return Some(walker.walk(0, &mut || loader.iterate(chosen.links[0].program)));
        }
        // The tracepoint is set off by another name for this thread.
        let name = super::dead::token();
        let before = rustix::thread::name().ok();
        let token = name.first_chunk().map_or(0, |first: &[u8; 8]| u64::from_ne_bytes(*first));
        let walked = walker.walk(token, &mut || super::dead::rename(&name));
        if let Some(before) = before {
            let _ = rustix::thread::set_name(&before);
        }
        Some(walked)
    }

    /// Whether tasks that go to sleep are told by a probe.
    pub fn tells_of_blocked(&self) -> bool {
        self.serves("blocked")
    }

    /// Whether tasks that are blocked are found without asking `/proc` about all.
    pub fn finds_blocked(&self) -> bool {
        self.serves("blocked_before")
    }

    /// Puts tasks that are blocked and not known yet beside those that are, and finds out who has the locks.
    pub fn find_blocked(&mut self) {
        if self.finds_blocked()
            && let Some(loader) = &mut self.loader
        {
            // Without it those of before are not known, which is told by what is not there.
            let _ = loader.iterate("blocked_iter");
        }
    }

    /// Whether new cgroups are told by a probe.
    pub fn tell_of_cgroups(&self) -> bool {
        self.serves("cgroup_life")
    }

    /// Returns when the ring buffer has something; never, without one.
    pub async fn readable(&mut self) {
        match &mut self.ring {
            Some(ring) => {
                if let Ok(mut guard) = ring.readable_mut().await {
                    guard.clear_ready();
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Everything that the ring buffer holds.
    pub fn drain(&mut self) -> Vec<Event> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut events = Vec::new();
        let Some(ring) = &mut self.ring else { return events };
        while let Some(item) = ring.get_mut().next() {
            match decode::record(&item) {
                Ok(event) => events.push(event),
                Err(_) => self.garbled += 1,
            }
        }
        events
    }

    /// Reads the counters, and what was lost so far; returns what the maps take of kernel memory.
    pub fn read(&mut self, now: Instant, events: &mut Vec<Event>) -> Option<u64> {
        self.counters.as_mut()?.read(events);
        if let Some(dirty) = &mut self.dirty {
            dirty.read(events);
        }
        if let Some(reclaims) = &mut self.reclaims {
            reclaims.read(events);
        }
        let known = self.costs.filter(|(at, ..)| now.saturating_duration_since(*at) < COSTS_AGE);
        let (at, maps, misses) = known.unwrap_or_else(|| {
            let (maps, misses) = self.descriptors.read();
            (now, maps, misses)
        });
        self.costs = Some((at, maps, misses));
        let lost = [
            ("runs of a program that the kernel skipped because another was running", misses),
            ("records of the ring buffer that could not be read", self.garbled),
        ];
        let lost = lost.into_iter().filter(|(_, count)| *count > 0);
        events.extend(lost.map(|(what, count)| Event::Lost { what, count }));
        Some(maps)
    }

    /// Drops the counters of cgroups that nobody knows any more.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        if let Some(reclaims) = &mut self.reclaims {
            reclaims.retain(&known);
        }
        if let Some(counters) = &mut self.counters {
            counters.retain(&known);
        }
        if let Some(blocked) = &mut self.blocked {
            blocked.retain(&known);
        }
        if let Some(dirty) = &mut self.dirty {
            dirty.retain(known);
        }
    }

    /// Counts charges for so long, also where that costs every page.
    pub fn demand_charges(&mut self, time: Duration, now: Instant) {
        let Some(loader) = &mut self.loader else { return };
        if self.charges_until.is_none()
            && self.outcomes.iter().any(|o| o.probe.name == "charge" && o.chosen.is_some())
        {
            return;
        }
        let wishes = Wishes { per_page: true, ..Wishes::default() };
        if self.charges_until.is_none()
            && let Some(planned) =
                plan(&self.facts, &wishes).iter().find(|planned| planned.probe.name == "charge")
            && let Ok(outcome) = loader.serve(planned)
            && let Some(place) = self.outcomes.iter_mut().find(|outcome| outcome.probe.name == "charge")
        {
            *place = outcome;
        }
        self.charges_until = Some(now + time);
        self.settle();
    }

    /// Per-page counting ends when its time is up.
    pub fn end_charges(&mut self, now: Instant) {
        if self.charges_until.is_none_or(|until| now < until) {
            return;
        }
        self.charges_until = None;
        let dear = |outcome: &&mut Outcome| {
            outcome.probe.name == "charge" && outcome.chosen.is_some_and(|chosen| chosen.cost == Cost::Page)
        };
        if let (Some(loader), Some(outcome)) = (&mut self.loader, self.outcomes.iter_mut().find(dear))
            && let Some(chosen) = outcome.chosen.take()
        {
            loader.detach(chosen);
            for attempt in &mut outcome.attempts {
                attempt.why.get_or_insert_with(|| "counting once a page ended with its time".to_owned());
            }
        }
        self.settle();
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
