//! Which tasks are stuck: takes what the probe has of tasks that are blocked now, asks `/proc` about those that have been for
//! longer than the threshold, and about nobody else.
//!
//! A task that waits for a FUSE server sleeps interruptibly until a fatal signal comes, so no probe of uninterruptible
//! sleep sees it: such are looked for when memtrace starts and every ten seconds.

mod reader;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracer_ebpf::abi::blocked::{BEFORE, Blocked, FOUND, FROZEN, IN_IO};

use self::reader::Reader;
use super::{oom, probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        row::How,
        stuck::{BlockedTimes, Owner, StuckReport, StuckTask, syscall, waits_on},
    },
    event::task::{self, Task},
    kernel::cgroup::Layout,
    resolve::Container,
};

/// Stuck tasks that are told, the longest first.
const TOLD: usize = 1024;
/// Those that no probe tells of are looked for this often.
const SWEEP: Duration = Duration::from_secs(10);
/// Who has a lock is looked for at most this often.
const OWNERS: Duration = Duration::from_secs(2);
/// The first look may take so long.
const FIRST: Duration = Duration::from_millis(500);

/// Looks for stuck tasks.
pub struct StuckWatch {
    threshold: Duration,
    v2: bool,
    times: BlockedTimes,
    reader: Reader,
    swept: Option<Instant>,
    owners: Option<Instant>,
    /// Sleepers that only a look found: since when they were there, by `CLOCK_MONOTONIC`.
    found: HashMap<u32, u64>,
}

/// One that is blocked now, whoever told of it.
struct Candidate {
    tid: u32,
    since: u64,
    how: Option<How>,
    row: Option<u64>,
    kernel: Option<Blocked>,
}

impl StuckWatch {
    pub fn new(threshold: Duration, layout: &Layout) -> StuckWatch {
        StuckWatch {
            threshold,
            v2: layout.memory_v2,
            times: BlockedTimes::default(),
            reader: Reader::new(),
            swept: None,
            owners: None,
            found: HashMap::new(),
        }
    }

    /// Before the rows are closed: counts of the rows, and the report.
    pub fn tick(&mut self, probes: &mut Probes, rows: &mut Rows, now: Instant) -> Option<Arc<StuckReport>> {
        probes.blocked.as_ref()?;
        let served = probes.tells_of_blocked();
        let sweep = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
        if sweep {
            // What was blocked before attach, or whose beginning was lost.
            probes.find_blocked();
        }
        let clock = monotonic();
        let mut candidates = self.candidates(probes, rows);
        let threshold = self.threshold.as_nanos() as u64;
        let is_long = |candidate: &Candidate| clock.saturating_sub(candidate.since) >= threshold;
        if candidates.iter().any(is_long)
            && self.owners.is_none_or(|at| now.saturating_duration_since(at) >= OWNERS)
        {
            self.owners = Some(now);
            probes.find_blocked();
            candidates = self.candidates(probes, rows);
        }
        let mut blocked: HashMap<u64, (u64, u64)> = HashMap::new();
        for row in candidates.iter().filter_map(|candidate| candidate.row) {
            blocked.entry(row).or_default().0 += 1;
        }
        let mut long: Vec<Candidate> = candidates.into_iter().filter(is_long).collect();
        long.extend(self.sleepers(clock, &long));
        long.sort_by_key(|candidate| candidate.since);
        long.truncate(TOLD);
        let tids: Vec<u32> =
            long.iter().map(|candidate| candidate.tid).chain(self.found.keys().copied()).collect();
        self.reader.look(&tids, sweep);
        if sweep {
            if self.swept.is_none() {
                self.reader.gather(Instant::now() + FIRST);
            }
            self.swept = Some(now);
        }
        self.note_sleepers(clock);
        let mut tasks = Vec::new();
        for candidate in &long {
            if let Some(task) = self.tell(candidate, clock, probes, rows) {
                if !task.wait.is_intended()
                    && let Some(row) = rows.row_of(task.container.cgroup.id)
                {
                    blocked.entry(row).or_default().1 += 1;
                }
                tasks.push(Arc::new(task));
            }
        }
        if let Some(maps) = &mut probes.blocked {
            let of = |id: u64| {
                let row = rows.row_of(id)?;
                Some((row, rows.aggregator.shared(row)?))
            };
            self.times.take_in(maps.moved(), of);
            rows.aggregator.blocked(&blocked);
        }
        Some(Arc::new(StuckReport {
            threshold_s: self.threshold.as_secs_f64(),
            tasks,
            blocked_time: self.times.rows(),
            served,
        }))
    }

