//! Reads `/proc` of stuck tasks on a thread of its own: a task in the middle of an exec holds whoever reads its stack. Such
//! a thread is left behind, and another goes on with the others.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    kernel::clock::thread_cpu,
    resolve::wait::{self, Told},
};

/// The answers of a tick are waited for so long in all; one takes some 50 us. Others come with the next tick.
const ANSWER: Duration = Duration::from_millis(50);
/// Who answers nothing for so long is held.
const HELD: Duration = Duration::from_secs(2);
/// Threads that may be left behind.
const LEFT: usize = 4;
/// A look for those that sleep interruptibly may take so long; it goes on with the next.
const SWEEP: Duration = Duration::from_millis(100);

enum Job {
    /// What was told before saves reads of one that has not moved.
    Look(u32, Option<Arc<Told>>),
    /// From this task on; for those in uninterruptible sleep, too?
    Sweep(u32, bool),
}

enum Answer {
    /// `None`: it is gone.
    Looked(u32, Option<Arc<Told>>),
    /// Those found, where to go on, and what it took of a CPU.
    Swept(Vec<(u32, char)>, u32, Duration),
}

/// The thread, and what it told.
pub struct Reader {
    worker: Option<(mpsc::Sender<Job>, mpsc::Receiver<Answer>)>,
    /// What it was asked and has not told yet.
    asked: HashMap<u32, Instant>,
    left: usize,
    /// Not asked about again.
    avoided: HashSet<u32>,
    sweeping: bool,
    next: u32,
    /// What the last whole sweep took of a CPU, and the one under way so far.
    pub swept: Duration,
    sweeps: Duration,
    pub told: HashMap<u32, Arc<Told>>,
    /// Found by sweeps: in state `D` if asked for, or `S` in a request to a FUSE server. Whoever takes it in empties it.
    pub asleep: Vec<(u32, char)>,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            worker: None,
            asked: HashMap::new(),
            left: 0,
            avoided: HashSet::new(),
            sweeping: false,
            next: 0,
            swept: Duration::ZERO,
            sweeps: Duration::ZERO,
            told: HashMap::new(),
            asleep: Vec::new(),
        }
    }

    /// Asks about these, forgets all others, and waits a little for the answers. `sweep`: also looks for others, in state `D`
    /// or not.
    pub fn look(&mut self, tids: &[u32], sweep: Option<bool>) {
        let wanted: HashSet<u32> = tids.iter().copied().collect();
        self.told.retain(|tid, _| wanted.contains(tid));
        self.avoided.retain(|tid| wanted.contains(tid));
        let now = Instant::now();
        // A tick may have come late: what has been answered meanwhile holds nobody.
        self.gather(now);
        if self.asked.values().any(|since| now.duration_since(*since) > HELD) && self.left < LEFT {
            // The oldest is what holds it.
            if let Some(held) = self.asked.iter().min_by_key(|(_, since)| **since).map(|(tid, _)| *tid) {
                self.avoided.insert(held);
            }
            self.worker = None;
            self.asked.clear();
            self.sweeping = false;
            self.left += 1;
        }
        if self.worker.is_none() {
            if tids.is_empty() && sweep.is_none() {
                return;
            }
            self.worker = start();
        }
        let Some((jobs, _)) = &self.worker else { return };
        let new: Vec<u32> = tids
            .iter()
            .copied()
            .filter(|tid| !self.asked.contains_key(tid) && !self.avoided.contains(tid))
            .collect();
        for tid in new {
            if jobs.send(Job::Look(tid, self.told.get(&tid).cloned())).is_ok() {
                self.asked.insert(tid, now);
            }
        }
        if let Some(blocked) = sweep.filter(|_| !self.sweeping) {
            self.sweeping = jobs.send(Job::Sweep(self.next, blocked)).is_ok();
        }
        self.gather(now + ANSWER);
    }

    /// A sweep has more to look at.
    pub fn is_amid(&self) -> bool {
        self.next != 0
    }

    /// The first sweep is waited for.
    pub fn gather(&mut self, until: Instant) {
        let Some((_, answers)) = &self.worker else { return };
        while !self.asked.is_empty() || self.sweeping {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Looked(tid, task)) => {
                    self.asked.remove(&tid);
                    match task {
                        Some(task) => self.told.insert(tid, task),
                        None => self.told.remove(&tid),
                    };
                }
                Ok(Answer::Swept(found, next, took)) => {
                    self.sweeping = false;
                    self.asleep.extend(found);
                    self.next = next;
                    self.sweeps += took;
                    if next == 0 {
                        self.swept = std::mem::take(&mut self.sweeps);
                    }
                }
                Err(_) => break,
            }
        }
    }
}

