//! What a view may ask of the run it shows: the one way back, and it carries no data.

use std::time::Duration;

/// A wish; whoever collects may ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Count charges for this long even where that costs every page.
    Charges(Duration),
    /// Follow the charges of this row's memory cgroup to processes and kernel sites, for this long.
    Sites(u64, Duration),
    /// Count the system calls of this row, or no more.
    Calls(Option<u64>),
}

/// How long one key press counts charges.
pub const CHARGES: Duration = Duration::from_secs(30);
/// How long one key press follows them to their sites.
pub const SITES: Duration = Duration::from_secs(30);
