//! Hand-made streams of a container, its shim and a daemon.

use super::*;
use crate::resolve::{Cgroup, Runtime};

const CONTAINER: u64 = 10;
const OTHER: u64 = 11;
const UNIT: u64 = 20;
const SHIM: u32 = 200;
const DAEMON: u32 = 300;

fn container(row: u64, runtime: Runtime) -> Arc<Container> {
    Arc::new(Container {
        runtime,
        id: format!("{row:064}"),
        name: None,
        pod: None,
        namespace: None,
        image: None,
        sandbox: false,
        cgroup: Cgroup { id: row, path: format!("/{row}") },
    })
}

fn stream(writer: u32, reader: u32, bytes: u64, read: u64, open: u64) -> line::Stream {
    line::Stream {
        bytes,
        read,
        open,
        writer,
        reader,
        ino: u64::from(writer) << 32 | u64::from(reader),
        medium: Medium::Pipe as u32,
        ..line::Stream::default()
    }
}

fn usage(comm: &str, anon: u64, written: u64) -> ProcessUsage {
    ProcessUsage { comm: comm.to_owned(), anon: Some(anon), written: Some(written), disk_free: None }
}

struct Scene {
    state: LogState,
    now: u64,
}

impl Scene {
    fn new() -> Scene {
        Scene { state: LogState::new(false), now: 0 }
    }

    fn write(
        &mut self,
        key: u64,
        now: line::Stream,
        owner: (u64, Runtime, Option<Role>),
        reader_row: Option<u64>,
    ) {
        self.state.stream(key, &now, Duration::from_secs(self.now));
        let (row, runtime, role) = owner;
        if !self.state.knows(key) || self.state.owner(key).is_none() {
            self.state
                .own(key, Owner { row, container: container(row, runtime), role, aside: false, born: false });
        }
        self.state.read_in(key, reader_row);
    }

    fn process(&mut self, pid: u32, comm: &str, anon: u64, written: u64) {
        self.state.process(pid, Some(&usage(comm, anon, written)), Some(UNIT));
    }

    fn tick(&mut self) -> Logs {
        self.now += 1;
        self.state.tick(Duration::from_secs(self.now)).0
    }
}

const OF_CONTAINER: (u64, Runtime, Option<Role>) = (CONTAINER, Runtime::Docker, Some(Role::Stdout));
const OF_UNIT: (u64, Runtime, Option<Role>) = (UNIT, Runtime::Systemd, None);
const MIB: u64 = 1 << 20;

/// A container that writes 50 MiB a second without a newline, a shim and a daemon in one unit.
fn endless(scene: &mut Scene, second: u64, written_on: u64) {
    let bytes = 50 * MIB * second;
    // As in a run: streams first, then those who read them.
    scene.write(1, stream(100, SHIM, bytes, bytes, bytes), OF_CONTAINER, Some(UNIT));
    scene.write(2, stream(SHIM, DAEMON, bytes, bytes, bytes), OF_UNIT, Some(UNIT));
    scene.process(SHIM, "shim", MIB, bytes);
    scene.process(DAEMON, "daemon", 100 * MIB + bytes.saturating_sub(written_on), written_on);
}

#[test]
fn the_way_leads_through_the_shim_to_the_daemon() {
    let mut scene = Scene::new();
    for second in 1..4 {
        endless(&mut scene, second, 0);
        scene.tick();
    }
    endless(&mut scene, 4, 0);
    let logs = scene.tick();
    let [stream] = logs.streams.as_slice() else {
        panic!("the shim's own pipe is no log: {:?}", logs.streams)
    };
    assert_eq!((stream.role, stream.row), (Role::Stdout, CONTAINER));
    assert_eq!(stream.reader().map(|reader| reader.pid), Some(DAEMON));
    assert_eq!(stream.via().map(|via| via.pid).collect::<Vec<_>>(), [SHIM]);
    assert_eq!(stream.bytes_per_s, Some((50 * MIB) as f64));
    // Since the daemon was first looked at, in the first second.
    assert_eq!(stream.held, Some(150 * MIB));
    let [reader] = logs.readers.as_slice() else { panic!("{:?}", logs.readers) };
    assert_eq!((reader.taken, reader.anon_growth), (150 * MIB, Some(150 * MIB as i64)));
    assert_eq!(reader.explained.len(), 1);
}

#[test]
fn a_pipe_with_other_things_is_no_next_step() {
    let mut scene = Scene::new();
    endless(&mut scene, 1, 0);
    scene.write(3, stream(DAEMON, 400, 512, 512, 0), OF_UNIT, Some(UNIT));
    scene.process(400, "sh", 0, 0);
    assert_eq!(scene.tick().streams[0].reader().map(|reader| reader.pid), Some(DAEMON));
}

