//! One row's state: what was read of it, and how an interval of it is closed.

use std::{sync::Arc, time::Duration};

use tracer_ebpf::abi::{counter::CgroupCount, oom::ReclaimCount};

use super::{
    Served,
    forecast::{Forecast, History},
    kinds::{self, Hierarchical, KINDS, Kind, Part, Sum},
    pressure,
    row::{How, Log, Memory, Removed, Row, Tasks},
    work::flight::Flight,
};
use crate::{
    event::{More, Stat, page_size},
    resolve::Container,
};

/// Readings of `memory.current` kept for the trend line.
const TREND: usize = 60;
/// Time constant of the smoothed growth.
const EWMA_SECONDS: f64 = 10.0;
/// A row that was flat for so many ticks may rest.
const SETTLED: usize = 10;
/// Below this, in bytes per second, a smoothed rate is as good as nothing.
const AT_REST: f64 = 1.0;

/// The least limit of a row and those around it, and the one of them that is reached first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub effective: Option<u64>,
    pub forecast: Option<Forecast>,
}

/// A removal: when, what was left, the most there ever was.
#[derive(Debug, Clone, Copy)]
struct Removal {
    at: Duration,
    left: Option<u64>,
    peak: Option<u64>,
}

/// What closing an interval needs beside the row itself.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    /// Counts intervals.
    pub number: u64,
    pub at: Duration,
    /// No other row is in the row.
    pub leaf: bool,
    pub interval: Duration,
    /// There is no interval before it.
    pub first: bool,
    pub served: Served,
}

/// One row's state.
pub struct Entry {
    pub container: Arc<Container>,
    provenance: Option<String>,
    /// The row around it.
    pub above: Option<u64>,
    /// When it was made, if memtrace saw it; what it held before that was nothing.
    born: Option<Duration>,
    /// With all below it, as read.
    pub now: Hierarchical,
    /// What the sum of a row around it has of this one.
    pub counted_in: Option<(u64, Part)>,
    /// The reading with the greatest usage: what it was made of when it counted.
    most: [Option<u64>; KINDS],
    pub limit: Option<u64>,
    swap_limit: Option<u64>,
    kernel_inferred: bool,
    oom_before: Option<u64>,
    throttled: Option<(u64, u64)>,
    /// Between the last two readings, which may be more than an interval apart.
    throttled_share: Option<f64>,
    /// Own share at the last tick.
    before: Option<[Option<u64>; KINDS]>,
    ewma: [Option<f64>; KINDS],
    count: CgroupCount,
    count_before: CgroupCount,
    pressure: pressure::State,
    trend: Vec<Option<u64>>,
    /// The interval that the trend ends with; a row at rest is not closed, and makes that up when it moves.
    closed: u64,
    removal: Option<Removal>,
    /// It could not be read: its directory is going away, or gone.
    vanished: bool,
    pub log: Option<Log>,
    pub flight: Option<Arc<Flight>>,
    /// Tasks blocked now, and those of them that are stuck; `None` without the probe.
    pub blocked: Option<(u64, u64)>,
    /// What of it cannot be reclaimed, where it has a limit.
    hard: History,
    /// The last row, good for as long as nothing moves.
    pub row: Option<Arc<Row>>,
    pub at_rest: bool,
}

impl Entry {
    pub fn new(container: Container, above: Option<u64>, born: Option<Duration>) -> Entry {
        Entry {
            container: Arc::new(container),
            provenance: None,
            above,
            born,
            now: Hierarchical::default(),
            counted_in: None,
            most: [None; KINDS],
            limit: None,
            swap_limit: None,
            kernel_inferred: false,
            oom_before: born.map(|_| 0),
            throttled: None,
            throttled_share: None,
            before: born.map(|_| [Some(0); KINDS]),
            ewma: [None; KINDS],
            count: CgroupCount::default(),
            count_before: CgroupCount::default(),
            pressure: pressure::State::default(),
            trend: Vec::new(),
            closed: 0,
            removal: None,
            vanished: false,
            log: None,
            flight: None,
            blocked: None,
            hard: History::default(),
            row: None,
            at_rest: false,
        }
    }

    pub fn name(&mut self, container: Container, provenance: Option<String>) {
        self.at_rest &= *self.container == container;
        self.container = Arc::new(container);
        self.provenance = provenance;
    }

    /// With the rows in it.
    pub fn whole(&self) -> Memory {
        self.memory(&self.now.into_inner(), None)
    }

    /// Whether it was made after attach.
    pub fn born(&self) -> bool {
        self.born.is_some()
    }

    pub fn removed(&self) -> bool {
        self.removal.is_some()
    }

    /// It has a directory that can be read, so its memory is not in the row around it.
    pub fn alive(&self) -> bool {
        self.removal.is_none() && !self.vanished
    }

