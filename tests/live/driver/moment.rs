//! Times as memtrace prints them, in RFC 3339.

use std::time::SystemTime;

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What `ts` and its like say.
pub fn of(ts: &Value) -> SystemTime {
    let moment = ts.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    moment.unwrap_or_else(|| panic!("{ts} is no time")).into()
}

/// Seconds from one to another, below zero if that was before.
pub fn since(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from)
        .map_or_else(|before| -before.duration().as_secs_f64(), |after| after.as_secs_f64())
}
