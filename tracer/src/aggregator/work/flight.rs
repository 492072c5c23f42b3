//! Work in flight of one row, as it was looked at last: connections that were accepted and are still open, and processes
//! that others started.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::aggregator::row::How;

/// Of a row that is worth a look. Unknown is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Flight {
    /// TCP connections that were accepted and whose descriptor is still open.
    pub connections: Option<u64>,
    /// How many more than when the run began; at least, where the row was looked at later.
    pub connections_growth: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_growth_how: Option<How>,
    /// Connections that wait to be accepted.
    pub queued: Option<u64>,
    /// Since attach, or since the first look.
    pub arrivals: Option<u64>,
    pub completions: Option<u64>,
    /// Between the last two looks.
    pub arrivals_per_s: Option<f64>,
    pub completions_per_s: Option<f64>,
    /// Who has most connections open.
    pub peers: Vec<Peer>,
    pub processes: u64,
    pub threads: u64,
    /// Processes whose parent is in the row, by name: those first that took most time.
    pub children: Vec<Child>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub addr: IpAddr,
    pub count: u64,
}

/// Processes of one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Child {
    pub comm: Arc<str>,
    /// Alive now.
    pub running: u64,
    /// How long the eldest of them has lived.
    pub oldest_s: Option<f64>,
    /// Ended since attach; `None` where no probe tells.
    pub ended: Option<u64>,
    /// Median time of life of those that ended; where none has, of those alive, which is at least that.
    pub p50_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_s_how: Option<How>,
    /// The longest, of both.
    pub max_s: Option<f64>,
    /// Times of those alive together.
    #[serde(skip)]
    pub alive_s: f64,
}

impl Flight {
    /// Children that are alive.
    pub fn running(&self) -> u64 {
        self.children.iter().map(|child| child.running).sum()
    }
}
