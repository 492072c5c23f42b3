//! `syscalls --json`: one object an interval, on one line, as the interface promises. What is not known is `null`.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::Shown;
use crate::{
    aggregator::call::Call,
    resolve::Container,
    snapshot::{Host, Snapshot},
    view::{host, json},
};

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    interval_s: f64,
    host: &'a Host,
    containers: Vec<RowJson<'a>>,
}

#[derive(Serialize)]
struct RowJson<'a> {
    container: &'a Container,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    watched_s: f64,
    calls: Vec<CallJson<'a>>,
}

#[derive(Serialize)]
struct CallJson<'a> {
    name: &'a str,
    count: u64,
    errors: u64,
    errors_by_errno: BTreeMap<&'a Arc<str>, u64>,
    total_s: f64,
    time_share: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
    count_per_s: Option<f64>,
    time_per_s: Option<f64>,
    buckets: &'a [(f64, u64)],
}

/// The object, without the newline after it.
pub fn syscalls(snapshot: &Snapshot, rows: &[Shown<'_>]) -> String {
    let object = Json {
        schema: json::SCHEMA,
        kind: "syscalls",
        ts: host::timestamp(snapshot.at),
        interval_s: snapshot.interval_s,
        host: &snapshot.host,
        containers: rows
            .iter()
            .map(|shown| RowJson {
                container: &shown.row.container,
                removed: shown.row.removed,
                watched_s: shown.row.watched_s,
                calls: shown.calls.iter().map(|call| call_json(call)).collect(),
            })
            .collect(),
    };
    json::written(&object, 1024 * (rows.len() + 1))
}

fn call_json(call: &Call) -> CallJson<'_> {
    CallJson {
        name: &call.name,
        count: call.count,
        errors: call.errors,
        errors_by_errno: call.by_errno.iter().map(|(name, count)| (name, *count)).collect(),
        total_s: call.total_s,
        time_share: call.share,
        p50_us: call.p50_us,
        p99_us: call.p99_us,
        max_us: call.max_us,
        count_per_s: call.count_per_s,
        time_per_s: call.time_per_s,
        buckets: &call.buckets,
    }
}
