//! Reads on a thread of its own. A file system that does not answer (a server that is gone, a disk that hangs) holds
//! whoever reads there: then that thread is left to it, and another one keeps away from the place until it answers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI32, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;

use super::{reader::Reader, tree::Tree};

/// A name is waited for so long, once; most take some 10 us, a walk through /proc some 10 ms.
const ANSWER: Duration = Duration::from_secs(1);
/// A thread that sleeps for so long in one read is held by a file system.
const HELD: Duration = Duration::from_secs(2);
/// Threads that may be left to file systems; with more of them no name is read.
const LEFT: usize = 4;

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// The thread that reads, and those that were left behind.
pub(super) struct Apart {
    root: PathBuf,
    capacity: usize,
    worker: Option<Worker>,
    left: Vec<(Guard, u64, PathBuf)>,
    avoid: Arc<Mutex<Vec<PathBuf>>>,
    unanswered: u64,
}

struct Worker {
    jobs: mpsc::Sender<Job>,
    at: Guard,
    asked: u64,
    /// When the oldest job that is not done was given.
    since: Instant,
}

/// Where a thread is. Shared with whoever waits for it.
#[derive(Clone)]
pub(super) struct Guard(Arc<At>);

struct At {
    thread: AtomicI32,
    /// Jobs done.
    finished: AtomicU64,
    /// What it reads.
    here: Mutex<Option<PathBuf>>,
    /// What is not gone to.
    avoid: Arc<Mutex<Vec<PathBuf>>>,
}

/// Ends with the read.
pub(super) struct Here {
    at: Arc<At>,
    before: Option<PathBuf>,
}

impl Apart {
    pub fn new(root: &Path, capacity: usize) -> Apart {
        Apart {
            root: root.to_owned(),
            capacity,
            worker: None,
            left: Vec::new(),
            avoid: Arc::default(),
            unanswered: 0,
        }
    }

    /// Has the thread do this and waits a little for it. `None`: it does not answer.
    pub fn ask<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Option<T> {
        let found = self.answer(work);
        self.unanswered += u64::from(found.is_none());
        found
    }

    /// Whether there are places that are not gone to.
    pub fn keeps_away(&self) -> bool {
        !self.left.is_empty()
    }

    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    fn answer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Option<T> {
        let worker = self.free()?;
        let (sender, answer) = mpsc::sync_channel(1);
        worker.since = Instant::now();
        worker.asked += 1;
        let at = worker.at.clone();
        let job = move |reader: &mut Reader| {
            let found = work(reader);
            // First: whoever has the answer may ask again.
            at.0.finished.fetch_add(1, Ordering::Release);
            // Nobody may wait for it any more.
            let _ = sender.send(found);
        };
        worker.jobs.send(Box::new(job)).ok()?;
        answer.recv_timeout(ANSWER).ok()
    }

    /// A thread that has nothing to do.
    fn free(&mut self) -> Option<&mut Worker> {
        self.forgive();
        if self.worker.as_ref().is_some_and(Worker::is_held) && self.left.len() < LEFT {
            let held = self.worker.take()?;
            let place = mount_of(&held.at.here().clone().unwrap_or_default());
            lock(&self.avoid).push(place.clone());
            self.left.push((held.at, held.asked, place));
        }
        if self.worker.is_none() {
            self.worker = Worker::start(&self.root, self.capacity, &self.avoid);
        }
        self.worker.as_mut().filter(|worker| !worker.is_busy())
    }

    /// What answers again is gone to again.
    fn forgive(&mut self) {
        let avoid = &self.avoid;
        self.left.retain(|(at, asked, place)| {
            let held = at.finished() < *asked;
            if !held {
                let mut avoid = lock(avoid);
                if let Some(found) = avoid.iter().position(|avoided| avoided == place) {
                    avoid.swap_remove(found);
                }
            }
            held
        });
    }
}

impl Worker {
    fn start(root: &Path, capacity: usize, avoid: &Arc<Mutex<Vec<PathBuf>>>) -> Option<Worker> {
        let (jobs, received) = mpsc::channel::<Job>();
        let at = Guard::new(Arc::clone(avoid));
        let (root, guard) = (root.to_owned(), at.clone());
        let work = move || {
            guard.0.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
            let mut reader = Reader::new(Tree::new(&root, guard.clone()), capacity);
            for job in received {
                job(&mut reader);
            }
        };
        thread::Builder::new().name("names".to_owned()).spawn(work).ok()?;
        Some(Worker { jobs, at, asked: 0, since: Instant::now() })
    }