fn start() -> Option<(mpsc::Sender<Job>, mpsc::Receiver<Answer>)> {
    let (jobs, asked) = mpsc::channel();
    let (told, answers) = mpsc::channel();
    let work = move || {
        for job in asked {
            let answer = match job {
                Job::Look(tid, before) => {
                    Answer::Looked(tid, wait::look(tid, before.as_deref()).map(Arc::new))
                }
                Job::Sweep(from, blocked) => {
                    let before = thread_cpu();
                    let (found, next) = sweep(from, blocked);
                    Answer::Swept(found, next, thread_cpu().saturating_sub(before))
                }
            };
            if told.send(answer).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name("stuck".to_owned()).spawn(work).ok()?;
    Some((jobs, answers))
}

/// Tasks from a number on that wait for a FUSE server, or are blocked, and where to go on; 0: at the beginning.
fn sweep(from: u32, blocked: bool) -> (Vec<(u32, char)>, u32) {
    let start = Instant::now();
    let fuse = may_have_fuse();
    let asleep = |tid: u32| match blocked {
        true => match wait::state(tid)? {
            'D' => Some((tid, 'D')),
            'S' if fuse && wait::fuse_waits(tid) => Some((tid, 'S')),
            _ => None,
        },
        // What it waits for is cheaper to read than its state.
        false => (wait::fuse_waits(tid) && wait::state(tid) == Some('S')).then_some((tid, 'S')),
    };
    let mut found = Vec::new();
    if !blocked && !fuse {
        return (found, 0);
    }
    for pid in numbers("/proc").into_iter().filter(|pid| *pid >= from) {
        if start.elapsed() > SWEEP {
            return (found, pid);
        }
        found.extend(threads(pid).into_iter().filter_map(asleep));
    }
    (found, 0)
}

fn threads(pid: u32) -> Vec<u32> {
    let dir = format!("/proc/{pid}/task");
    // Two links and one for each thread (`proc_task_getattr`, fs/proc/base.c): most have one, and a list is dear.
    match fs::metadata(&dir).map(|about| about.nlink()) {
        Ok(3) => vec![pid],
        Ok(_) => numbers(&dir),
        Err(_) => Vec::new(),
    }
}

/// What is called by a number in a directory.
fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// Whether a FUSE server may serve anything on this host: its connections are listed where that file system is mounted.
fn may_have_fuse() -> bool {
    const CONNECTIONS: &str = "/sys/fs/fuse/connections";
    /// `FUSE_CTL_SUPER_MAGIC`, fs/fuse/control.c
    const MAGIC: u64 = 0x6573_5543;
    let is_list = rustix::fs::statfs(CONNECTIONS).is_ok_and(|about| about.f_type as u64 == MAGIC);
    !is_list || fs::read_dir(CONNECTIONS).map_or(true, |mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_and_of_more() {
        let own = std::process::id();
        let (stop, stopped) = mpsc::channel::<()>();
        let waits = thread::spawn(move || stopped.recv());
        let mut found = threads(own);
        assert!(found.len() > 1 && found.contains(&own), "{found:?}");
        assert_eq!(threads(1).first(), Some(&1));
        found.retain(|tid| wait::state(*tid).is_none());
        assert!(found.is_empty(), "{found:?} are no tasks");
        assert!(threads(u32::MAX).is_empty());
        drop(stop);
        let _ = waits.join();
    }
}
