//! Sums, bounds, order, and what is not known.

use super::*;
use crate::{
    aggregator::Aggregator,
    event::{Event, Stat},
    resolve::{Cgroup, Runtime},
};

const SECOND: Duration = Duration::from_secs(1);
const ALL: Served =
    Served { dirtied: true, dirtied_how: None, written: true, by_statistics: false, throttled: true };

fn container(id: u64) -> Arc<Container> {
    let path = format!("/row-{id}");
    Arc::new(Container {
        runtime: Runtime::Cgroup,
        id: path.clone(),
        name: None,
        pod: None,
        namespace: None,
        image: None,
        sandbox: false,
        cgroup: Cgroup { id, path },
    })
}

fn key(cgroup: u64, pid: u32, ino: u64) -> FileKey {
    FileKey { cgroup, ino, pid, dev: 8 << 20 | 1 }
}

fn node(ino: u64) -> Node {
    Node { dev: 8 << 20 | 1, ino }
}

/// A row with so much outstanding.
fn row(id: u64, dirty: Option<u64>) -> Arc<Row> {
    let mut rows = Aggregator::default();
    // In another, since the root's memory is not known.
    rows.place(0, Container::clone(&container(0)), None, None);
    rows.place(id, Container::clone(&container(id)), Some(0), None);
    let stat = Stat { dirty, writeback: dirty.map(|_| 0), ..Stat::default() };
    let event = Event::Sampled { id, usage: Some(0), stat: Some(Box::new(stat)) };
    rows.apply(&event, None, Duration::ZERO);
    let tick = rows.tick(SECOND);
    Arc::clone(tick.rows.iter().find(|row| row.container.cgroup.id == id).expect("it was placed"))
}

fn state(served: Served) -> DirtyState {
    DirtyState { served, ..DirtyState::default() }
}

fn dirty(state: &mut DirtyState, key: FileKey, bytes: u64, at: Duration) {
    let row = state.owner(key.cgroup, Some(key.cgroup)).expect("it has one");
    state.dirtied(row, Some(container(row)), &key, "writer", bytes, at);
}

#[test]
fn a_process_bears_the_name_under_which_it_did_most() {
    let living = row(5, Some(0));
    let mut state = state(ALL);
    let row = state.owner(5, Some(5)).expect("it has one");
    for (ino, comm, bytes) in
        [(1, "runc:[2:INIT]", 8192), (2, "qemu-img", 1 << 20), (3, "a", 1), (4, "b", 1), (5, "c", 1)]
    {
        state.dirtied(row, Some(container(row)), &key(5, 7, ino), comm, bytes, SECOND);
    }
    let told = state.tick(SECOND, &[living]);
    let told = told.rows.iter().find(|row| row.row == 5).expect("it has a row");
    assert_eq!(told.processes.iter().map(|writer| &*writer.process.comm).collect::<Vec<_>>(), ["qemu-img"]);
    assert!(told.recent.iter().all(|recent| &*recent.process.comm == "qemu-img"));
}

#[test]
fn sums_are_by_container_process_and_file() {
    let mut state = state(ALL);
    state.tick(SECOND, &[row(1, Some(0)), row(2, Some(0))]);
    dirty(&mut state, key(1, 10, 7), 100, SECOND);
    dirty(&mut state, key(1, 10, 8), 50, SECOND);
    dirty(&mut state, key(1, 11, 7), 25, SECOND);
    state.name(1, node(7), "/data/a");
    state.name(2, node(8), "/of another container");
    let told = state.tick(3 * SECOND, &[row(1, Some(175)), row(2, Some(0))]);
    let [one, two] = &told.rows[..] else { panic!("{told:?}") };
    assert_eq!((one.dirtied, one.dirtied_per_s, one.dirty), (Some(175), Some(87.5), Some(175)));
    assert_eq!((two.dirtied, two.written, two.is_idle()), (Some(0), Some(0), true));
    let processes: Vec<(u32, u64)> = one.processes.iter().map(|p| (p.process.pid, p.dirtied)).collect();
    assert_eq!(processes, [(10, 150), (11, 25)]);
    let files: Vec<(u64, u64, Option<&str>)> =
        one.files.iter().map(|f| (f.node.ino, f.dirtied, f.path.as_deref())).collect();
    assert_eq!(files, [(7, 125, Some("/data/a")), (8, 50, None)]);
    assert_eq!(one.recent[0].dirtied, 100, "of a process and a file");
    assert_eq!(state.nameless(), [(1, node(8), vec![10])]);
    let told = state.tick(90 * SECOND, &[row(1, Some(0)), row(2, Some(0))]);
    assert!(told.rows[0].recent.is_empty(), "the minute is over");
    assert_eq!(told.rows[0].dirtied_per_s, Some(0.0));
}

#[test]
fn what_no_probe_tells_is_null_or_inferred() {
    let mut state = state(Served::default());
    let told = state.tick(SECOND, &[row(1, Some(10))]);
    let one = &told.rows[0];
    assert_eq!((one.dirtied, one.written, one.cleaned, one.throttled_s), (None, None, None, None));
    assert_eq!(one.dirty, Some(10));
    // Without a probe of write-back: dirtied, less what more is dirty than at first.
    state.served = Served { dirtied: true, ..Served::default() };
    dirty(&mut state, key(1, 10, 7), 100, SECOND);
    let told = state.tick(2 * SECOND, &[row(1, Some(40))]);
    let one = &told.rows[0];
    assert_eq!((one.written, one.written_how), (Some(70), Some(How::Inferred)));
    let told = state.tick(3 * SECOND, &[row(1, Some(60))]);
    assert_eq!(told.rows[0].written, Some(70), "a sum does not fall");
    let told = state.tick(4 * SECOND, &[row(1, None)]);
    assert_eq!(told.rows[0].dirty, None);
}

