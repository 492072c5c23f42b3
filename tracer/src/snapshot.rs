//! An immutable picture of one interval: what every view reads and all that it may know.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;

use crate::aggregator::row::{How, Row};

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
    pub rss: Option<u64>,
    /// Kernel memory of the BPF maps.
    pub maps: Option<u64>,
    /// Time of a collection tick: median and 99th percentile since the start, seconds.
    pub tick_p50_s: Option<f64>,
    pub tick_p99_s: Option<f64>,
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
    /// Every row, unfiltered and unsorted: a view filters and sorts.
    pub rows: Vec<Arc<Row>>,
    /// One line per probe, for the detail of a view: which hook serves it, or why none does.
    pub probes: Arc<[String]>,
}
