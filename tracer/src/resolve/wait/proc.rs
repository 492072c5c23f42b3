//! Reads about one task that sleeps, none of which may hang the reader.
//!
//! `stat`, `status`, `wchan` and `comm` take no lock that a sleeper holds. `stack` and `syscall` wait for a task that is in the
//! middle of exec (`lock_trace`, fs/proc/base.c), mountinfo may read btrfs' disk, `cgroup` takes the lock of all cgroups: these
//! are read by another thread, which is left behind if it does not come back. Never `cmdline`, `environ`, `maps`, `mem`, `exe`.

use std::{
    fs::File,
    io::Read as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use super::{call, mount::Mounts, parse};

const TEXT: u64 = 64 << 10;
const MOUNTINFO: u64 = 4 << 20;
/// What all doubtful reads about one task may take together.
const PATIENCE: Duration = Duration::from_millis(250);
/// Threads that did not come back; with so many of them only what is safe is read.
const LEFT_BEHIND: usize = 8;

/// A text file of /proc, at most so long.
pub fn text(path: &str, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What never waits.
pub fn safe(pid: u32, tid: u32, name: &str) -> Option<String> {
    text(&format!("/proc/{pid}/task/{tid}/{name}"), TEXT)
}

/// What may wait; as far as it came in time.
#[derive(Debug, Clone, Default)]
pub struct Doubtful {
    pub stack: Vec<String>,
    pub call: Option<parse::Call>,
    /// The file behind the call's first argument.
    pub file: Option<String>,
    pub mount_id: Option<u64>,
    pub mounts: Option<Arc<Mounts>>,
    pub host: Option<Arc<Mounts>>,
    /// Its cgroup is frozen, or becomes it.
    pub frozen_cgroup: bool,
}

/// Filled while it is read.
type Shared = Arc<Mutex<Doubtful>>;

/// Readers that have not come back, each with its task and what it has found until now.
static READERS: Mutex<Vec<(u32, Shared)>> = Mutex::new(Vec::new());

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader on the list; takes itself off it when its reads have come back.
struct Listed(u32);

impl Drop for Listed {
    fn drop(&mut self) {
        locked(&READERS).retain(|(tid, _)| *tid != self.0);
    }
}

/// A place on the list, or what the one that has it found.
fn listed(tid: u32) -> Result<(Listed, Shared), Doubtful> {
    let mut readers = locked(&READERS);
    if let Some((_, found)) = readers.iter().find(|(other, _)| *other == tid) {
        return Err(locked(found).clone());
    }
    if readers.len() >= LEFT_BEHIND {
        return Err(Doubtful::default());
    }
    let found = Shared::default();
    readers.push((tid, Arc::clone(&found)));
    Ok((Listed(tid), found))
}

/// `uninterruptible`: a cgroup that is being frozen may be why it sleeps.
pub fn doubtful(pid: u32, tid: u32, uninterruptible: bool) -> Doubtful {
    let (listed, found) = match listed(tid) {
        Ok(new) => new,
        Err(before) => return before,
    };
    let (ended, end) = mpsc::channel::<()>();
    let filled = Arc::clone(&found);
    let read = move || {
        read(pid, tid, uninterruptible, &filled);
        drop((listed, ended));
    };
    if thread::Builder::new().name(String::from("wait")).spawn(read).is_ok() {
        // Nothing is sent: the channel is closed at the end.
        let _ = end.recv_timeout(PATIENCE);
    }
    locked(&found).clone()
}

/// In the order of what tells most. Nothing is locked while it reads.
fn read(pid: u32, tid: u32, uninterruptible: bool, found: &Shared) {
    let stack = safe(pid, tid, "stack").map(|text| parse::stack(&text));
    locked(found).stack = stack.unwrap_or_default();
    let call = safe(pid, tid, "syscall").and_then(|text| parse::call(&text));
    locked(found).call = call;
    let descriptor = call.and_then(|call| call::descriptor(&call::name(&call), &call));
    if let Some(number) = descriptor {
        // The thread's own: it may share its files with nobody.
        let link = std::fs::read_link(format!("/proc/{pid}/task/{tid}/fd/{number}"));
        locked(found).file = link.ok().map(|path| path.to_string_lossy().into_owned());
        let info = text(&format!("/proc/{pid}/task/{tid}/fdinfo/{number}"), TEXT);
        locked(found).mount_id = info.and_then(|info| parse::mount_id(&info));
    }
    let frozen = uninterruptible && frozen_cgroup(pid);
    locked(found).frozen_cgroup = frozen;
    if let Some(mounts) = text(&format!("/proc/{pid}/mountinfo"), MOUNTINFO) {
        let has_overlay = mounts.contains(" - overlay ");
        let mounts = Arc::new(Mounts::parse(&mounts));
        locked(found).mounts = Some(mounts);
        let host =
            || text("/proc/1/mountinfo", MOUNTINFO).or_else(|| text("/proc/self/mountinfo", MOUNTINFO));
        let host = has_overlay.then(host).flatten().map(|host| Arc::new(Mounts::parse(&host)));
        locked(found).host = host;
    }
}

/// Of the freezer of cgroup v1, which from 6.1 on leaves a task where it slept. That of v2 shows in the stack.
fn frozen_cgroup(pid: u32) -> bool {
    let frozen = || {
        let lines = text(&format!("/proc/{pid}/cgroup"), TEXT)?;
        let path = lines.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|word| word == "freezer").then_some(path)
        })?;
        let mounts = text("/proc/self/mountinfo", MOUNTINFO)?;
        let point = mounts.lines().find_map(|line| {
            let (mount, of) = line.split_once(" - cgroup ")?;
            let has = of.split([' ', ',']).any(|option| option == "freezer");
            mount.split(' ').nth(4).filter(|_| has)
        })?;
        let state = text(&format!("{point}{path}/freezer.state"), TEXT)?;
        Some(matches!(state.trim(), "FROZEN" | "FREEZING"))
    };
    frozen().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_not_come_back_is_not_asked_again() {
        let (first, found) = listed(u32::MAX).expect("there is a place");
        locked(&found).stack.push(String::from("f"));
        let again = listed(u32::MAX).map(drop).expect_err("its place is taken");
        assert_eq!(again.stack, ["f"], "what is known until now");
        drop(first);
        assert!(listed(u32::MAX).is_ok(), "it came back");
    }
}