    pub fn remove(&mut self, at: Duration, left: Option<u64>, peak: Option<u64>) {
        let old = self.removal.unwrap_or(Removal { at, left: None, peak: None });
        self.removal = Some(Removal { at: old.at, left: left.or(old.left), peak: peak.or(old.peak) });
        self.at_rest = false;
    }

    /// Returns whether the limit is another one now, which concerns the rows in this one, too.
    pub fn sampled(&mut self, usage: Option<u64>, stat: Option<&Stat>, at: Duration) -> bool {
        self.at_rest = false;
        self.vanished = usage.is_none();
        if usage.is_some() {
            self.now.set(Kind::Current, usage);
        }
        let Some(stat) = stat else { return false };
        self.now.read(stat);
        self.pressure.read(stat, at);
        self.kernel_inferred = stat.kernel_inferred;
        // By the pages that it was made of: usage is exact at once, the kernel gathers these a little later.
        let pages = |of: &[Option<u64>; KINDS]| {
            of[Kind::Anon as usize].zip(of[Kind::File as usize]).map(|(a, f)| a + f)
        };
        let now = self.now.into_inner();
        if pages(&now) >= pages(&self.most) {
            self.most = now;
        }
        let Some(More { limit, swap_limit, tasks, oom_kills, throttled, .. }) = stat.more else {
            return false;
        };
        let other_limit = self.limit != limit;
        self.limit = limit;
        self.swap_limit = swap_limit;
        self.now.set(Kind::Tasks, tasks);
        self.now.set(Kind::OomKills, oom_kills);
        self.oom_before = self.oom_before.or(oom_kills);
        self.throttled_share = throttled_share(std::mem::replace(&mut self.throttled, throttled), throttled);
        other_limit
    }

    /// More counts since attach.
    pub fn counted(&mut self, more: CgroupCount) {
        self.at_rest = false;
        self.count.charged += more.charged;
        self.count.uncharged += more.uncharged;
        self.count.execs += more.execs;
        self.count.exits += more.exits;
    }

    /// More direct reclaim since attach.
    pub fn reclaimed(&mut self, more: ReclaimCount) {
        self.at_rest = false;
        self.pressure.reclaimed(more);
    }

    /// What the row holds itself: what was read, less the rows nested in it.
    pub fn share(&self, root: bool, nested: Option<&Sum>) -> [Option<u64>; KINDS] {
        match (root || !self.alive(), nested) {
            // Row `/`: the kernel keeps no such sums, the host's stand in the header. A removed cgroup's memory
            // is in the row around it by now.
            (true, _) => [None; KINDS],
            (false, None) => self.now.into_inner(),
            (false, Some(nested)) => self.now.less(nested),
        }
    }

    /// Takes note of what cannot be reclaimed: page cache that is clean gives way when the limit is met.
    pub fn foresee(&mut self, at: Duration) {
        let Some(current) = self.now.get(Kind::Current).filter(|_| self.limit.is_some() && self.alive())
        else {
            return self.hard.clear();
        };
        let get = |kind| self.now.get(kind);
        let clean = || {
            let kept = get(Kind::Shmem)? + get(Kind::Dirty)? + get(Kind::Writeback)?;
            Some(get(Kind::File)?.saturating_sub(kept))
        };
        let clean = clean().unwrap_or(0);
        self.hard.push(at, current.saturating_sub(clean));
    }

    /// Until its own limit.
    pub fn forecast(&self) -> Option<Forecast> {
        self.hard.until(self.limit?)
    }

