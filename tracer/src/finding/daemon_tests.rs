//! Tasks that cannot die and daemons that keep what they open: what must be found, and what must not.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Finding, Kind, Seen, Severity, Watch,
    example::{container, process, seen},
};
use crate::{
    aggregator::{
        daemon::{Client, Daemon, Daemons, Growth, Role},
        dirty::row::Dirty,
        signal::Killer,
        stuck::{StuckReport, StuckTask},
    },
    event::{HostMemory, descriptors::Descriptors},
    resolve::{Container, wait},
};

const ROW: u64 = 4711;

fn found(unkillable: &[Arc<StuckTask>], daemons: Option<&Daemons>) -> Vec<Arc<Finding>> {
    let (host, dirty) = (HostMemory::default(), Dirty::default());
    let stuck = StuckReport { tasks: unkillable.to_vec(), ..StuckReport::default() };
    let seen = seen(Duration::from_secs(10), &[], &host, &dirty);
    Watch::default().tick(&Seen { stuck: Some(&stuck), daemons, ..seen })
}

pub(super) fn killer(pid: u32, comm: &str, count: u64, via: &[&str]) -> Killer {
    Killer { pid, comm: comm.into(), count, via: via.iter().copied().map(Arc::from).collect() }
}

pub(super) fn task(tid: u32, killers: &[Killer]) -> StuckTask {
    StuckTask {
        container: Arc::new(container("shop", "db-0", "db")),
        pid: 500,
        tid,
        comm: "postgres".into(),
        state: 'D',
        blocked_s: 12.0,
        blocked_s_how: None,
        since: SystemTime::UNIX_EPOCH,
        wchan: Some("percpu_rwsem_wait".into()),
        stack: Vec::new(),
        syscall: None,
        waits_on: Some("frozen file system ext4 at /data (/dev/loop0)".into()),
        wait: wait::Kind::FrozenFileSystem,
        in_io: None,
        owner: None,
        is_kernel: false,
        sigkill_pending: Some(true),
        kill_attempts: Some(killers.iter().map(|killer| killer.count).sum()),
        killers: killers.to_vec(),
    }
}

/// One that opens a descriptor a second, of which it closes none.
pub(super) fn leaking(pid: u32, comm: &str, role: Role) -> Daemon {
    Daemon {
        process: process(pid, comm),
        role,
        row: Some(9),
        serves: BTreeSet::from([ROW, 4800]),
        fds: Some(Descriptors { total: 120, ..Descriptors::default() }),
        threads: Some(30),
        anon: Some(90 << 20),
        accepted: Some(44),
        growth: Growth {
            watched_s: 20.0,
            looks: 20,
            fds: Some(20),
            threads: Some(1),
            anon: Some(3 << 20),
            floors: [Some([100, 105, 110, 115]), Some([29, 29, 30, 30])],
        },
        recent: None,
        socket_growth: Some(20),
        accepted_growth: Some(20),
        clients: Some(vec![Client { pid: 77, comm: "docker".into(), open: 20, row: None }]),
    }
}

/// One that has as many as before.
fn calm(pid: u32, comm: &str) -> Daemon {
    let leaking = leaking(pid, comm, Role::Server);
    let growth = Growth {
        fds: Some(0),
        threads: Some(0),
        anon: Some(0),
        floors: [Some([100; 4]), Some([29; 4])],
        ..leaking.growth
    };
    Daemon { growth, ..leaking }
}

pub(super) fn all(daemons: impl IntoIterator<Item = Daemon>) -> Daemons {
    Daemons { daemons: daemons.into_iter().map(Arc::new).collect() }
}

fn number(finding: &Finding, key: &str) -> serde_json::Value {
    serde_json::to_value(&finding.evidence).expect("it is JSON")[key].clone()
}

#[test]
fn one_finding_a_container_with_the_daemon_that_suffers() {
    let killers = [killer(40, "shim", 9, &["runc"]), killer(812, "harbour", 3, &[])];
    let tasks = [Arc::new(task(500, &killers)), Arc::new(task(501, &killers))];
    let shim = Daemon { serves: BTreeSet::from([ROW]), ..leaking(40, "shim", Role::Shim) };
    let daemons = all([shim, leaking(812, "harbour", Role::Server), calm(700, "crane")]);
    let told = found(&tasks, Some(&daemons));
    let [finding] = told.as_slice() else { panic!("{told:?}") };
    println!("{}", finding.summary);
    assert_eq!((finding.kind, finding.severity), (Kind::UnkillableTask, Severity::Critical));
    assert_eq!(finding.daemon, Some(process(812, "harbour")));
    // Both are threads of one process: its signals count once.
    assert_eq!(number(finding, "kill_attempts"), 12);
    assert_eq!(number(finding, "daemon_kill_attempts"), 3);
    assert_eq!(number(finding, "daemon_fds"), 120);
    assert_eq!(number(finding, "daemon_fd_growth"), 20);
    assert_eq!(number(finding, "daemon_threads"), 30);
    let shim = &number(finding, "shims")[0];
    assert_eq!(
        (&shim["pid"], &shim["fd_growth"], &shim["kill_attempts"]),
        (&40.into(), &20.into(), &9.into())
    );
    assert_eq!(number(finding, "clients")[0], serde_json::json!({"pid": 77, "comm": "docker", "open": 20}));
    assert_eq!(number(finding, "tasks")[1]["tid"], 501);
    assert_eq!(finding.also, [Kind::DaemonLeak], "one story is told once");
    for word in [
        "shop/db-0/db",
        "frozen file system ext4 at /data",
        "SIGKILL pending",
        "harbour[812]",
        "20 descriptors",
    ] {
        assert!(finding.summary.contains(word), "{word}: {}", finding.summary);
    }
}

