//! What processes give away: a shim's working directory, conmon's arguments, a container's mounts. Reads links
//! and small files of /proc; never `cmdline` of a stranger, which waits for the lock that a stuck task holds.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Places, Told, containerd, docker, storage, tree::Tree};
use crate::resolve::{Runtime, container::Shape};

/// A container's processes are rarely deeper below their shim.
const ANCESTORS: usize = 16;
/// While runc makes a container its first process is two below the shim.
const NEAR: usize = 4;
/// Where the files that docker mounts show up; podman's and cri-o's are the same.
const TARGETS: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// What the ancestors of `pid`, a process in the container, lead to: its shim or conmon is one.
pub(super) fn ancestors(places: &mut Places, shape: &Shape, pid: u32) -> Told {
    let mut up = pid;
    let mut learned = false;
    for _ in 0..ANCESTORS {
        match parent(&places.tree, up) {
            Some(parent) if parent > 1 => up = parent,
            _ => break,
        }
        match process(places, shape, up, true) {
            Told::Name(found) => return Told::Name(found),
            Told::Places => learned = true,
            Told::Nothing => {}
        }
    }
    if learned { Told::Places } else { Told::Nothing }
}

/// Learns the bundles of the shim above `pid` if it serves the container at the cgroup's path, and nothing else.
pub(super) fn shim_at(places: &mut Places, place: &str, pid: u32) -> bool {
    let mut up = pid;
    for _ in 0..NEAR {
        match parent(&places.tree, up) {
            Some(parent) if parent > 1 => up = parent,
            _ => break,
        }
        let cwd = places.tree.link(&format!("/proc/{up}/cwd"));
        if let Some(dir) = cwd.and_then(|cwd| containerd::bundles_at(&cwd, place)) {
            places.bundles.learn(&dir);
            return true;
        }
    }
    false
}

/// One process that might serve containers. `related`: it is an ancestor of one.
fn process(places: &mut Places, shape: &Shape, pid: u32, related: bool) -> Told {
    let bundles = places
        .tree
        .link(&format!("/proc/{pid}/cwd"))
        .and_then(|cwd| containerd::bundles_of(&cwd, &shape.id))
        .filter(|_| related || trusted(&places.tree, pid));
    if bundles.is_some_and(|dir| places.bundles.learn(&dir)) {
        return Told::Places;
    }
    if !matches!(shape.runtime, Runtime::Podman | Runtime::CriO) {
        return Told::Nothing;
    }
    let Some(conmon) = conmon(&places.tree, pid).filter(|_| related || trusted(&places.tree, pid)) else {
        return Told::Nothing;
    };
    let new = storage::root_of(&conmon.bundle).is_some_and(|root| places.storage.learn(&root));
    match conmon.name {
        Some(name) if conmon.id == shape.id && shape.runtime == Runtime::Podman => {
            // The storage knows the image too, if this conmon showed where it is.
            Told::Name(
                storage::podman(places, shape).unwrap_or_else(|| storage::by_conmon(shape, &name, pid)),
            )
        }
        _ if new => Told::Places,
        _ => Told::Nothing,
    }
}

/// Anyone may run a process called conmon, or change to a directory that looks like a bundle: among strangers
/// only those of the owner of process 1 count.
fn trusted(tree: &Tree, pid: u32) -> bool {
    let owner = tree.owner("/proc/1");
    owner.is_some() && owner == tree.owner(&format!("/proc/{pid}"))
}