#[test]
fn a_reader_that_writes_on_holds_nothing() {
    let mut scene = Scene::new();
    for second in 1..4 {
        endless(&mut scene, second, 51 * MIB * second);
        scene.tick();
    }
    endless(&mut scene, 4, 51 * MIB * 4);
    assert_eq!(scene.tick().streams[0].held, Some(0));
}

#[test]
fn what_is_held_is_shared_out_by_open_lines() {
    let mut scene = Scene::new();
    for second in 0..4_u64 {
        scene.process(DAEMON, "daemon", 0, 0);
        let (great, small) = (30 * MIB * second, 10 * MIB * second);
        scene.write(1, stream(100, DAEMON, great, great, great), OF_CONTAINER, Some(UNIT));
        scene.write(
            2,
            stream(101, DAEMON, small, small, small),
            (OTHER, Runtime::Docker, Some(Role::Stdout)),
            Some(UNIT),
        );
        scene.write(
            3,
            stream(102, DAEMON, small, small, 0),
            (12, Runtime::Docker, Some(Role::Stdout)),
            Some(UNIT),
        );
        scene.tick();
    }
    let logs = scene.tick();
    let held: Vec<_> = logs.streams.iter().map(|stream| stream.held).collect();
    // The third writes whole lines, so what came of it is not with those whose line is open.
    assert_eq!(held, [Some(90 * MIB), Some(30 * MIB), Some(0)]);
}

#[test]
fn what_a_row_says_to_itself_is_no_log() {
    let mut scene = Scene::new();
    scene.write(1, stream(100, 101, 10, 10, 0), (CONTAINER, Runtime::Docker, None), Some(CONTAINER));
    let internal = scene.state.tick(Duration::from_secs(1));
    assert!(internal.0.streams.is_empty());
    assert_eq!(internal.1.count_only, [1]);
    let later = scene.state.tick(Duration::from_secs(60));
    assert_eq!(later.1.forget, [1], "it is idle and nobody's log");
}

#[test]
fn standard_input_is_no_log_and_no_way_back() {
    let mut scene = Scene::new();
    scene.process(SHIM, "shim", 0, 0);
    scene.process(100, "cat", 0, 0);
    scene.write(1, stream(100, SHIM, 10, 10, 0), OF_CONTAINER, Some(UNIT));
    scene.write(2, stream(SHIM, 100, 10, 10, 0), OF_UNIT, Some(CONTAINER));
    let logs = scene.tick();
    assert_eq!(logs.streams.len(), 1);
    assert_eq!(logs.streams[0].reader().map(|reader| reader.pid), Some(SHIM));
}

#[test]
fn a_session_beside_the_first_process_is_other() {
    let mut scene = Scene::new();
    scene.process(SHIM, "shim", 0, 0);
    scene.write(1, stream(100, SHIM, 10, 10, 0), (CONTAINER, Runtime::Docker, None), Some(UNIT));
    assert_eq!(scene.tick().streams[0].role, Role::Other);
}

#[test]
fn a_stream_without_a_reader_is_listed_where_somebody_outside_has_it() {
    let mut scene = Scene::new();
    scene.write(1, stream(100, 0, 10, 0, 0), (CONTAINER, Runtime::Docker, Some(Role::Other)), None);
    // A pipe between two commands of a container, which are gone.
    scene.write(2, stream(101, 0, 10, 0, 0), (CONTAINER, Runtime::Docker, None), None);
    scene.write(3, stream(101, 0, 10, 0, 0), OF_UNIT, None);
    let logs = scene.tick();
    assert_eq!(logs.streams.iter().map(|stream| stream.id).collect::<Vec<_>>(), [1]);
    assert!(logs.streams[0].hops.is_empty());
    assert_eq!(logs.streams[0].held, None, "nobody is known to hold it");
}

#[test]
fn a_row_that_is_gone_keeps_its_streams() {
    let mut scene = Scene::new();
    scene.process(SHIM, "shim", 0, 0);
    scene.write(1, stream(100, SHIM, 10, 10, 0), OF_CONTAINER, Some(UNIT));
    scene.tick();
    assert_eq!(scene.state.gone(CONTAINER), [1]);
    assert_eq!(scene.state.gone(CONTAINER), [0_u64; 0], "once");
    assert_eq!(scene.tick().streams[0].bytes, 10);
}

#[test]
fn a_line_open_at_attach_is_bounded_by_what_its_reader_has() {
    let mut scene = Scene::new();
    scene.process(DAEMON, "daemon", 70 * MIB, 0);
    scene.write(1, stream(100, DAEMON, 10, 10, 10), OF_CONTAINER, Some(UNIT));
    scene.state.bound_before(1, 90 * MIB);
    assert_eq!(scene.tick().streams[0].open_line_before, Some(70 * MIB));
    scene.write(1, line::Stream { lines: 1, ..stream(100, DAEMON, 20, 20, 0) }, OF_CONTAINER, Some(UNIT));
    assert_eq!(scene.tick().streams[0].open_line_before, None, "it ended");
}
