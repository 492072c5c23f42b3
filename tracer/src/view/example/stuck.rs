//! Stuck tasks of the example: a frozen disk whose users cannot be killed, a silent server, a vfork, one of which little is
//! known; how long sleeps were.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::snapshot;
use crate::{
    aggregator::{
        row::How,
        signal::Killer,
        stuck::{BlockedTime, Owner, StuckReport, StuckTask},
    },
    resolve::{Container, wait::Kind},
};

fn task(container: &Arc<Container>, comm: &str, pid: u32, blocked_s: f64) -> StuckTask {
    StuckTask {
        container: Arc::clone(container),
        pid,
        tid: pid,
        comm: comm.into(),
        state: 'D',
        blocked_s,
        blocked_s_how: None,
        since: SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1_767_237_165.25 - blocked_s),
        wchan: None,
        stack: Vec::new(),
        syscall: None,
        waits_on: None,
        wait: Kind::Other,
        in_io: None,
        owner: None,
        sigkill_pending: None,
        is_kernel: false,
        kill_attempts: None,
        killers: Vec::new(),
    }
}

/// Of a process under a frozen file system.
fn frozen(container: &Arc<Container>, comm: &str, pid: u32, blocked_s: f64) -> StuckTask {
    let stack = ["percpu_rwsem_wait", "__percpu_down_read", "vfs_write", "ksys_pwrite64", "do_syscall_64"];
    StuckTask {
        wchan: Some("percpu_rwsem_wait".into()),
        stack: stack.iter().map(|name| (*name).to_owned()).collect(),
        syscall: Some("pwrite64(5 /var/lib/data/base/16384/2619, 8192 bytes)".into()),
        waits_on: Some("frozen file system ext4 at /var/lib/data (/dev/loop3)".into()),
        wait: Kind::FrozenFileSystem,
        in_io: Some(false),
        sigkill_pending: Some(false),
        ..task(container, comm, pid, blocked_s)
    }
}

/// As `memtrace stuck` has it, which counts signals.
pub fn report() -> StuckReport {
    let rows = snapshot().rows;
    let container = |at: usize| &rows[at].container;
    let killer = |pid, comm: &str, count, via: &[&str]| Killer {
        pid,
        comm: comm.into(),
        count,
        via: via.iter().map(|comm| Arc::from(*comm)).collect(),
    };
    let killed = StuckTask {
        blocked_s_how: Some(How::Inferred),
        sigkill_pending: Some(true),
        kill_attempts: Some(41),
        killers: vec![
            killer(944, "dockerd", 38, &["runc"]),
            killer(17102, "containerd-shim", 2, &[]),
            killer(0, "kernel", 1, &[]),
        ],
        ..frozen(container(0), "postgres", 4711, 735.2)
    };
    let silent = StuckTask {
        state: 'S',
        blocked_s_how: Some(How::AtLeast),
        wchan: Some("request_wait_answer".into()),
        stack: ["request_wait_answer", "fuse_simple_request", "fuse_lookup_name"].map(str::to_owned).to_vec(),
        syscall: Some("newfstatat(AT_FDCWD, ...)".into()),
        waits_on: Some("FUSE server of /mnt/export (fuse.sshfs), which does not answer".into()),
        wait: Kind::Server,
        sigkill_pending: Some(false),
        ..task(container(4), "find", 2_104_711, 91.0)
    };
    let locked = StuckTask {
        tid: 4731,
        wchan: Some("rwsem_down_write_slowpath".into()),
        waits_on: Some("rwsem held by postgres[4711], ext4 at /var/lib/data (/dev/loop3)".into()),
        wait: Kind::Lock,
        owner: Some(Owner { tid: 4711, comm: "postgres".into() }),
        ..frozen(container(0), "postgres", 4730, 42.4)
    };
    let starts = StuckTask {
        waits_on: Some("vfork child".into()),
        wait: Kind::Vfork,
        ..task(container(3), "containerd-shim", 17102, 7.5)
    };
    let hostile = task(container(2), "\x1b]0;owned\x07", 88, 6.0);
    let slept = |at: usize, count, total_s, io_total_s, max_s| BlockedTime {
        container: Arc::clone(container(at)),
        count,
        total_s,
        p50_s: Some(total_s / count as f64),
        p99_s: Some(max_s),
        max_s,
        io_count: count / 2,
        io_total_s,
        killable_count: 0,
        killable_total_s: 0.0,
    };
    let unmeasured = BlockedTime { p50_s: None, p99_s: None, ..slept(2, 1, 0.000_004, 0.0, 0.000_004) };
    StuckReport {
        threshold_s: 5.0,
        tasks: [killed, silent, locked, starts, hostile].map(Arc::new).to_vec(),
        blocked_time: vec![
            slept(0, 1_204_711, 5_204.0, 4_810.0, 61.0),
            slept(1, 3_120, 40.2, 40.1, 0.41),
            slept(3, 12, 0.004, 0.0, 0.002),
            unmeasured,
        ],
        served: true,
    }
}
