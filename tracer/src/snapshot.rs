//! An immutable picture of one interval: what every view reads and all that it may know.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;

use crate::{
    aggregator::{
        Aggregator, Tick,
        call::CallReport,
        daemon::Daemons,
        dead::DeadReport,
        dirty::row::Dirty,
        oom::Kill,
        row::{How, Row},
        signal::Signals,
        site::SiteReport,
        stream::Logs,
        stuck::StuckReport,
    },
    event::DeadCgroups,
    finding::{Change, Open},
};

/// Host memory outside every row. `total` = `used` - `attributed`, not clamped.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Unattributed {
    pub total: Option<i64>,
    pub root_anon: Option<i64>,
    pub root_file: Option<i64>,
    pub slab: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab_how: Option<How>,
    pub percpu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percpu_how: Option<How>,
    pub vmalloc: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmalloc_how: Option<How>,
    pub page_tables: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_tables_how: Option<How>,
    pub kernel_stack: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_stack_how: Option<How>,
    pub hugetlb: Option<i64>,
    pub other: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_how: Option<How>,
}

/// What memtrace itself costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Own {
    /// User and system time of the process over the interval, in CPUs (1.0 = one CPU).
    pub cpu_share: Option<f64>,
    /// Time of the programs in the kernel, in CPUs: of a tenth of a second each ten, `None` before the first.
    pub programs_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs_share_how: Option<How>,
    pub rss: Option<u64>,
    /// Kernel memory of the BPF maps.
    pub maps: Option<u64>,
    /// Time of a collection tick: median and 99th percentile since the start, seconds.
    pub tick_p50_s: Option<f64>,
    pub tick_p99_s: Option<f64>,
    /// That both together are above the budget, and what is not done because of that.
    pub over_budget: Vec<String>,
}

impl Own {
    /// Of the process and of its programs, as far as that is known.
    pub fn share(&self) -> Option<f64> {
        self.cpu_share.map(|share| share + self.programs_share.unwrap_or(0.0))
    }
}

/// One way of losing data, with its sentence and count since attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    pub what: &'static str,
    pub count: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Host {
    pub mem_total: Option<u64>,
    pub mem_free: Option<u64>,
    pub mem_available: Option<u64>,
    /// `mem_total - mem_free`.
    pub used: Option<u64>,
    /// Sum of `current` over all rows, whatever the filter shows.
    pub attributed: Option<u64>,
    pub unattributed: Unattributed,
    /// Removed memory cgroups that the kernel keeps.
    pub dead_cgroups: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_cgroups_how: Option<How>,
    /// Until no memory is available, at the pace of the last half minute.
    pub seconds_to_exhaustion: Option<f64>,
    pub seconds_to_exhaustion_low: Option<f64>,
    pub seconds_to_exhaustion_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_exhaustion_how: Option<How>,
    /// Sum of `losses`.
    pub lost_events: u64,
    pub losses: Vec<Loss>,
    pub own: Own,
}

/// One interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub at: SystemTime,
    /// Counts snapshots from 1; the first has no rates.
    pub sequence: u64,
    /// Seconds since the previous snapshot (the first: since attach).
    pub interval_s: f64,
    pub hostname: String,
    pub kernel: String,
    pub host: Host,
    /// Every row, unfiltered, by path: a view filters and sorts.
    pub rows: Vec<Arc<Row>>,
    /// One line per probe, for the detail of a view: which hook serves it, or why none does.
    pub probes: Arc<[String]>,
    /// Charges by process and kernel site, of the rows that were asked for.
    pub sites: Option<Arc<SiteReport>>,
    /// System calls of the rows whose calls are or were counted; `None`: nobody asked.
    pub calls: Option<Arc<CallReport>>,
    /// Streams of log lines; `None` without the probe.
    pub logs: Option<Arc<Logs>>,
    /// Who makes what dirty, and what is written back; what no probe tells is `None`.
    pub dirty: Arc<Dirty>,
    /// OOM kills, oldest first, as many as are kept: those before attach, too.
    pub kills: Arc<[Arc<Kill>]>,
    /// Dead cgroups one by one; `None` where they were not asked for, or without the probe.
    pub dead: Option<Arc<DeadReport>>,
    /// Signals that end a process; `None` where nobody asked, or without the probe.
    pub signals: Option<Arc<Signals>>,
    /// Daemons and shims of containers; `None` where nobody asked.
    pub daemons: Option<Arc<Daemons>>,
    /// Stuck tasks, and how long tasks sleep uninterruptibly; `None` where nobody asked, or without the probe.
    pub stuck: Option<Arc<StuckReport>>,
    /// What is wrong now, worst first.
    pub findings: Vec<Arc<Open>>,
    /// What became of findings, oldest first, as many as are kept.
    pub finding_events: Arc<Vec<Change>>,
}

impl Host {
    /// The host's part of a snapshot.
    pub fn take(aggregator: &Aggregator, tick: &Tick, own: Own) -> Host {
        let state = aggregator.host();
        let memory = &state.memory;
        let used = memory.total.zip(memory.free).map(|(total, free)| total.saturating_sub(free));
        let attributed = tick.held;
        let left = state.remainder(&tick.attributed);
        let total = used.zip(attributed).map(|(used, rows)| used as i64 - rows as i64);
        let kernel = left.kernel();
        let parts = || {
            let others = [left.root_anon, left.root_file, left.hugetlb];
            others.into_iter().chain(kernel.map(|part| part.bytes))
        };
        // What is unknown cannot be taken off: then the rest holds it as well.
        let other = total.map(|total| total - parts().flatten().sum::<i64>());
        let exact = parts().all(|part| part.is_some()) && kernel.iter().all(|part| part.how.is_none());
        let (dead_cgroups, dead_cgroups_how) = match memory.dead_cgroups {
            Some(DeadCgroups::Measured(count)) => (Some(count), None),
            Some(DeadCgroups::Inferred(count)) => (Some(count), Some(How::Inferred)),
            None => (None, None),
        };
        let exhaustion = state.exhaustion();
        let losses: Vec<Loss> =
            aggregator.losses().into_iter().map(|(what, count)| Loss { what, count }).collect();
        Host {
            mem_total: memory.total,
            mem_free: memory.free,
            mem_available: memory.available,
            used,
            attributed,
            unattributed: Unattributed {
                total,
                root_anon: left.root_anon,
                root_file: left.root_file,
                slab: left.slab.bytes,
                slab_how: left.slab.how,
                percpu: left.percpu.bytes,
                percpu_how: left.percpu.how,
                vmalloc: left.vmalloc.bytes,
                vmalloc_how: left.vmalloc.how,
                page_tables: left.page_tables.bytes,
                page_tables_how: left.page_tables.how,
                kernel_stack: left.kernel_stack.bytes,
                kernel_stack_how: left.kernel_stack.how,
                hugetlb: left.hugetlb,
                other,
                other_how: (other.is_some() && !exact).then_some(How::Inferred),
            },
            dead_cgroups,
            dead_cgroups_how,
            seconds_to_exhaustion: exhaustion.map(|forecast| forecast.seconds),
            seconds_to_exhaustion_low: exhaustion.map(|forecast| forecast.low),
            seconds_to_exhaustion_high: exhaustion.and_then(|forecast| forecast.high),
            seconds_to_exhaustion_how: exhaustion.map(|_| How::Inferred),
            lost_events: losses.iter().map(|loss| loss.count).sum(),
            losses,
            own,
        }
    }
}
