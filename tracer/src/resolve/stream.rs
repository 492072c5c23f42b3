//! Which process has which pipe or terminal: from `/proc`, by device and inode. Never waits for a file system: nothing
//! is asked of a server (`AT_STATX_DONT_SYNC`).

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::kernel::proc;

/// A pipe, FIFO, terminal or file; the device as the kernel writes it, `major << 20 | minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    pub dev: u32,
    pub ino: u64,
}

/// Descriptors looked at per process.
const DESCRIPTORS: usize = 4096;
/// Of a process's list of cgroups: a path for each hierarchy.
const CGROUPS: u64 = 64 << 10;

/// What a descriptor is, if it is a pipe, FIFO or terminal.
pub fn descriptor(pid: u32, number: u32) -> Option<Node> {
    // Most are told by their link alone; only FIFOs and terminals have a path.
    let at = linked(pid, number, |link| link.starts_with("pipe:") || link.starts_with('/'))?;
    node(&at, &[FileType::Fifo, FileType::CharacterDevice])
}

/// The same of a socket.
pub fn socket(pid: u32, number: u32) -> Option<Node> {
    node(&linked(pid, number, |link| link.starts_with("socket:"))?, &[FileType::Socket])
}

fn linked(pid: u32, number: u32, fits: impl Fn(&str) -> bool) -> Option<String> {
    let path = format!("/proc/{pid}/fd/{number}");
    fits(fs::read_link(&path).ok()?.to_str()?).then_some(path)
}

fn node(path: &str, kinds: &[FileType]) -> Option<Node> {
    let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO).ok()?;
    kinds
        .contains(&FileType::from_raw_mode(u32::from(stat.stx_mode) as _))
        .then_some(Node { dev: stat.stx_dev_major << 20 | stat.stx_dev_minor, ino: stat.stx_ino })
}

/// How a process has a stream. The link's own mode tells how the file behind it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    pub node: Node,
    pub reads: bool,
    pub writes: bool,
}

/// Which of these the process has, and which end.
pub fn holds(pid: u32, wanted: &HashSet<Node>) -> Vec<Held> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .take(DESCRIPTORS)
        .filter_map(|number| {
            let node = descriptor(pid, number).filter(|node| wanted.contains(node))?;
            let mode = fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).ok()?.mode();
            Some(Held { node, reads: mode & 0o400 != 0, writes: mode & 0o200 != 0 })
        })
        .collect()
}

/// Whether the process has a terminal's master, through which its slave is read: the node alone does not tell of which.
pub fn has_master(pid: u32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .take(DESCRIPTORS)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.ends_with("ptmx")))
}

/// Every thread group there is.
pub fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The path of the memory cgroup that a process is in.
pub fn memory_cgroup(pid: u32) -> Option<String> {
    proc::memory_cgroup(&proc::text(&format!("/proc/{pid}/cgroup"), CGROUPS)?).map(str::to_owned)
}

/// What `/proc/PID/stat` tells of a process's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    pub parent: u32,
    /// Clock ticks after boot.
    pub start: u64,
}

pub fn birth(pid: u32) -> Option<Birth> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some(Birth { parent, start: fields.nth(17)?.parse().ok()? })
}

/// Whether it is the first process of a process namespace that is not the host's.
pub fn is_namespace_init(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let ids: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_pipe_is_found_by_its_inode() {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let own = std::process::id();
        let node = descriptor(own, reader.as_raw_fd() as u32).expect("it is a pipe");
        let both: HashSet<_> = holds(own, &HashSet::from([node])).into_iter().collect();
        let ends = [(true, false), (false, true)].map(|(reads, writes)| Held { node, reads, writes });
        assert_eq!(both, HashSet::from(ends), "one end each");
        assert_eq!(holds(own, &HashSet::new()), []);
        drop(writer);
        let null = fs::File::open("/dev/zero").expect("there is one");
        assert!(descriptor(own, null.as_raw_fd() as u32).is_some_and(|other| other != node));
    }

    #[test]
    fn birth_is_read_behind_the_name() {
        let own = birth(std::process::id()).expect("we live");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(own.start > 0);
        assert!(!is_namespace_init(u32::MAX));
    }
}
