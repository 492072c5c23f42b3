//! What the state knows of one row in one interval. Sizes are bytes; `None` is "not known here", never 0.
//!
//! Rows are disjoint: a row is its cgroup with all below it, less the other rows nested in it.

use std::sync::Arc;

use serde::Serialize;

use super::{pressure::Pressure, work::flight::Flight};
use crate::resolve::Container;

/// How a number that is not simply measured was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Inferred,
    Sampled,
    AtLeast,
}

/// What a row's memory is made of, as in `memory.stat`: `file` includes `shmem`, `dirty` and `writeback`;
/// `kernel` includes `slab`; `current` is about `anon + file + kernel + sock`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    pub current: Option<u64>,
    /// The cgroup's own limit; unlimited is `None`.
    pub limit: Option<u64>,
    /// The least limit of the cgroup and its ancestors.
    pub effective_limit: Option<u64>,
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub dirty: Option<u64>,
    pub writeback: Option<u64>,
    pub slab: Option<u64>,
    pub kernel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_how: Option<How>,
    pub sock: Option<u64>,
    pub swap: Option<u64>,
    /// Of that; unlimited is `None`.
    #[serde(skip)]
    pub swap_limit: Option<u64>,
}

/// Bytes per second by kind, signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Growth {
    pub current: Option<f64>,
    pub anon: Option<f64>,
    pub file: Option<f64>,
    pub shmem: Option<f64>,
    pub dirty: Option<f64>,
    pub writeback: Option<f64>,
    pub slab: Option<f64>,
    pub kernel: Option<f64>,
    pub sock: Option<f64>,
    pub swap: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tasks {
    pub total: Option<u64>,
    /// In uninterruptible sleep now.
    pub blocked: Option<u64>,
    /// In uninterruptible sleep for longer than the threshold.
    pub stuck: Option<u64>,
    /// Programs started (`sched_process_exec`), per second.
    pub execs_per_s: Option<f64>,
    /// Tasks ended (`sched_process_exit`), per second.
    pub exits_per_s: Option<f64>,
}

/// Log lines; served by a probe that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Log {
    pub bytes_per_s: Option<f64>,
    pub lines_per_s: Option<f64>,
    pub open_line_bytes: Option<u64>,
}

/// A row whose cgroup was removed in this interval. Its memory now counts in the row around it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Removed {
    /// Seconds from creation to removal; `None` when it was there before memtrace.
    pub lived_s: Option<f64>,
    /// The most it ever held (`memory.peak`, `memory.max_usage_in_bytes`), read by the kernel at removal.
    pub peak: Option<u64>,
    /// What it still held at removal, now its parent's.
    pub left: Option<u64>,
    /// The composition read when it held most. Between its last breath and its removal a cgroup is empty.
    pub most: Memory,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub container: Arc<Container>,
    pub memory: Memory,
    /// Of the last interval, not smoothed.
    pub growth_per_s: Growth,
    /// Exponentially weighted over about ten seconds.
    pub growth_ewma_per_s: Growth,
    /// Until a limit, its own or one around it, is met at the pace of the last half minute, by what cannot be reclaimed;
    /// `None` where that does not surely grow, or without a limit.
    pub seconds_to_limit: Option<f64>,
    /// By the scatter of that pace; no `high`: perhaps never.
    pub seconds_to_limit_low: Option<f64>,
    pub seconds_to_limit_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_limit_how: Option<How>,
    pub charged_per_s: Option<f64>,
    pub uncharged_per_s: Option<f64>,
    pub log: Option<Log>,
    pub tasks: Tasks,
    /// Since attach.
    pub oom_kills: Option<u64>,
    pub pressure: Pressure,
    /// Throttled CPU periods / periods between the last two readings, which are an interval apart where memory
    /// moves and up to ten seconds where it does not; `None` without a quota.
    pub throttled_share: Option<f64>,
    /// Work in flight, where something of it moves; it is not looked at elsewhere.
    pub flight: Option<Arc<Flight>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// `memory.current` of the last ticks, oldest first, for the trend line.
    #[serde(skip)]
    pub trend: Arc<[Option<u64>]>,
    /// Where the name came from, for the reader who asks.
    #[serde(skip)]
    pub provenance: Option<String>,
}
