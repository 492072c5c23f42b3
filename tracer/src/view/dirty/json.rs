//! `dirty --json`: one object an interval, on one line, as the interface promises. What is not known is `null`.

use std::sync::Arc;

use serde::Serialize;
use tracer_ebpf::abi::dirty::NO_DEVICE;

use crate::{
    aggregator::{
        dirty::row::{DirtyRow, File, Recent, Writer},
        row::How,
    },
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
    dirtied_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirtied_per_s_how: Option<How>,
    written_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_per_s_how: Option<How>,
    dirtied: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirtied_how: Option<How>,
    written: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_how: Option<How>,
    cleaned: Option<u64>,
    dirty: Option<u64>,
    writeback: Option<u64>,
    throttled_s: Option<f64>,
    throttled_per_s: Option<f64>,
    before_attach: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_attach_how: Option<How>,
    processes: Vec<ProcessJson<'a>>,
    files: Vec<FileJson<'a>>,
    /// Of the last minute.
    top_dirtiers: Vec<RecentJson<'a>>,
}

#[derive(Serialize)]
struct ProcessJson<'a> {
    pid: u32,
    comm: &'a str,
    dirtied: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirtied_how: Option<How>,
    before_attach: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_attach_how: Option<How>,
}

#[derive(Serialize)]
struct FileJson<'a> {
    path: Option<&'a str>,
    /// As `stat` has it.
    dev: Option<u64>,
    ino: u64,
    dirtied: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirtied_how: Option<How>,
    backing: bool,
    /// A process that wrote before attach has it open for writing.
    open_before: bool,
    before_attach: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_attach_how: Option<How>,
}

#[derive(Serialize)]
struct RecentJson<'a> {
    pid: u32,
    comm: &'a str,
    path: Option<&'a str>,
    dirtied: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirtied_how: Option<How>,
    backing: bool,
}

/// A device number as `stat` tells it; `None`: not known.
fn stat_dev(dev: u32) -> Option<u64> {
    (dev != NO_DEVICE).then(|| libc::makedev(dev >> 20, dev & 0xf_ffff))
}

/// The object, without the newline after it.
pub fn dirty(snapshot: &Snapshot, rows: &[&Arc<DirtyRow>]) -> String {
    let object = Json {
        schema: json::SCHEMA,
        kind: "dirty",
        ts: host::timestamp(snapshot.at),
        interval_s: snapshot.interval_s,
        host: &snapshot.host,
        containers: rows.iter().map(|row| row_json(row)).collect(),
    };
    json::written(&object, 512 * (rows.len() + 1))
}

fn inferred(bytes: Option<u64>) -> Option<How> {
    bytes.map(|_| How::Inferred)
}

fn row_json(row: &DirtyRow) -> RowJson<'_> {
    let how = row.dirtied_how;
    let known = row.dirtied.is_some();
    RowJson {
        container: &row.container,
        removed: row.removed,
        dirtied_per_s: row.dirtied_per_s,
        dirtied_per_s_how: how.filter(|_| row.dirtied_per_s.is_some()),
        written_per_s: row.written_per_s,
        written_per_s_how: row.written_how.filter(|_| row.written_per_s.is_some()),
        dirtied: row.dirtied,
        dirtied_how: how,
        written: row.written,
        written_how: row.written_how,
        cleaned: row.cleaned,
        dirty: row.dirty,
        writeback: row.writeback,
        throttled_s: row.throttled_s,
        throttled_per_s: row.throttled_per_s,
        before_attach: row.before_attach,
        before_attach_how: inferred(row.before_attach),
        processes: row.processes.iter().map(|writer| process_json(writer, known, how)).collect(),
        files: row.files.iter().map(|file| file_json(file, known, how)).collect(),
        top_dirtiers: row.recent.iter().map(|recent| recent_json(recent, how)).collect(),
    }
}

fn process_json(writer: &Writer, known: bool, how: Option<How>) -> ProcessJson<'_> {
    ProcessJson {
        pid: writer.process.pid,
        comm: &writer.process.comm,
        dirtied: known.then_some(writer.dirtied),
        dirtied_how: how,
        before_attach: writer.before_attach,
        before_attach_how: inferred(writer.before_attach),
    }
}

fn file_json(file: &File, known: bool, how: Option<How>) -> FileJson<'_> {
    FileJson {
        path: file.path.as_deref(),
        dev: stat_dev(file.node.dev),
        ino: file.node.ino,
        dirtied: known.then_some(file.dirtied),
        dirtied_how: how,
        backing: file.backing,
        open_before: file.open_before,
        before_attach: file.before_attach,
        before_attach_how: inferred(file.before_attach),
    }
}

fn recent_json(recent: &Recent, how: Option<How>) -> RecentJson<'_> {
    RecentJson {
        pid: recent.process.pid,
        comm: &recent.process.comm,
        path: recent.path.as_deref(),
        dirtied: recent.dirtied,
        dirtied_how: how,
        backing: recent.backing,
    }
}

#[cfg(test)]
mod tests {
    use super::stat_dev;

    #[test]
    fn a_device_is_written_as_stat_does() {
        assert_eq!(stat_dev(0x1030_0001), Some(0x10301));
        assert_eq!(stat_dev(8 << 20 | 1), Some(0x801));
        assert_eq!(stat_dev(u32::MAX), None);
    }
}
