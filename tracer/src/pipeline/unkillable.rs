//! Tasks that cannot die: who is to be looked at, whose they are, and who keeps trying.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::rows::Rows;
use crate::{
    aggregator::{
        row::How,
        signal::Signals,
        stuck::StuckReport,
        unkillable::{State, Unkillable},
    },
    event::pending,
    resolve::stream::{memory_cgroup, processes},
};

/// All processes are looked at so often, for those that were sent SIGKILL before attach, or unseen;
const WALK: Duration = Duration::from_secs(10);
/// for so long at a time.
const PART: Duration = Duration::from_millis(50);
/// Tasks that are told.
const TOLD: usize = 1024;

#[derive(Default)]
pub struct UnkillableWatch {
    state: State,
    /// Processes with SIGKILL pending at some look.
    watched: BTreeSet<u32>,
    walked: Option<Instant>,
    /// Where the walk goes on.
    next: u32,
}

impl UnkillableWatch {
    pub fn tick(
        &mut self,
        rows: &Rows,
        signals: Option<&Signals>,
        known: Option<&StuckReport>,
        at: Duration,
        now: Instant,
    ) -> Arc<[Arc<Unkillable>]> {
        if self.next > 0 || self.walked.is_none_or(|walked| now.saturating_duration_since(walked) >= WALK) {
            self.walked = Some(now);
            self.walk();
        }
        let signalled = signals.iter().flat_map(|signals| &signals.targets);
        self.watched.extend(signalled.filter(|one| one.kills > 0 && !one.gone).map(|one| one.pid));
        let mut seen = Vec::new();
        self.watched.retain(|pid| {
            let tasks = pending::tasks(*pid);
            let any = !tasks.is_empty();
            seen.extend(tasks);
            any
        });
        seen.truncate(TOLD);
        let stuck = self.state.tick(at, seen);
        let told = stuck.into_iter().filter_map(|(task, still)| {
            let path = memory_cgroup(task.pid)?;
            let row = rows.tree.at(&path).and_then(|id| rows.row_of(id));
            let signalled = signals.map(|signals| signals.of(task.pid));
            // Where the probe of sleeps tells more of it.
            let known = known.and_then(|known| known.tasks.iter().find(|known| known.tid == task.tid));
            let stack = known.map(|known| known.stack.clone()).filter(|stack| !stack.is_empty());
            Some(Arc::new(Unkillable {
                container: rows.aggregator.shared(row?)?,
                pid: task.pid,
                tid: task.tid,
                comm: task.comm.into(),
                state: task.state,
                blocked_s: known.map_or(still.as_secs_f64(), |known| known.blocked_s),
                blocked_s_how: known.map_or(Some(How::AtLeast), |known| known.blocked_s_how),
                wchan: task.wchan,
                stack: stack.unwrap_or(task.stack),
                syscall: known.and_then(|known| known.syscall.clone()),
                waits_on: known.map(|known| known.waits_on.clone()),
                sigkill_pending: true,
                kill_attempts: signalled.map(|one| one.map_or(0, |one| one.kills)),
                killers: signalled.flatten().map(|one| one.killers.clone()).unwrap_or_default(),
            }))
        });
        told.collect()
    }

    fn walk(&mut self) {
        let start = Instant::now();
        let mut pids: Vec<u32> = processes().filter(|pid| *pid >= self.next).collect();
        pids.sort_unstable();
        for pid in pids {
            if start.elapsed() > PART {
                self.next = pid;
                return;
            }
            if !pending::tasks(pid).is_empty() {
                self.watched.insert(pid);
            }
        }
        self.next = 0;
    }
}
