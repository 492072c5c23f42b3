//! Which tasks are stuck: takes what the probe has of tasks that are blocked now, asks `/proc` about those that have been for
//! longer than the threshold, and about nobody else.
//!
//! A task that waits for a FUSE server sleeps interruptibly until a fatal signal comes, so no probe of uninterruptible
//! sleep sees it: such are looked for in `/proc` when memtrace starts and every ten seconds, and with them those blocked since
//! before attach where no iterator tells of them.

mod reader;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tracer_ebpf::abi::blocked::{BEFORE, Blocked, FOUND, FROZEN, IN_IO};

use self::reader::Reader;
use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        row::How,
        stuck::{BlockedTimes, Owner, StuckReport, StuckTask},
    },
    kernel::{clock, proc},
    resolve::{
        Container,
        wait::{self, Blocker, Hint, Told},
    },
};

/// Stuck tasks that are told, the longest first.
const TOLD: usize = 1024;
/// Those that no probe tells of are looked for this often,
const SWEEP: Duration = Duration::from_secs(10);
/// but not before so many times what the last look took of a CPU.
const REST: u32 = 250;
/// Who has a lock is looked for at most this often.
const OWNERS: Duration = Duration::from_secs(2);
/// The first look may take so long.
const FIRST: Duration = Duration::from_millis(500);

/// Looks for stuck tasks.
pub struct StuckWatch {
    threshold: Duration,
    times: BlockedTimes,
    reader: Reader,
    swept: Option<Instant>,
    owners: Option<Instant>,
    /// Sleepers that only a look found.
    found: HashMap<u32, Found>,
}

struct Found {
    /// When it was found asleep, by `CLOCK_MONOTONIC`.
    since: u64,
    state: char,
    /// How often it had left a processor by then; `None`: not known yet.
    switches: Option<u64>,
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
    pub fn new(threshold: Duration) -> StuckWatch {
        StuckWatch {
            threshold,
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
        let rest = SWEEP.max(self.reader.swept * REST);
        let due = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= rest);
        let sweep = due || self.reader.is_amid();
        if due {
            // What was blocked before attach, or whose beginning was lost.
            probes.find_blocked();
        }
        let clock = clock::monotonic().as_nanos() as u64;
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
        let known: HashSet<u32> = candidates.iter().map(|candidate| candidate.tid).collect();
        let mut long: Vec<Candidate> = candidates.into_iter().filter(is_long).collect();
        long.extend(self.sleepers(clock, &known));
        long.sort_by_key(|candidate| candidate.since);
        long.truncate(TOLD);
        let tids: Vec<u32> =
            long.iter().map(|candidate| candidate.tid).chain(self.found.keys().copied()).collect();
        self.reader.look(&tids, sweep.then(|| !probes.finds_blocked()));
        if sweep && self.swept.is_none() {
            self.reader.gather(Instant::now() + FIRST);
        }
        if due {
            self.swept = Some(now);
        }
        self.note_sleepers(clock, &known);
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
        let of = |(tid, blocked): (u32, Blocked)| {
            // One that waits for a server did so before the signal, too.
            let found = self.found.get(&tid).map(|found| found.since).filter(|since| *since < blocked.since);
            Candidate {
                tid,
                since: found.unwrap_or(blocked.since),
                how: match blocked.flags {
                    _ if found.is_some() => Some(How::AtLeast),
                    flags if flags & FOUND != 0 => Some(How::AtLeast),
                    flags if flags & BEFORE != 0 => Some(How::Inferred),
                    _ => None,
                },
                row: rows.row_of(blocked.cgroup),
                kernel: Some(blocked),
            }
        };
        tasks.into_iter().map(of).collect()
    }

    /// Those that only a look found, for longer than the threshold by now.
    fn sleepers(&self, clock: u64, known: &HashSet<u32>) -> Vec<Candidate> {
        let threshold = self.threshold.as_nanos() as u64;
        let new = self.found.iter().filter(|(tid, _)| !known.contains(tid));
        let long = new.filter(|(_, found)| clock.saturating_sub(found.since) >= threshold);
        let of = |(tid, found): (&u32, &Found)| Candidate {
            tid: *tid,
            since: found.since,
            how: Some(How::AtLeast),
            row: None,
            kernel: None,
        };
        long.map(of).collect()
    }

    /// Takes in what was found, and forgets those that have moved meanwhile: they sleep again, for another time.
    fn note_sleepers(&mut self, clock: u64, known: &HashSet<u32>) {
        for (tid, state) in std::mem::take(&mut self.reader.asleep) {
            // What the kernel tells of is known better.
            if state != 'D' || !known.contains(&tid) {
                self.found.entry(tid).or_insert(Found { since: clock, state, switches: None });
            }
        }
        let told = &self.reader.told;
        self.found.retain(|tid, found| {
            let Some(told) = told.get(tid) else { return wait::state(*tid).is_some() };
            let dies = found.state == 'S' && told.sigkill_pending() == Some(true) && told.waits_for_fuse();
            let still = found.switches.is_none() || found.switches == told.switches;
            if dies || !still {
                found.state = told.state;
            }
            if !dies && !still {
                found.since = clock;
            }
            found.switches = told.switches;
            told.state == 'D' || told.waits_for_fuse()
        });
    }

    fn tell(&self, candidate: &Candidate, clock: u64, probes: &mut Probes, rows: &Rows) -> Option<StuckTask> {
        let state = wait::state(candidate.tid);
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
        let nothing = Told::default();
        let told = self.reader.told.get(&candidate.tid);
        let task = told.map_or(&nothing, |task| task);
        // It has moved since it was looked at: what it waited for then is not what it waits for now. Who waits for a FUSE
        // server goes on to wait for it when a signal comes.
        if told.is_some_and(|told| Some(told.state) != state && !told.waits_for_fuse()) {
            return None;
        }
        let owner = candidate
            .kernel
            .filter(|kernel| kernel.owner != 0)
            .and_then(|kernel| Some(Owner { tid: kernel.owner, comm: wait::comm(kernel.owner)? }));
        let held = owner.clone().map(|owner| (owner.tid, owner.tid, owner.comm));
        let hint = Hint {
            blocker: held.map(|owner| Blocker { kind: "lock", owner: Some(owner) }),
            frozen: flags & FROZEN != 0,
            io: flags & IN_IO != 0,
        };
        let (wait, phrase) = task.waits_on(&hint);
        let row = candidate.row.or_else(|| {
            let path = proc::memory_cgroup(&task.cgroups)?;
            rows.tree.at(path).and_then(|id| rows.row_of(id))
        });
        let container: Arc<Container> = row.and_then(|row| rows.aggregator.shared(row))?;
        let blocked = Duration::from_nanos(clock.saturating_sub(candidate.since));
        let pid = candidate.kernel.map_or(task.pid, |kernel| kernel.tgid);
        let comm = match told {
            Some(task) => task.comm.clone(),
            None => wait::comm(pid).unwrap_or_default(),
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
            syscall: task.syscall(),
            waits_on: phrase,
            wait,
            in_io: candidate.kernel.map(|kernel| kernel.flags & IN_IO != 0),
            owner,
            // What was read before the signal came tells nothing of it.
            sigkill_pending: task.sigkill_pending().filter(|_| Some(task.state) == state),
            is_kernel: !task.has_memory,
            kill_attempts: None,
            killers: Vec::new(),
        })
    }
}
