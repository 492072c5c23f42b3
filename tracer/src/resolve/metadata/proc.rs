//! What processes give away: a shim's working directory, conmon's arguments. Reads links and small files of /proc;
//! never `cmdline` of a stranger, which waits for the lock that a stuck task holds. What runs in a container may look
//! like anything, so it is never asked about containers.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Metadata, Places, Told, containerd, storage, tree::Tree};
use crate::{
    kernel::proc::memory_cgroup,
    resolve::{
        Runtime,
        container::{self, Shape},
    },
};

/// A container's processes are rarely deeper below their shim.
const ANCESTORS: usize = 16;
/// While runc makes a container its first process is two below the shim.
const NEAR: usize = 4;

/// What the ancestors of `pid`, a process in the container, lead to: its shim or conmon is one.
pub(super) fn ancestors(places: &mut Places, shape: &Shape, pid: u32) -> Told {
    let mut learned = false;
    for up in above(&places.tree, shape, pid) {
        // In another container, where paths are not the host's: see `within`.
        if in_container(&places.tree, up) {
            continue;
        }
        match process(places, shape, up, true) {
            Told::Name(found) => return Told::Name(found),
            Told::Places => learned = true,
            Told::Nothing => {}
        }
    }
    if learned { Told::Places } else { Told::Nothing }
}

/// The ancestors of a process in a container, without those that are in it.
fn above(tree: &Tree, shape: &Shape, pid: u32) -> Vec<u32> {
    let own = cgroup(tree, pid).and_then(|path| own_cgroup(&path, shape));
    let inside = |pid| {
        own.as_ref()
            .is_some_and(|own| cgroup(tree, pid).is_some_and(|path| Path::new(&path).starts_with(own)))
    };
    let mut up = pid;
    let chain = std::iter::from_fn(|| {
        up = parent(tree, up).filter(|parent| *parent > 1)?;
        Some(up)
    });
    chain.take(ANCESTORS).filter(|pid| !inside(*pid)).collect()
}

/// The memory cgroup of a process.
fn cgroup(tree: &Tree, pid: u32) -> Option<String> {
    let lines = tree.proc(&format!("/proc/{pid}/cgroup"))?;
    memory_cgroup(&lines).map(str::to_owned)
}

/// The part of a process's path that is the container's cgroup: the topmost, because a container may call its own
/// cgroups as it likes.
fn own_cgroup(path: &str, shape: &Shape) -> Option<PathBuf> {
    if let Some(place) = &shape.place {
        return Path::new(path).starts_with(place).then(|| PathBuf::from(place));
    }
    let named = |up: &&Path| {
        up.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(&shape.id))
    };
    Path::new(path).ancestors().filter(named).last().map(Path::to_owned)
}

/// Where a runtime in a container keeps things is a path in that container: what the shim above `pid` can read.
pub(super) fn within(places: &Places, shape: &Shape, pid: u32) -> Option<Metadata> {
    let tree = &places.tree;
    // Without this no ancestor is known to be outside of the container.
    own_cgroup(&cgroup(tree, pid)?, shape)?;
    above(tree, shape, pid).into_iter().find_map(|up| {
        let cwd = tree.link(&format!("/proc/{up}/cwd"));
        let bundles = cwd.and_then(|cwd| containerd::bundles_of(&cwd, &shape.id));
        let conmon = conmon(tree, up).filter(|conmon| conmon.id == shape.id);
        let storage = conmon.and_then(|conmon| storage::root_of(&conmon.bundle));
        if bundles.is_none() && storage.is_none() {
            return None;
        }
        let found = Places::within(tree.seen_by(up), bundles, storage).known(shape)?;
        let provenance = format!("{}, as process {up} sees it", found.provenance);
        Some(Metadata { provenance, file: None, ..found })
    })
}

/// Learns the bundles of the shim above `pid` if it serves the container at the cgroup's path, and nothing else.
pub(super) fn shim_at(places: &mut Places, place: &str, pid: u32) -> bool {
    let mut up = pid;
    for _ in 0..NEAR {
        match parent(&places.tree, up) {
            Some(parent) if parent > 1 => up = parent,
            _ => break,
        }
        if cgroup(&places.tree, up).is_some_and(|path| Path::new(&path).starts_with(place)) {
            continue;
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
/// only those of the owner of process 1 count, and none that is in a container.
fn trusted(tree: &Tree, pid: u32) -> bool {
    let owner = tree.owner("/proc/1");
    let same = owner.is_some() && owner == tree.owner(&format!("/proc/{pid}"));
    // root in a container is root.
    same && !in_container(tree, pid)
}

fn in_container(tree: &Tree, pid: u32) -> bool {
    cgroup(tree, pid).is_some_and(|path| container::is_inside(&path))
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
