//! Stuck tasks: one that is to die and cannot, one that waits, and the sleeps of two containers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::container;
use crate::{
    aggregator::{
        row::How,
        signal::Killer,
        stuck::{BlockedTime, Owner, StuckReport, StuckTask},
    },
    resolve::{Runtime, wait::Kind},
};

fn writer() -> StuckTask {
    StuckTask {
        container: Arc::new(container(Runtime::Docker, Some("shop-db"))),
        pid: 4711,
        tid: 4711,
        comm: "postgres".into(),
        state: 'D',
        blocked_s: 734.5,
        blocked_s_how: Some(How::Inferred),
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000),
        wchan: Some("percpu_rwsem_wait".into()),
        stack: ["percpu_rwsem_wait", "vfs_write", "ksys_write", "do_syscall_64"].map(str::to_owned).into(),
        syscall: Some("write(3 </data/log>)".into()),
        waits_on: Some("frozen file system ext4 at /data (/dev/loop3)".into()),
        wait: Kind::FrozenFileSystem,
        in_io: Some(false),
        owner: None,
        sigkill_pending: Some(true),
        kill_attempts: Some(7),
        killers: vec![
            Killer { pid: 40, comm: "containerd-shim".into(), count: 5, via: vec!["runc".into()] },
            Killer { pid: 812, comm: "dockerd".into(), count: 2, via: Vec::new() },
        ],
    }
}

pub fn report() -> StuckReport {
    let waits = StuckTask {
        container: Arc::new(container(Runtime::Docker, Some("shop-api"))),
        tid: 4720,
        comm: "api".into(),
        blocked_s: 7.25,
        blocked_s_how: None,
        waits_on: Some("inode lock (rwsem) held by backup[99]".into()),
        wait: Kind::Lock,
        owner: Some(Owner { tid: 99, comm: "backup".into() }),
        sigkill_pending: Some(false),
        kill_attempts: None,
        killers: Vec::new(),
        ..writer()
    };
    let time = |name, count, total_s| BlockedTime {
        container: Arc::new(container(Runtime::Docker, Some(name))),
        count,
        total_s,
        p50_s: Some(0.002),
        p99_s: Some(0.02),
        max_s: 0.4,
        io_count: count,
        io_total_s: total_s - 0.5,
        killable_count: 0,
        killable_total_s: 0.0,
    };
    StuckReport {
        threshold_s: 5.0,
        tasks: vec![Arc::new(writer()), Arc::new(waits)],
        blocked_time: vec![time("shop-db", 1200, 3.5), time("shop-api", 12, 0.6)],
        served: true,
    }
}
