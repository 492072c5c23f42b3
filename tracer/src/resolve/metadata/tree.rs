//! Bounded, unsuspecting reads below one root: nothing outside of it, no FIFO or device, nothing huge; what
//! cannot be read becomes a sentence once. Knows no runtime.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat},
    io::Errno,
};
use serde_json::Value;

use super::apart::{Guard, Here};
use crate::resolve::container::is_hex64;

/// A docker config with a long environment is some 100 KiB; containers.json grows by 500 bytes a container.
const FILE: u64 = 4 << 20;
/// Distinct problems worth showing.
const PROBLEMS: usize = 32;

pub(super) struct Tree {
    root: PathBuf,
    guard: Guard,
    /// The root's own descriptor.
    fd: Option<OwnedFd>,
    /// (its kind: the sentence without ids, the sentence)
    problems: Vec<(String, String)>,
}

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: u64,
    written: (i64, u64),
    size: i64,
}

impl Tree {
    /// `guard` sees every path that is gone to.
    pub fn new(root: &Path, guard: Guard) -> Tree {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = guard.enter(root).and_then(|_here| openat(CWD, root, flags, Mode::empty()));
        let mut tree = Tree { root: root.to_owned(), guard, fd: None, problems: Vec::new() };
        match opened {
            Ok(fd) => tree.fd = Some(fd),
            Err(err) => {
                tree.problem(format!("cannot open {}: {err}; containers have no names", root.display()))
            }
        }
        tree
    }

    /// What a process sees.
    pub fn seen_by(&self, pid: u32) -> Tree {
        Tree::new(&self.root.join(format!("proc/{pid}/root")), self.guard.clone())
    }

    #[cfg(test)]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().map(|(_, sentence)| sentence.as_str())
    }

    /// `None` if it is not there; or cannot be read, which is then a problem.
    pub fn json(&mut self, path: &Path) -> Option<Value> {
        let bytes = match self.bytes(path, OFlags::NOFOLLOW) {
            Ok(bytes) => bytes,
            Err(err) => {
                self.unreadable(path, &err);
                return None;
            }
        };
        serde_json::from_slice(&bytes)
            .map_err(|err| self.problem(format!("{} is no JSON: {err}", path.display())))
            .ok()
    }

    /// A file of /proc. Processes end while they are read, so nothing is a problem.
    pub fn proc(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(Path::new(path), OFlags::empty()).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn link(&self, path: &str) -> Option<PathBuf> {
        let _here = self.enter(Path::new(path)).ok()?;
        let target = readlinkat(self.fd.as_ref()?, below(Path::new(path)), Vec::new()).ok()?;
        Some(PathBuf::from(target.into_string().ok()?))
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// The owner of a file or directory.
    pub fn owner(&self, path: &str) -> Option<u32> {
        let _here = self.enter(Path::new(path)).ok()?;
        let fd = self.open(Path::new(path), OFlags::PATH).ok()?;
        Some(fstat(fd).ok()?.st_uid)
    }

    /// What changes when a file is written or another takes its place.
    pub fn stamp(&self, path: &Path) -> Option<Stamp> {
        let _here = self.enter(path).ok()?;
        let stat = fstat(self.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?).ok()?;
        Some(Stamp { file: stat.st_ino, written: (stat.st_mtime, stat.st_mtime_nsec), size: stat.st_size })
    }

    /// The names in a directory, as far as `max`.
    pub fn list(&mut self, path: &Path, max: usize) -> Vec<String> {
        let listed = self.enter(path).and_then(|_here| {
            let dir = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).and_then(Dir::new)?;
            let names = dir.flatten().filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()));
            Ok(names.filter(|name| name != "." && name != "..").take(max).collect())
        });
        listed.unwrap_or_else(|err| {
            self.unreadable(path, &err.into());
            Vec::new()
        })
    }

    pub fn problem(&mut self, sentence: String) {
        let kind = sentence.split('/').map(|part| if is_hex64(part) { "*" } else { part });
        let kind: String = kind.collect::<Vec<_>>().join("/");
        if self.problems.len() < PROBLEMS && !self.problems.iter().any(|(known, _)| *known == kind) {
            self.problems.push((kind, sentence));
        }
    }

    fn unreadable(&mut self, path: &Path, err: &io::Error) {
        let absent = [Errno::NOENT, Errno::NOTDIR, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
        if !absent.contains(&err.raw_os_error()) {
            self.problem(format!("cannot read {}: {err}", path.display()));
        }
    }

    fn bytes(&self, path: &Path, flags: OFlags) -> io::Result<Vec<u8>> {
        let _here = self.enter(path)?;
        // NONBLOCK: a FIFO put in a file's place must not hold us.
        let fd = self.open(path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::from(fd).take(FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE {
            return Err(io::Error::other("larger than 4 MiB"));
        }
        Ok(bytes)
    }

    /// While it lasts, whoever waits for this thread knows where it is.
    fn enter(&self, path: &Path) -> Result<Here, Errno> {
        self.guard.enter(&self.root.join(below(path)))
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.fd.as_ref().ok_or(Errno::NOENT)?;
        let _here = self.enter(path)?;
        let flags = flags | OFlags::CLOEXEC;
        // The host's tree may be mounted elsewhere: its absolute links must stay inside.
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..3 {
            match openat2(root, below(path), flags, Mode::empty(), inside) {
                // A rename somewhere made the walk uncertain.
                Err(Errno::AGAIN) => {}
                // Filtered by an old seccomp profile: then the root is the only tree we can have.
                Err(Errno::NOSYS | Errno::PERM) if self.root == Path::new("/") => {
                    return openat(root, below(path), flags, Mode::empty());
                }
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Paths here are absolute; the system calls want them relative to the root.
fn below(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(path) if !path.as_os_str().is_empty() => path,
        Ok(_) => Path::new("."),
        Err(_) => path,
    }
}
