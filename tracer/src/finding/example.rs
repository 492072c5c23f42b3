//! Hand-made streams and readers over time, for the tests of findings and of their view.

use std::{sync::Arc, time::Duration};

use super::{Finding, Seen, Watch};
use crate::{
    aggregator::{
        dirty::row::Dirty,
        host::Remainder,
        pressure::Pressure,
        row::{Growth, How, Memory, Row, Tasks},
        stream::{Hop, Logs, Process, Reader, Role, Stream},
    },
    event::HostMemory,
    resolve::{Cgroup, Container, Runtime},
};

pub const MIB: u64 = 1 << 20;

pub fn container(namespace: &str, pod: &str, name: &str) -> Container {
    let id = format!(
        "{:064x}",
        pod.bytes().fold(0xc0ffee_u64, |id, byte| id.wrapping_mul(31).wrapping_add(u64::from(byte)))
    );
    Container {
        runtime: Runtime::Containerd,
        name: Some(name.to_owned()),
        pod: Some(pod.to_owned()),
        namespace: Some(namespace.to_owned()),
        image: None,
        sandbox: false,
        cgroup: Cgroup { id: 4711, path: format!("/kubepods/{id}") },
        id,
    }
}

pub fn process(pid: u32, comm: &str) -> Process {
    Process { pid, comm: Arc::from(comm) }
}

/// One that has written nothing yet: the container's stdout, through a shim to `containerd[812]`.
pub fn stream(id: u64, pod: &str) -> Stream {
    let hop = |pid, comm| Hop { process: process(pid, comm), taken: 0, taken_per_s: None };
    let mut container = container("shop", pod, "app");
    container.cgroup.id = 4000 + id;
    Stream {
        id,
        row: container.cgroup.id,
        container: Arc::new(container),
        role: Role::Stdout,
        lines: 0,
        bytes: 0,
        max: 0,
        open_line: 0,
        max_open_line: 0,
        unscanned: 0,
        first_line_partial: false,
        open_line_before: None,
        bytes_per_s: None,
        lines_per_s: None,
        open_line_per_s: None,
        trend: Arc::from([]),
        hops: vec![hop(4012, "containerd-shim"), hop(812, "containerd")],
        held: Some(0),
        held_how: Some(How::Inferred),
        lengths: None,
    }
}

pub fn reader(anon: u64) -> Reader {
    Reader {
        process: process(812, "containerd"),
        row: None,
        anon: Some(anon),
        anon_growth: None,
        anon_per_s: None,
        taken: 0,
        written: None,
        disk_free: None,
        explained: Vec::new(),
    }
}

/// A row of which only the memory is known.
pub fn row(container: Arc<Container>, memory: Memory) -> Row {
    Row {
        container,
        memory,
        growth_per_s: Growth::default(),
        growth_ewma_per_s: Growth::default(),
        seconds_to_limit: None,
        seconds_to_limit_low: None,
        seconds_to_limit_high: None,
        seconds_to_limit_how: None,
        charged_per_s: None,
        uncharged_per_s: None,
        log: None,
        tasks: Tasks::default(),
        oom_kills: None,
        pressure: Pressure::default(),
        throttled_share: None,
        flight: None,
        removed: None,
        trend: Arc::from([]),
        provenance: None,
    }
}

/// Nothing but this is known.
pub fn seen<'a>(at: Duration, rows: &'a [Arc<Row>], host: &'a HostMemory, dirty: &'a Dirty) -> Seen<'a> {
    Seen {
        at,
        rows,
        host,
        left: Remainder::default(),
        held: None,
        logs: None,
        dirty,
        kills: &[],
        dead: None,
        calls: None,
        daemons: None,
        stuck: None,
    }
}

/// A tick in which nothing but this is known.
pub fn tick_of(watch: &mut Watch, second: u64, logs: Option<&Logs>, rows: &[Arc<Row>]) -> Vec<Arc<Finding>> {
    let (host, dirty) = (HostMemory::default(), Dirty::default());
    let at = Duration::from_secs(second);
    watch.tick(&Seen { logs, ..seen(at, rows, &host, &dirty) })
}

/// What is open after each of the ticks, one a second, the first at the start of the run.
pub fn run(ticks: u64, mut logs: impl FnMut(u64) -> Logs) -> Vec<Vec<Arc<Finding>>> {
    let mut watch = Watch::default();
    (0..ticks).map(|tick| tick_of(&mut watch, tick, Some(&logs(tick)), &[])).collect()
}

pub fn logs(streams: impl IntoIterator<Item = Stream>, readers: impl IntoIterator<Item = Reader>) -> Logs {
    Logs { streams: streams.into_iter().map(Arc::new).collect(), readers: readers.into_iter().collect() }
}

/// A stream without a newline: so many bytes so far, and of them held.
pub fn endless(id: u64, pod: &str, written: u64, held: u64) -> Stream {
    Stream { bytes: written, open_line: written, max_open_line: written, held: Some(held), ..stream(id, pod) }
}

/// Fifty MiB a second without a newline for as many seconds; containerd keeps all of it, in steps.
pub fn incident(seconds: u64) -> Vec<Arc<Finding>> {
    let findings = run(seconds + 1, |tick| {
        let written = 50 * MIB * tick;
        let stream = Stream { open_line_before: Some(3 << 30), ..endless(1, "web-7", written, written) };
        let grown = written.next_multiple_of(64 * MIB);
        let explained = vec![(written, Arc::new(container("shop", "web-7", "app")))];
        let reader = Reader { anon_growth: Some(grown as i64), explained, ..reader(400 * MIB + grown) };
        logs([stream], [reader])
    });
    findings.into_iter().last().unwrap_or_default()
}