#[test]
fn write_back_is_counted_as_it_is_served() {
    let more = DirtyCount { beyond: 1, written: 4, started: 5, undirtied: 7, cleaned: 3, throttled_ms: 1500 };
    for (by_statistics, cleaned) in [(false, 3), (true, 2)] {
        let mut state = state(Served { by_statistics, ..ALL });
        let owner = state.owner(1, Some(1)).expect("it has one");
        state.written(owner, Some(container(1)), &more);
        let told = state.tick(SECOND, &[row(1, Some(0))]);
        let page = page_size();
        let one = &told.rows[0];
        assert_eq!(
            (one.dirtied, one.written, one.cleaned),
            (Some(page), Some(4 * page), Some(cleaned * page))
        );
        assert_eq!((one.throttled_s, one.written_how), (Some(1.5), None));
    }
}

#[test]
fn a_removed_cgroup_keeps_what_it_did_and_its_last_pages() {
    let mut state = state(ALL);
    dirty(&mut state, key(1, 10, 7), 100, SECOND);
    state.tick(SECOND, &[row(1, Some(0)), row(9, Some(0))]);
    // It is gone, and nobody knows its id any more.
    assert_eq!(state.owner(1, None), Some(1));
    state.written(1, None, &DirtyCount { written: 1, ..DirtyCount::default() });
    let told = state.tick(2 * SECOND, &[row(9, Some(0))]);
    let gone = told.rows.iter().find(|row| row.row == 1).expect("it is listed on");
    assert_eq!((gone.removed, gone.dirtied, gone.written), (true, Some(100), Some(page_size())));
    assert_eq!(gone.dirty, None);
    // One that did nothing is not.
    let told = state.tick(3 * SECOND, &[]);
    assert_eq!(told.rows.len(), 1);
    assert_eq!(state.owner(4711, None), None, "nobody's");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut state = state(ALL);
    for ino in 0..5000 {
        dirty(&mut state, key(1, ino as u32 % 70, ino), 1 + ino % 3, SECOND);
        state.name(1, node(ino), "/x");
    }
    for id in 100..100 + 2 * GONE as u64 {
        dirty(&mut state, key(id, 1, 1), 1, SECOND);
    }
    let told = state.tick(SECOND, &[row(1, Some(0))]);
    assert_eq!(told.rows.len(), 1 + GONE);
    let one = told.rows.iter().find(|row| row.row == 1).expect("it lives");
    let sum: u64 = (0..5000).map(|ino: u64| 1 + ino % 3).sum();
    assert_eq!(one.dirtied, Some(sum), "the row's sum is whole");
    assert_eq!((one.files.len(), one.processes.len()), (32, 32));
    // Of files that had no room in the kernel, either.
    let beyond = FileKey { ino: 0, dev: u32::MAX, ..key(1, 999, 0) };
    dirty(&mut state, beyond, 100_000, SECOND);
    let told = state.tick(2 * SECOND, &[row(1, Some(0))]);
    let one = told.rows.iter().find(|row| row.row == 1).expect("it lives");
    assert_eq!((one.processes[0].process.pid, one.processes[0].dirtied), (999, 100_000));
    assert!(one.files.iter().all(|file| file.node.ino != 0), "it is no file");
    assert_eq!(one.recent[0].dirtied, 100_000);
    for ino in 0..2 * NAMES as u64 {
        state.name(1, node(ino), "/x");
    }
    assert!(state.names.len() <= NAMES);
    assert!(state.is_named(1, node(2 * NAMES as u64 - 1)), "the newest stay");
}

#[test]
fn a_backing_file_is_marked_in_every_row() {
    let mut state = state(ALL);
    state.set_backing(HashMap::from([(node(7), Arc::from("/images/disk"))]));
    dirty(&mut state, key(1, 10, 7), 100, SECOND);
    let told = state.tick(SECOND, &[row(1, Some(0))]);
    let file = &told.rows[0].files[0];
    assert_eq!((file.backing, file.path.as_deref()), (true, Some("/images/disk")));
    assert!(state.nameless().is_empty());
}

#[test]
fn what_was_before_stands_beside() {
    let mut state = state(ALL);
    let before = |pid, files| Before { pid, comm: "qemu-img".to_owned(), dirtied: 500, files };
    state.before(1, Some(container(1)), before(10, vec![((node(7), "/data/disk".to_owned()), 300)]));
    state.before(
        1,
        None,
        before(11, vec![((node(8), "/a".to_owned()), 900), ((node(9), "/b".to_owned()), 900)]),
    );
    let told = state.tick(SECOND, &[row(1, Some(0))]);
    let one = &told.rows[0];
    assert_eq!((one.dirtied, one.before_attach), (Some(0), Some(1000)));
    assert_eq!(one.processes.iter().map(|p| p.before_attach).collect::<Vec<_>>(), [Some(500); 2]);
    let files: Vec<_> =
        one.files.iter().map(|f| (f.path.as_deref(), f.before_attach, f.open_before)).collect();
    // The only file of a process takes what it wrote, as far as it is as large; of two nobody knows.
    assert_eq!(
        files,
        [(Some("/data/disk"), Some(300), true), (Some("/a"), None, true), (Some("/b"), None, true)]
    );
}
