//! System calls of the example: an exporter whose children walk a tree, and one that has gone.

use std::sync::Arc;

use super::snapshot;
use crate::aggregator::call::{Call, CallReport, RowCalls};

fn call(name: &str, count: u64, total_s: f64, by_errno: &[(&str, u64)]) -> Call {
    let mean = total_s * 1e6 / count as f64;
    Call {
        name: Arc::from(name),
        count,
        errors: by_errno.iter().map(|(_, count)| count).sum(),
        by_errno: by_errno.iter().map(|(name, count)| (Arc::from(*name), *count)).collect(),
        total_s,
        share: Some(total_s / 90.0),
        p50_us: Some(mean * 0.75),
        p99_us: Some(mean * 8.0),
        max_us: Some(mean * 64.0),
        count_per_s: Some(count as f64 / 12.0),
        time_per_s: Some(total_s / 12.0),
        buckets: vec![(mean * 0.75, count / 2), (mean * 8.0, count - count / 2)],
    }
}

/// For rows of the example's interval.
pub fn calls() -> CallReport {
    let snapshot = snapshot();
    let row = |at: usize, removed: bool, calls: Vec<Call>| {
        Arc::new(RowCalls {
            row: snapshot.rows[at].container.cgroup.id,
            container: Arc::clone(&snapshot.rows[at].container),
            removed,
            counted: !removed,
            watched_s: 12.0,
            calls,
        })
    };
    let exporter = vec![
        call("newfstatat", 412_000, 51.5, &[("ENOENT", 112), ("EACCES", 3)]),
        call("getdents64", 38_000, 30.4, &[]),
        call("wait4", 61, 6.1, &[("ECHILD", 1)]),
        call("i386:getpid", 2000, 0.002, &[]),
    ];
    CallReport {
        how: "syscall: tp_btf sys_exit+sys_enter (exact)".to_owned(),
        running: true,
        rows: vec![row(0, false, exporter), row(1, true, vec![call("read", 5, 0.5, &[("EAGAIN", 4)])])],
    }
}
