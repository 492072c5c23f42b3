//! What a process has open, and what else it holds that leaks: counted from `/proc`, since nothing else knows what was
//! there before attach.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde::Serialize;

use super::procfs::number;

/// More are counted, not looked at.
const LOOKED_AT: usize = 8192;

/// Open descriptors; by kind where they were looked at one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Descriptors {
    pub total: u64,
    pub sockets: Option<u64>,
    pub pipes: Option<u64>,
    /// Of any file system.
    pub files: Option<u64>,
    /// Epolls, timers, events, BPF objects and the like.
    pub anon: Option<u64>,
}

/// What one thread group holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    pub fds: Option<Descriptors>,
    pub threads: Option<u64>,
    /// `RssAnon`.
    pub anon: Option<u64>,
}

/// What it holds, and the inodes of its sockets; `one_by_one`: each descriptor is looked at.
pub fn holdings(pid: u32, one_by_one: bool) -> (Holdings, Vec<u32>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let (fds, sockets) = if one_by_one { each(pid) } else { (count(pid), Vec::new()) };
    let anon = number(&status, "RssAnon:").and_then(|kib| kib.checked_mul(1024));
    (Holdings { fds, threads: number(&status, "Threads:"), anon }, sockets)
}

/// How many are open.
fn count(pid: u32) -> Option<Descriptors> {
    let path = format!("/proc/{pid}/fd");
    // Since 6.2 the directory's size is their number (f1f1f2569901).
    let size = fs::metadata(&path).ok()?.size();
    let total = if size > 0 { size } else { fs::read_dir(&path).ok()?.count() as u64 };
    Some(Descriptors { total, ..Descriptors::default() })
}

fn each(pid: u32) -> (Option<Descriptors>, Vec<u32>) {
    let mut inodes = Vec::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return (None, inodes) };
    let (mut total, mut sockets, mut pipes, mut files, mut anon) = (0, 0, 0, 0, 0);
    for entry in entries.flatten() {
        total += 1;
        if total > LOOKED_AT {
            continue;
        }
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        if let Some(ino) = link.strip_prefix("socket:[") {
            sockets += 1;
            inodes.extend(ino.trim_end_matches(']').parse::<u32>().ok());
        } else if link.starts_with("pipe:") {
            pipes += 1;
        } else if link.starts_with("anon_inode:") {
            anon += 1;
        } else {
            files += 1;
        }
    }
    let kind = |count: u64| (total <= LOOKED_AT).then_some(count);
    let told = Descriptors {
        total: total as u64,
        sockets: kind(sockets),
        pipes: kind(pipes),
        files: kind(files),
        anon: kind(anon),
    };
    (Some(told), inodes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let own = std::process::id();
        let (before, _) = holdings(own, true);
        let held: Vec<_> = (0..50).map(|_| UnixStream::pair().expect("descriptors are left")).collect();
        let (after, inodes) = holdings(own, true);
        let sockets =
            |holdings: &Holdings| holdings.fds.and_then(|fds| fds.sockets).expect("they are counted");
        // Other tests of this process open and close some.
        let grown = sockets(&after) - sockets(&before);
        assert!((90..=110).contains(&grown), "{grown}");
        assert!(inodes.len() >= 100);
        let (quick, _) = holdings(own, false);
        assert!(quick.fds.expect("they are counted").total >= 100 && quick.threads >= Some(1));
        assert!(quick.anon > Some(0));
        assert_eq!(holdings(u32::MAX, true), (Holdings::default(), Vec::new()));
        drop(held);
    }
}
