//! Streams of log lines of the hand-made interval: ordinary ones, one with two sorts of lines, one line without an end
//! that its reader hoards, a terminal, an exec session, an idle one, hostile names, a reader nobody saw, bytes not looked at.

use std::{collections::BTreeMap, sync::Arc};

use tracer_ebpf::abi::line::{SLOTS, bucket};

use super::{GIB, KIB, MIB, numbered, pod};
use crate::{
    aggregator::{
        row::How,
        stream::{Hop, Lengths, Logs, Process, Reader, Role, Stream},
    },
    resolve::{Container, Runtime},
};

/// So many lines of each length.
pub fn lengths(lines: &[(u64, u64)]) -> Lengths {
    let mut groups = BTreeMap::<u32, [u64; SLOTS]>::new();
    for (length, count) in lines {
        let (group, slot) = bucket(*length);
        groups.entry(group).or_insert([0; SLOTS])[slot as usize] += count;
    }
    let mut made = Lengths::default();
    for (group, counts) in groups {
        made.set(group, counts);
    }
    made
}

pub fn process(pid: u32, comm: &str) -> Process {
    Process { pid, comm: Arc::from(comm) }
}

/// A stream that has written these lines, and nobody reads.
pub fn stream(container: &Arc<Container>, role: Role, lines: &[(u64, u64)]) -> Stream {
    let written: u64 = lines.iter().map(|(length, count)| (length + 1) * count).sum();
    let count: u64 = lines.iter().map(|(_, count)| count).sum();
    let max = lines.iter().map(|(length, _)| *length).max().unwrap_or(0);
    Stream {
        id: container.cgroup.id * 16 + role as u64,
        row: container.cgroup.id,
        container: Arc::clone(container),
        role,
        lines: count,
        bytes: written,
        max,
        open_line: 0,
        max_open_line: max,
        unscanned: 0,
        first_line_partial: false,
        open_line_before: None,
        bytes_per_s: Some(0.0),
        lines_per_s: Some(0.0),
        open_line_per_s: Some(0.0),
        trend: Arc::new([]),
        hops: Vec::new(),
        held: None,
        held_how: None,
        lengths: Some(Arc::new(lengths(lines))),
    }
}

fn read_by(mut stream: Stream, processes: &[&Process], held: u64) -> Stream {
    let hop = |process: &&Process| Hop {
        process: (*process).clone(),
        taken: stream.bytes,
        taken_per_s: stream.bytes_per_s,
    };
    stream.hops = processes.iter().map(hop).collect();
    stream.held = Some(held);
    stream
}

fn busy(mut stream: Stream, bytes_per_s: f64, lines_per_s: f64) -> Stream {
    stream.bytes_per_s = Some(bytes_per_s);
    stream.lines_per_s = Some(lines_per_s);
    stream.trend = (0..40_u64).map(|tick| Some(bytes_per_s as u64 * (6 + tick * 5 % 7) / 9)).collect();
    stream
}

fn endless(shim: &Process, daemon: &Process) -> Stream {
    let container = Arc::new(pod("shop", "api-5c9d7f4b6d-tk2vp", Some("api"), 11));
    let rate = 10.4 * MIB as f64;
    let stream = Stream {
        bytes: 412 * MIB,
        open_line: 412 * MIB,
        max_open_line: 412 * MIB,
        first_line_partial: true,
        open_line_before: Some(1229 * MIB),
        open_line_per_s: Some(rate),
        ..busy(stream(&container, Role::Stdout, &[]), rate, 0.0)
    };
    Stream { held_how: Some(How::Inferred), ..read_by(stream, &[shim, daemon], 408 * MIB) }
}

/// The streams of the interval.
pub fn logs() -> Logs {
    let (daemon, docker) = (process(812, "containerd"), process(944, "dockerd"));
    let shim = process(2211, "containerd-shim");
    let importer = Arc::new(pod("production", "importer-7d9f8c6b5-x2x4z", Some("importer"), 1));
    let named = |runtime, name: &str, number| Arc::new(numbered(runtime, Some(name), number));
    let hostile = named(Runtime::Docker, "\x1b[31mweb\u{202e}gpj.exe\u{200b}\n漢字", 3);
    let terminal = named(Runtime::Docker, "debug-shell", 12);
    let proxy = named(Runtime::Docker, "edge-proxy", 13);

    let two_sorts: Vec<(u64, u64)> = (0..90_u64)
        .map(|n| (60 + n, 9000 - (45_i64 - n as i64).pow(2) as u64 * 4))
        .chain((0..24).map(|n| (15_000 + 250 * n, 40)))
        .collect();
    let ordinary = [(0, 12), (41, 300), (72, 1800), (118, 2400), (240, 700), (1310, 9)];
    let mut unscanned = busy(stream(&proxy, Role::Stdout, &ordinary), 380.0 * KIB as f64, 96.0);
    unscanned.bytes += 48 * MIB;
    unscanned.unscanned = 48 * MIB;
    let mut shell = busy(stream(&terminal, Role::Tty, &[(0, 3), (12, 40), (80, 7)]), 96.0, 1.5);
    shell.open_line = 23;
    let streams = vec![
        read_by(
            busy(stream(&importer, Role::Stdout, &two_sorts), 212.0 * KIB as f64, 1180.0),
            &[&shim, &daemon],
            0,
        ),
        read_by(busy(stream(&importer, Role::Stderr, &ordinary[1..4]), 610.0, 6.2), &[&shim, &daemon], 4096),
        busy(stream(&importer, Role::Other, &[(19, 4)]), 0.0, 0.0),
        read_by(stream(&hostile, Role::Stdout, &ordinary), &[&process(31, "\x1b]0;owned\x07"), &docker], 0),
        read_by(shell, &[&process(3044, "containerd-shim"), &docker], 0),
        read_by(unscanned, &[&process(3050, "containerd-shim"), &docker], 12 * KIB),
        endless(&process(2380, "containerd-shim"), &daemon),
        stream(&named(Runtime::Docker, "cron", 14), Role::Stdout, &[]),
        Stream {
            bytes_per_s: None,
            lines_per_s: None,
            open_line_per_s: None,
            ..stream(&named(Runtime::Podman, "batch", 15), Role::Stderr, &ordinary[..3])
        },
    ];
    let culprit = Arc::clone(&streams[6].container);
    Logs {
        streams: streams.into_iter().map(Arc::new).collect(),
        readers: vec![
            Reader {
                process: daemon,
                row: Some(4004),
                anon: Some(4 * GIB),
                anon_growth: Some(416 * MIB as i64),
                anon_per_s: Some(10.6 * MIB as f64),
                taken: 425 * MIB,
                written: Some(17 * MIB),
                disk_free: None,
                explained: vec![(408 * MIB, culprit)],
            },
            Reader {
                process: docker,
                row: None,
                anon: Some(96 * MIB),
                anon_growth: Some(-(2 * MIB as i64)),
                anon_per_s: Some(0.0),
                taken: 49 * MIB,
                written: None,
                disk_free: None,
                explained: Vec::new(),
            },
        ],
    }
}