/// What a daemon is called says nothing; who sends the signals, or grows, does.
#[test]
fn the_daemon_is_told_by_cause() {
    let by_growth = all([calm(812, "dockerd"), leaking(700, "x", Role::Server)]);
    let told = found(&[Arc::new(task(500, &[]))], Some(&by_growth));
    assert_eq!(told[0].daemon, Some(process(700, "x")));
    let by_kills = [killer(812, "y", 1, &[])];
    let told = found(&[Arc::new(task(500, &by_kills))], Some(&by_growth));
    assert_eq!(told[0].daemon, Some(process(812, "dockerd")), "it sends the signals");
    // One that serves others only has nothing to do with it, however many signals it sends.
    let other = Daemon { serves: BTreeSet::from([9]), ..leaking(700, "x", Role::Server) };
    let told = found(&[Arc::new(task(500, &[killer(700, "x", 9, &[])]))], Some(&all([other])));
    assert_eq!(
        told.iter().map(|finding| finding.kind).collect::<Vec<_>>(),
        [Kind::UnkillableTask, Kind::DaemonLeak]
    );
    assert_eq!(told[0].daemon, None);
}

#[test]
fn what_is_not_known_is_null() {
    let task = StuckTask { kill_attempts: None, waits_on: None, wchan: None, ..task(500, &[]) };
    let told = found(&[Arc::new(task)], None);
    let [finding] = told.as_slice() else { panic!("{told:?}") };
    for key in ["kill_attempts", "daemon_fds", "daemon_fd_growth", "daemon_threads", "clients"] {
        assert!(number(finding, key).is_null(), "{key}");
    }
    assert_eq!(number(finding, "shims"), serde_json::json!([]));
    assert!(finding.daemon.is_none());
}

#[test]
fn a_task_that_sleeps_without_sigkill_may_yet_wake() {
    let task = StuckTask { sigkill_pending: Some(false), ..task(500, &[]) };
    let told = found(&[Arc::new(task.clone())], None);
    let [finding] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((finding.kind, finding.severity), (Kind::BlockedIo, Severity::Warning));
    assert_eq!(number(finding, "waits_on"), "frozen file system ext4 at /data (/dev/loop0)");
    for wait in [wait::Kind::Vfork, wait::Kind::FrozenCgroup] {
        assert_eq!(found(&[Arc::new(StuckTask { wait, ..task.clone() })], None), []);
    }
}

#[test]
fn a_daemon_that_only_opens_leaks() {
    let told = found(&[], Some(&all([leaking(812, "x", Role::Server)])));
    let [finding] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((finding.kind, finding.severity), (Kind::DaemonLeak, Severity::Warning));
    assert_eq!(finding.daemon, Some(process(812, "x")));
    assert_eq!(number(finding, "daemon_fd_growth"), 20);
    assert_eq!(number(finding, "daemon_threads_growth"), 1);
    assert_eq!(number(finding, "daemon_growth"), 3 << 20);
    let threads = leaking(812, "x", Role::Watched);
    let growth = Growth {
        fds: Some(0),
        threads: Some(12),
        floors: [Some([9; 4]), Some([10, 13, 16, 20])],
        ..threads.growth
    };
    let threads = Daemon { growth, ..threads };
    assert_eq!(found(&[], Some(&all([threads]))).len(), 1);
}

/// Hours of calm before it hide it in the whole.
#[test]
fn a_leak_that_begins_late_is_told_of_the_last_minutes() {
    let leaks = leaking(812, "x", Role::Server);
    let calm = calm(812, "x");
    let calm = Daemon { growth: Growth { watched_s: 40_000.0, ..calm.growth }, ..calm };
    let late =
        Daemon { recent: Some(Growth { watched_s: 126.0, fds: Some(40), ..leaks.growth }), ..calm.clone() };
    let told = found(&[], Some(&all([late])));
    let [finding] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(number(finding, "daemon_fd_growth"), 40);
    assert!(number(finding, "daemon_socket_growth").is_null(), "of these minutes that is not known");
    assert!(
        finding.summary.contains("40 descriptors") && finding.summary.contains("2m 06s"),
        "{}",
        finding.summary
    );
    let still = Daemon { recent: Some(Growth { watched_s: 126.0, ..calm.growth }), ..calm };
    assert_eq!(found(&[], Some(&all([still]))), []);
}

#[test]
fn load_that_comes_and_goes_is_no_leak() {
    let server = || leaking(812, "x", Role::Server);
    let growth = server().growth;
    let of = |growth| Daemon { growth, ..server() };
    let not = [
        // More at the end than at the beginning, but it gave back meanwhile.
        of(Growth { floors: [Some([100, 100, 100, 115]), Some([29; 4])], ..growth }),
        of(Growth { floors: [Some([100, 112, 108, 115]), Some([29; 4])], ..growth }),
        // Few, or not for long.
        of(Growth { fds: Some(4), floors: [Some([100, 101, 102, 104]), Some([29; 4])], ..growth }),
        of(Growth { watched_s: 3.0, ..growth }),
        of(Growth { looks: 3, ..growth }),
        of(Growth { floors: [None, None], ..growth }),
        calm(812, "x"),
    ];
    for daemon in not {
        assert_eq!(found(&[], Some(&all([daemon.clone()]))), [], "{daemon:?}");
    }
}

/// A shim is no daemon of many: its container is named, and it stands among the shims.
#[test]
fn a_shim_that_leaks_is_told_for_its_container() {
    let shim = Daemon { serves: BTreeSet::from([ROW]), ..leaking(40, "shim", Role::Shim) };
    let told = found(&[], Some(&all([shim])));
    assert!(told[0].daemon.is_none());
    assert_eq!(number(&told[0], "shims")[0]["pid"], 40);
    let _: Option<&Container> = told[0].container.as_deref();
}