    /// The row of the interval that ends.
    pub fn close(&mut self, with: Closing, share: [Option<u64>; KINDS], limits: Limits) -> Arc<Row> {
        let seconds = with.interval.as_secs_f64();
        let rates = self.rates(with, &share);
        self.smooth(seconds, &rates, &share);
        self.prolong(with.number, share[Kind::Current as usize]);
        let (count, before) = (self.count, self.count_before);
        self.count_before = count;
        let per_second = |now: u64, before: u64, served: bool| {
            (served && !with.first && seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
        };
        // The kernel charges no page counter for what is in no cgroup.
        let charges = with.served.charges && self.above.is_some();
        let bytes_per_second =
            |now, before| per_second(now, before, charges).map(|pages| pages * page_size() as f64);
        let pressure = pressure::Interval {
            at: with.at,
            length: with.interval,
            first: with.first,
            served: with.served.reclaims,
            leaf: with.leaf,
        };
        let quiet = self.pressure.is_quiet(with.at, with.interval);
        // In a cgroup around it that fills, a row that does not grow is no cause of that.
        let grows = self.ewma[Kind::Current as usize].is_some_and(|rate| rate > AT_REST);
        let known = share[Kind::Current as usize].is_some();
        let forecast = limits.forecast.filter(|_| known && (grows || self.limit.is_some()));
        let oom_kills = share[Kind::OomKills as usize];
        let row = Arc::new(Row {
            container: Arc::clone(&self.container),
            memory: self.memory(&share, limits.effective),
            growth_per_s: kinds::growth(&rates),
            growth_ewma_per_s: kinds::growth(&self.ewma),
            seconds_to_limit: forecast.map(|forecast| forecast.seconds),
            seconds_to_limit_low: forecast.map(|forecast| forecast.low),
            seconds_to_limit_high: forecast.and_then(|forecast| forecast.high),
            seconds_to_limit_how: forecast.map(|_| How::Inferred),
            charged_per_s: bytes_per_second(count.charged, before.charged),
            uncharged_per_s: bytes_per_second(count.uncharged, before.uncharged),
            log: self.log.filter(|_| with.served.logs),
            tasks: Tasks {
                total: share[Kind::Tasks as usize],
                blocked: self.blocked.map(|(blocked, _)| blocked),
                stuck: self.blocked.map(|(_, stuck)| stuck),
                execs_per_s: per_second(count.execs, before.execs, with.served.tasks),
                exits_per_s: per_second(count.exits, before.exits, with.served.tasks),
            },
            oom_kills: oom_kills.map(|kills| kills.saturating_sub(self.oom_before.unwrap_or(0))),
            pressure: self.pressure.close(pressure),
            flight: self.flight.clone(),
            throttled_share: self.throttled_share.filter(|_| self.alive()),
            removed: self.removal.map(|removal| Removed {
                lived_s: self.born.map(|born| removal.at.saturating_sub(born).as_secs_f64()),
                peak: removal.peak,
                left: removal.left,
                most: self.memory(&self.most, limits.effective),
            }),
            trend: Arc::from(self.trend.as_slice()),
            provenance: self.provenance.clone(),
        });
        self.before = self.alive().then_some(share);
        let still = |rate: &Option<f64>| rate.is_none_or(|rate| rate.abs() < AT_REST);
        let flat = self.trend.len() >= SETTLED && self.trend.windows(2).all(|pair| pair[0] == pair[1]);
        self.at_rest = flat && self.ewma.iter().all(still) && count == before && quiet && !with.first;
        row
    }

    /// While the row was at rest every reading was the same as the last.
    fn prolong(&mut self, number: u64, current: Option<u64>) {
        if let Some(last) = self.trend.last().copied() {
            let rested = number.saturating_sub(self.closed + 1).min(TREND as u64);
            self.trend.extend((0..rested).map(|_| last));
        }
        self.trend.push(current);
        self.trend.drain(..self.trend.len().saturating_sub(TREND));
        self.closed = number;
    }

    /// Per second, of the interval alone.
    fn rates(&self, with: Closing, share: &[Option<u64>; KINDS]) -> [Option<f64>; KINDS] {
        let seconds = with.interval.as_secs_f64();
        let Some(before) = self.before.filter(|_| !with.first && seconds > 0.0) else { return [None; KINDS] };
        std::array::from_fn(|kind| Some((share[kind]? as f64 - before[kind]? as f64) / seconds))
    }

    fn smooth(&mut self, seconds: f64, rates: &[Option<f64>; KINDS], share: &[Option<u64>; KINDS]) {
        let weight = 1.0 - (-seconds / EWMA_SECONDS).exp();
        for (kind, smooth) in self.ewma.iter_mut().enumerate() {
            *smooth = match (*smooth, rates[kind]) {
                (Some(smooth), Some(rate)) => Some(smooth + weight * (rate - smooth)),
                (None, Some(rate)) => Some(rate),
                (smooth, None) => smooth.filter(|_| share[kind].is_some()),
            };
        }
    }

    fn memory(&self, share: &[Option<u64>; KINDS], effective_limit: Option<u64>) -> Memory {
        let mut memory = kinds::memory(share);
        memory.limit = self.limit;
        memory.swap_limit = self.swap_limit;
        memory.effective_limit = effective_limit;
        memory.kernel_how = (self.kernel_inferred && memory.kernel.is_some()).then_some(How::Inferred);
        memory
    }
}

/// Throttled periods / periods between two readings of both; no periods, no throttling.
fn throttled_share(before: Option<(u64, u64)>, now: Option<(u64, u64)>) -> Option<f64> {
    let (before, now) = (before?, now?);
    let periods = now.0.checked_sub(before.0)?;
    let throttled = now.1.checked_sub(before.1)?;
    Some(if periods == 0 { 0.0 } else { throttled as f64 / periods as f64 })
}
