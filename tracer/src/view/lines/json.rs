//! `lines --json`: one object an interval, on one line, as the interface promises. What is not known is `null`.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    aggregator::{
        row::How,
        stream::{Logs, Process, Reader, Role, Stream},
    },
    resolve::Container,
    snapshot::{Host, Snapshot},
    view::{host, json},
};

#[derive(Serialize)]
struct Lines<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    interval_s: f64,
    host: &'a Host,
    streams: Vec<StreamJson<'a>>,
    readers: Vec<ReaderJson<'a>>,
}

#[derive(Serialize)]
struct StreamJson<'a> {
    container: &'a Container,
    stream: Role,
    lines: u64,
    bytes: u64,
    lines_per_s: Option<f64>,
    bytes_per_s: Option<f64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
    max: Option<u64>,
    open_line_bytes: u64,
    open_line_per_s: Option<f64>,
    max_open_line_bytes: u64,
    open_line_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_line_before_how: Option<How>,
    unscanned_bytes: u64,
    first_line_partial: bool,
    reader: Option<&'a Process>,
    via: Vec<&'a Process>,
    hops: Vec<HopJson<'a>>,
    held_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_bytes_how: Option<How>,
    /// `null` where lengths are not counted.
    buckets: Option<Vec<(u64, u64)>>,
}

#[derive(Serialize)]
struct HopJson<'a> {
    pid: u32,
    comm: &'a str,
    taken: u64,
    taken_per_s: Option<f64>,
}

#[derive(Serialize)]
struct ReaderJson<'a> {
    pid: u32,
    comm: &'a str,
    /// The row it runs in.
    container: Option<&'a Container>,
    anon: Option<u64>,
    anon_growth: Option<i64>,
    anon_per_s: Option<f64>,
    taken: u64,
    written: Option<u64>,
    explained: Vec<ExplainedJson<'a>>,
}

#[derive(Serialize)]
struct ExplainedJson<'a> {
    container: &'a Container,
    bytes: u64,
}

/// The object, without the newline after it.
pub fn lines(snapshot: &Snapshot, logs: &Logs, streams: &[&Arc<Stream>]) -> String {
    let lines = Lines {
        schema: json::SCHEMA,
        kind: "lines",
        ts: host::timestamp(snapshot.at),
        interval_s: snapshot.interval_s,
        host: &snapshot.host,
        streams: streams.iter().map(|stream| stream_json(stream)).collect(),
        readers: logs.readers.iter().map(|reader| reader_json(reader, snapshot)).collect(),
    };
    json::written(&lines, 2048 * (streams.len() + 1))
}

fn stream_json(stream: &Stream) -> StreamJson<'_> {
    let percentile = |q| stream.lengths.as_ref()?.percentile(q, stream.max);
    StreamJson {
        container: &stream.container,
        stream: stream.role,
        lines: stream.lines,
        bytes: stream.bytes,
        lines_per_s: stream.lines_per_s,
        bytes_per_s: stream.bytes_per_s,
        p50: percentile(0.5),
        p90: percentile(0.9),
        p99: percentile(0.99),
        p999: percentile(0.999),
        max: (stream.lines > 0).then_some(stream.max),
        open_line_bytes: stream.open_line,
        open_line_per_s: stream.open_line_per_s,
        max_open_line_bytes: stream.max_open_line,
        open_line_before: stream.open_line_before,
        open_line_before_how: stream.open_line_before.map(|_| How::Inferred),
        unscanned_bytes: stream.unscanned,
        first_line_partial: stream.first_line_partial,
        reader: stream.reader(),
        via: stream.via().collect(),
        hops: stream
            .hops
            .iter()
            .map(|hop| HopJson {
                pid: hop.process.pid,
                comm: &hop.process.comm,
                taken: hop.taken,
                taken_per_s: hop.taken_per_s,
            })
            .collect(),
        held_bytes: stream.held,
        held_bytes_how: stream.held.and(stream.held_how),
        buckets: stream.lengths.as_ref().map(|lengths| lengths.buckets().collect()),
    }
}

fn reader_json<'a>(reader: &'a Reader, snapshot: &'a Snapshot) -> ReaderJson<'a> {
    let row = snapshot.rows.iter().find(|row| Some(row.container.cgroup.id) == reader.row);
    let explained = reader.explained.iter();
    ReaderJson {
        pid: reader.process.pid,
        comm: &reader.process.comm,
        container: row.map(|row| &*row.container),
        anon: reader.anon,
        anon_growth: reader.anon_growth,
        anon_per_s: reader.anon_per_s,
        taken: reader.taken,
        written: reader.written,
        explained: explained.map(|(bytes, container)| ExplainedJson { container, bytes: *bytes }).collect(),
    }
}