    /// Forgets what is long gone.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        self.times.retain(known);
    }

    fn candidates(&self, probes: &Probes, rows: &Rows) -> Vec<Candidate> {
        let tasks = probes.blocked.as_ref().map(|maps| maps.tasks()).unwrap_or_default();
        let of = |(tid, blocked): (u32, Blocked)| Candidate {
            tid,
            // One that waits for a server did so before the signal, too.
            since: self.found.get(&tid).map_or(blocked.since, |since| blocked.since.min(*since)),
            how: match blocked.flags {
                _ if self.found.contains_key(&tid) => Some(How::AtLeast),
                flags if flags & FOUND != 0 => Some(How::AtLeast),
                flags if flags & BEFORE != 0 => Some(How::Inferred),
                _ => None,
            },
            row: rows.row_of(blocked.cgroup),
            kernel: Some(blocked),
        };
        tasks.into_iter().map(of).collect()
    }

    /// Those that only a look found, for longer than the threshold by now, or with a fatal signal that does not end them.
    fn sleepers(&self, clock: u64, others: &[Candidate]) -> Vec<Candidate> {
        let threshold = self.threshold.as_nanos() as u64;
        let new = self.found.iter().filter(|(tid, _)| !others.iter().any(|other| other.tid == **tid));
        let long = new.filter(|(_, since)| clock.saturating_sub(**since) >= threshold);
        let of = |(tid, since): (&u32, &u64)| Candidate {
            tid: *tid,
            since: *since,
            how: Some(How::AtLeast),
            row: None,
            kernel: None,
        };
        long.map(of).collect()
    }

    fn note_sleepers(&mut self, clock: u64) {
        for tid in &self.reader.waiting {
            self.found.entry(*tid).or_insert(clock);
        }
        let told = &self.reader.told;
        // What a look said of it decides, once there is one.
        self.found.retain(|tid, _| {
            told.get(tid).map_or_else(|| task::state(*tid).is_some(), |task| waits_for_server(task))
        });
        let found = &self.found;
        self.reader.waiting.retain(|tid| found.contains_key(tid));
    }

    fn tell(&self, candidate: &Candidate, clock: u64, probes: &mut Probes, rows: &Rows) -> Option<StuckTask> {
        let state = task::state(candidate.tid);
        let sleeps = |state: char| state == 'D' || state == 'S' && candidate.kernel.is_none();
        if !state.is_some_and(sleeps) {
            // The kernel's entry is of a task that woke while it was put in, or is gone.
            if let Some(maps) = &mut probes.blocked
                && state != Some('R')
            {
                maps.forget(candidate.tid);
            }
            return None;
        }
        let flags = candidate.kernel.map_or(0, |kernel| kernel.flags);
        let nothing = Task::default();
        let told = self.reader.told.get(&candidate.tid);
        let task = told.map_or(&nothing, |task| task);
        let owner = candidate
            .kernel
            .filter(|kernel| kernel.owner != 0)
            .and_then(|kernel| Some(Owner { tid: kernel.owner, comm: task::comm(kernel.owner)? }));
        let (wait, phrase) = waits_on(task, owner.as_ref(), flags & FROZEN != 0, flags & IN_IO != 0);
        let row = candidate.row.or_else(|| {
            let path = oom::memory_path(&task.cgroups, self.v2)?;
            rows.tree.at(&path).and_then(|id| rows.row_of(id))
        });
        let container: Arc<Container> = row.and_then(|row| rows.aggregator.shared(row))?;
        let blocked = Duration::from_nanos(clock.saturating_sub(candidate.since));
        let pid = candidate.kernel.map_or(task.pid, |kernel| kernel.tgid);
        let comm = match told {
            Some(task) => task.comm.clone(),
            None => task::comm(pid).unwrap_or_default(),
        };
        Some(StuckTask {
            container,
            pid,
            tid: candidate.tid,
            comm: comm.into(),
            state: state.unwrap_or('D'),
            blocked_s: blocked.as_secs_f64(),
            blocked_s_how: candidate.how,
            since: SystemTime::now().checked_sub(blocked).unwrap_or(SystemTime::UNIX_EPOCH),
            wchan: task.wchan.as_deref().map(Arc::from),
            stack: task.stack.clone(),
            syscall: syscall(task),
            waits_on: phrase,
            wait,
            in_io: candidate.kernel.map(|kernel| kernel.flags & IN_IO != 0),
            owner,
            sigkill_pending: told.map(|task| task.sigkill_pending),
            kill_attempts: None,
            killers: Vec::new(),
        })
    }
}

fn waits_for_server(task: &Task) -> bool {
    task.stack.iter().chain(&task.wchan).any(|name| name == "request_wait_answer")
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