    fn is_busy(&self) -> bool {
        self.at.finished() < self.asked
    }

    /// It sleeps in a read, and has for long. One that only gets no processor does not sleep.
    fn is_held(&self) -> bool {
        self.is_busy() && self.since.elapsed() > HELD && self.at.here().is_some() && self.at.sleeps()
    }
}

impl Guard {
    pub fn new(avoid: Arc<Mutex<Vec<PathBuf>>>) -> Guard {
        let (thread, finished, here) = Default::default();
        Guard(Arc::new(At { thread, finished, here, avoid }))
    }

    /// Before anything is asked of a file system.
    pub fn enter(&self, path: &Path) -> Result<Here, Errno> {
        if lock(&self.0.avoid).iter().any(|avoided| path.starts_with(avoided)) {
            return Err(Errno::TIMEDOUT);
        }
        let before = lock(&self.0.here).replace(path.to_owned());
        Ok(Here { at: Arc::clone(&self.0), before })
    }

    fn here(&self) -> MutexGuard<'_, Option<PathBuf>> {
        lock(&self.0.here)
    }

    fn finished(&self) -> u64 {
        self.0.finished.load(Ordering::Acquire)
    }

    fn sleeps(&self) -> bool {
        let stat =
            fs::read_to_string(format!("/proc/self/task/{}/stat", self.0.thread.load(Ordering::Relaxed)));
        // After the name, which may hold anything.
        stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['D', 'S'])))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        *lock(&self.at.here) = self.before.take();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The mount that a path is on; on the root's own, the directory that it is in.
fn mount_of(path: &Path) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let above = points.filter(|point| path.starts_with(point) && *point != Path::new("/"));
    let mount = above.max_by_key(|point| point.as_os_str().len());
    // Of /proc it is what leads to another root.
    let own = mount.filter(|mount| *mount != Path::new("/proc")).map(Path::to_owned);
    own.unwrap_or_else(|| path.parent().unwrap_or(path).to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn apart(root: &Path) -> Apart {
        Apart::new(root, 16)
    }

    #[test]
    fn what_does_not_answer_is_left_and_kept_away_from_until_it_does() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let held = dir.path().join("held");
        fs::create_dir(&held).expect("a directory");
        fs::write(held.join("file"), "{}").expect("a file");
        let mut apart = apart(dir.path());
        assert_eq!(apart.ask(|_| 1), Some(1));
        // A read that sleeps, as on a file system that does not answer.
        let (release, wait) = channel::<()>();
        let place = held.join("file");
        let sleeping = apart.ask(move |reader| {
            let _here = reader.places.tree.guard().enter(&place).expect("it is not avoided yet");
            let _ = wait.recv();
        });
        assert_eq!(sleeping, None);
        assert_eq!(apart.ask(|_| 2), None, "it may only be slow");
        thread::sleep(HELD);
        assert_eq!(apart.ask(|_| 3), Some(3), "another thread answers");
        let read = |apart: &mut Apart| apart.ask(|reader| reader.places.tree.json(Path::new("/held/file")));
        assert_eq!(read(&mut apart), Some(None), "it keeps away from there");
        assert!(apart.ask(|reader| reader.places.tree.exists(Path::new("/"))).unwrap_or(false));
        drop(release);
        let start = Instant::now();
        while read(&mut apart).flatten().is_none() {
            assert!(start.elapsed() < Duration::from_secs(10), "it answers again");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(apart.unanswered(), 2);
    }

    #[test]
    fn a_path_leads_to_its_mount() {
        assert_eq!(mount_of(Path::new("/proc/1/root/var/file")), Path::new("/proc/1/root/var"));
        assert_eq!(mount_of(Path::new("/sys/kernel/x")), Path::new("/sys"));
        assert_eq!(mount_of(Path::new("/no-mount-of-its-own/file")), Path::new("/no-mount-of-its-own"));
    }
}
