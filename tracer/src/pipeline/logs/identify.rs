//! Whose a stream is: the row that its writer is in, and what it is to the first process there.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tracer_ebpf::abi::line::{self, Medium};

use super::{LogLines, ancestors};
use crate::{
    aggregator::{
        log::{Owner, is_container},
        stream::Role,
    },
    event::procfs,
    pipeline::{probes::Probes, rows::Rows},
    resolve::{
        Runtime,
        stream::{
            Birth, Node, birth, descriptor, has_master, holds, is_namespace_init, memory_cgroup, socket,
        },
    },
};

/// Processes of a row that are asked when they began.
const MEMBERS: usize = 16;
/// A row's first process is asked again for its output no sooner than this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A container has begun to run its own program by then.
const SETTLED: Duration = Duration::from_secs(3);

/// First process of a row, and its output.
#[derive(Clone)]
pub(super) struct Init {
    pid: u32,
    birth: Birth,
    streams: [Option<Node>; 2],
    looked: Instant,
}

impl LogLines {
    /// Whose stream it is, and what it is to the first process of that row.
    pub(super) fn identify(&mut self, key: u64, stream: &line::Stream, rows: &Rows) {
        if stream.writer == 0 {
            return;
        }
        let Some(row) = rows.row_of(stream.writer_cgroup) else { return };
        let Some(container) = rows.aggregator.shared(row) else { return };
        let node = Node { dev: stream.dev, ino: stream.ino };
        let born = rows.aggregator.born(row);
        let mut role = self.role(row, node, stream, rows);
        let mut aside = false;
        if role.is_none() && is_container(&container) {
            // One that is gone may have had it.
            aside = birth(stream.writer).is_some()
                && ![1, 2].into_iter().any(|number| descriptor(stream.writer, number) == Some(node));
            // What its processes pipe to each other stays inside.
            let outside = !aside && self.is_had_outside(row, &container.cgroup.path, stream);
            role = outside.then_some(Role::Other);
        }
        self.state.own(key, Owner { row, container, role, aside, born });
        if !born && let Some(written) = procfs::process(stream.writer).and_then(|usage| usage.written) {
            self.state.bound_before(key, written.saturating_sub(stream.bytes));
        }
    }

    fn role(&mut self, row: u64, node: Node, stream: &line::Stream, rows: &Rows) -> Option<Role> {
        let matching = |init: &Init| {
            let role = match () {
                () if init.streams[0] == Some(node) => Role::Stdout,
                () if init.streams[1] == Some(node) => Role::Stderr,
                () => return None,
            };
            Some(if stream.medium == Medium::Pty as u32 { Role::Tty } else { role })
        };
        let known = self.inits.get(&row).filter(|init| birth(init.pid) == Some(init.birth));
        if let Some(init) = known
            && let Some(role) = matching(init)
        {
            return Some(role);
        }
        if known.is_some_and(|init| init.looked.elapsed() < ASK_AGAIN) {
            return None;
        }
        let init = first_of(row, Some(stream.writer), rows)?;
        let role = matching(&init);
        self.inits.insert(row, init);
        role
    }

    /// Whether somebody near who is in no cgroup below this path has the stream, or the master of its terminal.
    fn is_had_outside(&self, row: u64, path: &str, stream: &line::Stream) -> bool {
        let node = HashSet::from([Node { dev: stream.dev, ino: stream.ino }]);
        let inside =
            |at: &str| at.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let terminal = stream.medium == Medium::Pty as u32;
        // Of a writer that is gone no parent is known, but that of its container's first process is.
        let first = self.inits.get(&row).map(|init| init.pid);
        let mut near = self.daemons();
        near.extend([Some(stream.writer), first].into_iter().flatten().flat_map(ancestors));
        near.into_iter().any(|pid| {
            (!holds(pid, &node).is_empty() || terminal && has_master(pid))
                && memory_cgroup(pid).is_some_and(|at| !inside(&at))
        })
    }

    /// Sockets that are a first process's output: nothing tells of writes to a socket that is no stream yet.
    pub(super) fn look_for_sockets(&mut self, probes: &mut Probes, rows: &Rows, now: Instant) {
        let Some(streams) = &mut probes.streams else { return };
        let mut first = false;
        for (row, container) in rows.containers() {
            let looks = self.looked.entry(row).or_insert((0, now));
            // At once, and once more when it has surely begun.
            if container.runtime == Runtime::Systemd || looks.0 > 1 || looks.1 > now {
                continue;
            }
            *looks = (looks.0 + 1, now + SETTLED);
            let Some(init) = first_of(row, None, rows) else { continue };
            for node in [1, 2].into_iter().filter_map(|number| socket(init.pid, number)) {
                first |= streams.add_socket(node.dev, node.ino);
            }
        }
        self.looked.retain(|row, _| rows.aggregator.container(*row).is_some());
        if first {
            probes.attach_late();
        }
    }
}

/// The first process of a row: the init of its process namespace, else the one that began first.
fn first_of(row: u64, writer: Option<u32>, rows: &Rows) -> Option<Init> {
    let mut members = rows.processes(row, MEMBERS);
    if members.is_empty() {
        members.extend(writer);
    }
    let mut top = writer;
    for _ in 0..super::ANCESTORS {
        let Some(pid) = top else { break };
        if is_namespace_init(pid) {
            members = vec![pid];
            break;
        }
        top = birth(pid).map(|birth| birth.parent).filter(|parent| *parent > 1);
    }
    let born = members.iter().filter_map(|pid| Some((birth(*pid)?, *pid)));
    let (birth, pid) = born.min_by_key(|(birth, pid)| (birth.start, *pid))?;
    Some(Init {
        pid,
        birth,
        streams: [1, 2].map(|number| descriptor(pid, number).or_else(|| socket(pid, number))),
        looked: Instant::now(),
    })
}
