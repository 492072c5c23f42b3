//! Reads about one task that sleeps, none of which may hang the reader.
//!
//! `stat`, `status`, `wchan` and `comm` take no lock that a sleeper holds. `stack` and `syscall` wait for a task that is in the
//! middle of exec (`lock_trace`, fs/proc/base.c), mountinfo may read btrfs' disk, `cgroup` takes the lock of all cgroups: these
//! are read by another thread, which is left behind if it does not come back. Never `cmdline`, `environ`, `maps`, `mem`, `exe`.

use std::{
    fs::File,
    io::Read as _,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use super::{call, mount::Mounts, parse};

const TEXT: u64 = 64 << 10;
const MOUNTINFO: u64 = 4 << 20;
/// What all doubtful reads about one task may take together.
const PATIENCE: Duration = Duration::from_millis(250);
/// Threads that did not come back; with so many of them only what is safe is read.
const LEFT_BEHIND: usize = 8;

/// Tasks whose reader has not come back.
static READERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

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
#[derive(Debug, Default)]
pub struct Doubtful {
    pub stack: Vec<String>,
    pub call: Option<parse::Call>,
    /// The file behind the call's first argument.
    pub file: Option<String>,
    pub mount_id: Option<u64>,
    pub mounts: Option<Mounts>,
    pub host: Option<Mounts>,
    /// Its cgroup is frozen, or becomes it.
    pub frozen_cgroup: bool,
}

enum Piece {
    Stack(Vec<String>),
    Call(parse::Call),
    File(String),
    Mount(u64),
    Mounts(Mounts),
    Host(Mounts),
    FrozenCgroup,
}

/// Takes itself off the list when its reads have come back.
struct Listed(u32);

impl Listed {
    fn new(tid: u32) -> Option<Listed> {
        let mut readers = READERS.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= LEFT_BEHIND || readers.contains(&tid) {
            return None;
        }
        readers.push(tid);
        Some(Listed(tid))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        READERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|tid| *tid != self.0);
    }
}

/// `uninterruptible`: a cgroup that is being frozen may be why it sleeps.
pub fn doubtful(pid: u32, tid: u32, uninterruptible: bool) -> Doubtful {
    let Some(listed) = Listed::new(tid) else { return Doubtful::default() };
    let (send, receive) = mpsc::channel();
    let read = move || {
        read(pid, tid, uninterruptible, &|piece| {
            let _ = send.send(piece);
        });
        drop((listed, send));
    };
    match thread::Builder::new().name(String::from("wait")).spawn(read) {
        Ok(_) => gathered(&receive),
        Err(_) => Doubtful::default(),
    }
}

fn gathered(receive: &Receiver<Piece>) -> Doubtful {
    let until = Instant::now() + PATIENCE;
    let mut found = Doubtful::default();
    // Ends when the reader has, or when it takes too long.
    while let Ok(piece) = receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
        match piece {
            Piece::Stack(frames) => found.stack = frames,
            Piece::Call(call) => found.call = Some(call),
            Piece::File(file) => found.file = Some(file),
            Piece::Mount(id) => found.mount_id = Some(id),
            Piece::Mounts(mounts) => found.mounts = Some(mounts),
            Piece::Host(mounts) => found.host = Some(mounts),
            Piece::FrozenCgroup => found.frozen_cgroup = true,
        }
    }
    found
}

/// In the order of what tells most.
fn read(pid: u32, tid: u32, uninterruptible: bool, tell: &dyn Fn(Piece)) {
    if let Some(text) = safe(pid, tid, "stack") {
        tell(Piece::Stack(parse::stack(&text)));
    }
    let call = safe(pid, tid, "syscall").and_then(|text| parse::call(&text));
    if let Some(call) = call {
        tell(Piece::Call(call));
    }
    let descriptor = call.and_then(|call| call::descriptor(&call::name(&call), &call));
    if let Some(number) = descriptor {
        // The thread's own: it may share its files with nobody.
        let link = std::fs::read_link(format!("/proc/{pid}/task/{tid}/fd/{number}"));
        if let Ok(path) = link {
            tell(Piece::File(path.to_string_lossy().into_owned()));
        }
        let info = text(&format!("/proc/{pid}/task/{tid}/fdinfo/{number}"), TEXT);
        if let Some(id) = info.and_then(|info| parse::mount_id(&info)) {
            tell(Piece::Mount(id));
        }
    }
    if uninterruptible && frozen_cgroup(pid) {
        tell(Piece::FrozenCgroup);
    }
    if let Some(mounts) = text(&format!("/proc/{pid}/mountinfo"), MOUNTINFO) {
        let has_overlay = mounts.contains(" - overlay ");
        tell(Piece::Mounts(Mounts::parse(&mounts)));
        let host =
            || text("/proc/1/mountinfo", MOUNTINFO).or_else(|| text("/proc/self/mountinfo", MOUNTINFO));
        if let Some(host) = has_overlay.then(host).flatten() {
            tell(Piece::Host(Mounts::parse(&host)));
        }
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
        let first = Listed::new(u32::MAX);
        assert!(first.is_some());
        assert!(Listed::new(u32::MAX).is_none());
        drop(first);
        assert!(Listed::new(u32::MAX).is_some());
    }
}