fn parent(tree: &Tree, pid: u32) -> Option<u32> {
    let status = tree.proc(&format!("/proc/{pid}/status"))?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

struct Conmon {
    id: String,
    name: Option<String>,
    bundle: PathBuf,
}

/// <https://github.com/containers/conmon/blob/v2.1.0/src/cli.c>; conmon-rs has no such arguments.
fn conmon(tree: &Tree, pid: u32) -> Option<Conmon> {
    if !tree.proc(&format!("/proc/{pid}/comm"))?.contains("conmon") {
        return None;
    }
    let line = tree.proc(&format!("/proc/{pid}/cmdline"))?;
    let (mut id, mut name, mut bundle) = (None, None, None);
    let mut words = line.split('\0');
    while let Some(word) = words.next() {
        match word {
            "-c" | "--cid" => id = words.next(),
            "-n" | "--name" => name = words.next(),
            "-b" | "--bundle" => bundle = words.next(),
            _ => {}
        }
    }
    Some(Conmon { id: id?.to_owned(), name: name.map(str::to_owned), bundle: PathBuf::from(bundle?) })
}

/// The directories that the container's own /etc files and its root come from.
pub(super) fn mounts(places: &mut Places, shape: &Shape, pid: u32) -> Told {
    let Some(inside) = places.tree.proc(&format!("/proc/{pid}/mountinfo")) else { return Told::Nothing };
    let mut new = false;
    let mut host = None;
    for mount in inside.lines().filter_map(Mount::parse) {
        if let Some(storage) = mount.upper.as_deref().and_then(storage::root_of_layer)
            && mount.point == Path::new("/")
            && places.tree.exists(&storage.join(&shape.id))
        {
            new |= places.storage.learn(&storage);
        }
        if !TARGETS.iter().any(|target| mount.point == Path::new(target)) {
            continue;
        }
        let host = host.get_or_insert_with(|| {
            let host =
                places.tree.proc("/proc/1/mountinfo").or_else(|| places.tree.proc("/proc/self/mountinfo"));
            host.unwrap_or_default()
        });
        for source in mount.on_host(host) {
            if let Some(root) = docker::root_of(&source, &shape.id)
                && places.tree.exists(&source)
            {
                new |= places.docker.learn(&root);
            }
            if let Some(root) = storage::root_of(&source)
                && places.tree.exists(&source)
            {
                new |= places.storage.learn(&root);
            }
        }
    }
    if new { Told::Places } else { Told::Nothing }
}

/// A line of mountinfo: <https://www.kernel.org/doc/Documentation/filesystems/proc.rst>, section 3.5.
struct Mount<'a> {
    device: &'a str,
    /// What is mounted: a path within that file system.
    root: PathBuf,
    point: PathBuf,
    /// Where an overlay keeps what is written.
    upper: Option<PathBuf>,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let upper = line.split(" - overlay ").nth(1).and_then(|options| {
            options.split([' ', ',']).find_map(|option| option.strip_prefix("upperdir=")).map(unescape)
        });
        Some(Mount { device, root: unescape(fields.next()?), point: unescape(fields.next()?), upper })
    }

    /// Where the host sees what is mounted here; a file system may be mounted in several places.
    fn on_host(&self, host: &str) -> Vec<PathBuf> {
        let same = host.lines().filter_map(Mount::parse).filter(|mount| mount.device == self.device);
        same.filter_map(|mount| Some(mount.point.join(self.root.strip_prefix(&mount.root).ok()?)))
            .take(8)
            .collect()
    }
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescape(field: &str) -> PathBuf {
    let field = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    PathBuf::from(field.replace("\\134", "\\"))
}

/// A walk over all processes, for containers whose own are not known or have lost their shim.
#[derive(Default)]
pub(super) struct Scan {
    last: Option<Instant>,
    /// Where the next walk goes on.
    next: u32,
}

/// At 5 to 15 us a process a walk takes some 10 ms, at most once a second.
const PROCESSES: usize = 1024;
const PAUSE: Duration = Duration::from_secs(1);

impl Scan {
    pub fn run(&mut self, places: &mut Places, shape: &Shape, now: Instant) -> Told {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            return Told::Nothing;
        }
        self.last = Some(now);
        let listed = places.tree.list(Path::new("/proc"), 1 << 20);
        let mut pids: Vec<u32> = listed.iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        let start = pids.partition_point(|&pid| pid < self.next);
        let part = &pids[start..pids.len().min(start + PROCESSES)];
        self.next = if start + part.len() < pids.len() { pids[start + part.len()] } else { 0 };
        let mut learned = false;
        for &pid in part {
            match process(places, shape, pid, false) {
                Told::Name(found) => return Told::Name(found),
                Told::Places => learned = true,
                Told::Nothing => {}
            }
        }
        if learned { Told::Places } else { Told::Nothing }
    }
}
