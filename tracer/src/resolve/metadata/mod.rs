//! A container's name, pod, namespace and image, from files on disk and from /proc. Never asks a daemon: in the
//! incidents this tool is for, the runtime's socket hangs. Decides when to look and what to keep; what each
//! runtime writes, and where, is in the modules below.

mod cache;
mod containerd;
mod docker;
mod kubelet;
mod labels;
mod mounts;
mod proc;
mod rename;
mod storage;
mod tree;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{cache::Cache, proc::Scan, rename::Renames, tree::Tree};
use super::{
    Runtime,
    container::{self, Role, Shape},
};

/// What a runtime wrote about a container. Strings are as found (hostile), at most 256 characters long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub name: Option<String>,
    pub pod: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    /// A pod's sandbox ("pause") container.
    pub sandbox: bool,
    /// Whose file this was: corrects a shape that is not `certain`.
    pub runtime: Option<Runtime>,
    /// Where it was read, for people: "config.v2.json below /var/lib/docker".
    pub provenance: String,
    /// The file, where a container can be renamed while it runs.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Known(Arc<Metadata>),
    /// Nothing found so far; before this time a further call costs nothing and finds nothing.
    Later(Instant),
    /// Units, slices and plain cgroups have no metadata.
    Nameless,
}

/// How many containers are remembered, dead ones included.
const CACHED: usize = 8192;
/// Waits after each miss; the last one repeats. A name may appear a moment after the cgroup.
const RETRY: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// A plain directory is looked at so often: nearly all are none's.
const PLAIN: usize = 3;
/// A container's processes share their parent and their mounts: the first few tell all.
const PIDS: usize = 4;

/// Names by container id, with what was learned on the way.
pub struct Names {
    places: Places,
    scan: Scan,
    cache: Cache,
    renames: Renames,
}

/// Where files may be: the defaults, and what /proc has shown.
struct Places {
    tree: Tree,
    /// docker's data roots: they have `containers/<id>/config.v2.json`.
    docker: Roots,
    /// containerd's task directories by namespace: they have `<id>/config.json`.
    bundles: Roots,
    /// containers/storage, of podman and cri-o: they have `<id>/userdata`.
    storage: Roots,
}

/// What a look at a process brought.
enum Told {
    Name(Metadata),
    /// A place that was not known.
    Places,
    Nothing,
}

/// A runtime's reader of its own files.
struct Source {
    runtime: Runtime,
    find: fn(&mut Places, &Shape) -> Option<Metadata>,
}

/// For a shape that is not certain the sources are tried in this order, the shape's own first; podman and cri-o
/// mark their cgroups' names, so they are never in doubt.
const SOURCES: &[Source] = &[
    Source { runtime: Runtime::Docker, find: docker::find },
    Source { runtime: Runtime::Containerd, find: containerd::find },
    Source { runtime: Runtime::CriO, find: storage::cri_o },
    Source { runtime: Runtime::Podman, find: storage::podman },
];
const DOUBTFUL: [Runtime; 2] = [Runtime::Docker, Runtime::Containerd];

impl Names {
    /// Every path, /proc too, is read below `root`: "/", or where a test or a container has the host's tree.
    pub fn new(root: &Path) -> Names {
        Names::with_capacity(root, CACHED)
    }

    pub fn with_capacity(root: &Path, capacity: usize) -> Names {
        Names {
            places: Places {
                tree: Tree::new(root),
                docker: Roots::new(docker::ROOTS),
                bundles: Roots::new(containerd::ROOTS),
                storage: Roots::new(storage::ROOTS),
            },
            scan: Scan::default(),
            cache: Cache::new(capacity),
            renames: Renames::new(capacity),
        }
    }

    /// `pids`: processes in the cgroup, if known; they lead to files in places of someone's own choice.
    pub fn lookup(&mut self, shape: &Shape, pids: &[u32], now: Instant) -> Lookup {
        let key = match shape.role {
            Role::Pod => pod_key(shape, &shape.id),
            Role::Container => key(shape),
            Role::Plain => return self.plain(&shape.id, pids, now),
            _ => return Lookup::Nameless,
        };
        if let Some(known) = self.cache.get(&key) {
            return Lookup::Known(known);
        }
        let attempt = match self.cache.missed(&key) {
            Some(miss) if now < miss.retry && (miss.had_pids || pids.is_empty()) => {
                return Lookup::Later(miss.retry);
            }
            Some(miss) => miss.attempts,
            None => 0,
        };
        let found = if shape.role == Role::Pod {
            // The host's kubelet knows nothing of pods in a container.
            shape.outer.is_none().then(|| kubelet::pod(&mut self.places, &shape.id)).flatten()
        } else {
            // What is still unknown after all the waits is not worth further walks through /proc.
            self.container(shape, pids, now, attempt <= RETRY.len())
        };
        match found {
            Some(found) => Lookup::Known(self.keep(shape, &key, found)),
            None => {
                let retry = now + RETRY[attempt.min(RETRY.len() - 1)];
                self.cache.miss(&key, retry, attempt + 1, !pids.is_empty());
                Lookup::Later(retry)
            }
        }
    }

    /// A directory of no known shape is a container if a shim says so. Who has processes but no shim has none.
    fn plain(&mut self, path: &str, pids: &[u32], now: Instant) -> Lookup {
        let Some(shape) = container::in_namespace(path) else { return Lookup::Nameless };
        if let Some(known) = self.cache.get(path) {
            return Lookup::Known(known);
        }
        let attempt = self.cache.missed(path).map_or(0, |miss| miss.attempts);
        match pids.first() {
            Some(&pid) if proc::shim_at(&mut self.places, path, pid) => {
                if let Some(found) = self.places.known(&shape) {
                    return Lookup::Known(self.keep(&shape, path, found));
                }
            }
            Some(_) => return Lookup::Nameless,
            None => {}
        }
        if attempt >= PLAIN {
            return Lookup::Nameless;
        }
        let retry = now + RETRY[attempt];
        self.cache.miss(path, retry, attempt + 1, !pids.is_empty());
        Lookup::Later(retry)
    }

    /// Looks whether known containers were renamed, as many as a few milliseconds allow, the others the next time.
    /// Gives those that are called something else now; the next lookup tells what.
    pub fn renamed(&mut self) -> Vec<Shape> {
        let mut renamed = Vec::new();
        for shape in self.renames.moved(&self.places.tree) {
            // A file that cannot be read now takes no name away.
            let Some(found) = self.places.known(&shape) else { continue };
            let key = key(&shape);
            if self.cache.get(&key).is_some_and(|known| *known != found) {
                self.cache.put(&key, Arc::new(found));
                renamed.push(shape);
            }
        }
        renamed
    }

    /// What could not be read, and why: a sentence for the first of each kind.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.places.tree.problems()
    }

    /// How many containers are remembered: (with metadata, without).
    pub fn fill(&self) -> (usize, usize) {
        self.cache.fill()
    }

    /// From cheap to dear: known places, the container's ancestors, its mounts, what its ancestors see, all processes.
    fn container(&mut self, shape: &Shape, pids: &[u32], now: Instant, scan: bool) -> Option<Metadata> {
        let places = &mut self.places;
        if let Some(found) = places.known(shape) {
            return Some(found);
        }
        for ask in [proc::ancestors, mounts::learn] {
            let mut learned = false;
            for &pid in pids.iter().take(PIDS) {
                match ask(places, shape, pid) {
                    Told::Name(found) => return Some(found),
                    Told::Places => learned = true,
                    Told::Nothing => {}
                }
            }
            if learned && let Some(found) = places.known(shape) {
                return Some(found);
            }
        }
        if let Some(found) = pids.iter().take(PIDS).find_map(|&pid| proc::within(places, shape, pid)) {
            return Some(found);
        }
        match scan.then(|| self.scan.run(places, shape, now))? {
            Told::Name(found) => Some(found),
            Told::Places => places.known(shape),
            Told::Nothing => None,
        }
    }

    fn keep(&mut self, shape: &Shape, key: &str, found: Metadata) -> Arc<Metadata> {
        if let (Role::Container, Some(uid), Some(pod)) = (shape.role, &shape.pod_uid, &found.pod) {
            let pod = Metadata {
                pod: Some(pod.clone()),
                namespace: found.namespace.clone(),
                provenance: format!("one of its containers: {}", found.provenance),
                ..Metadata::default()
            };
            self.cache.put(&pod_key(shape, uid), Arc::new(pod));
        }
        if let Some(file) = &found.file {
            self.renames.watch(&self.places.tree, shape, file);
        }
        let found = Arc::new(found);
        self.cache.put(key, Arc::clone(&found));
        found
    }
}

/// A container may call what it nests by the id of another one or of its pod: that must not reach the other's name.
fn key(shape: &Shape) -> String {
    match (&shape.place, &shape.outer) {
        (Some(place), _) => place.clone(),
        (None, Some(outer)) => format!("{outer}/{}", shape.id),
        (None, None) => shape.id.clone(),
    }
}

/// Pods and containers share the cache; ids have no slash.
fn pod_key(shape: &Shape, uid: &str) -> String {
    format!("pod/{}/{uid}", shape.outer.as_deref().unwrap_or_default())
}

impl Places {
    /// What a process with a root of its own has shown.
    fn within(root: &Path, bundles: Option<PathBuf>, storage: Option<PathBuf>) -> Places {
        let roots = |list: Option<PathBuf>| Roots { list: list.into_iter().collect(), fixed: &[] };
        Places {
            tree: Tree::new(root),
            docker: roots(None),
            bundles: roots(bundles),
            storage: roots(storage),
        }
    }

    fn known(&mut self, shape: &Shape) -> Option<Metadata> {
        let own = SOURCES.iter().filter(|source| source.runtime == shape.runtime);
        let others = SOURCES.iter().filter(|source| {
            !shape.certain && source.runtime != shape.runtime && DOUBTFUL.contains(&source.runtime)
        });
        own.chain(others).find_map(|source| (source.find)(self, shape))
    }
}

/// Directories to try: the defaults for ever, learned ones up to a bound, the last that had an id first.
struct Roots {
    list: Vec<PathBuf>,
    fixed: &'static [&'static str],
}

/// More runtime instances than any host has; a bound, because processes name these directories.
const LEARNED: usize = 32;

impl Roots {
    fn new(fixed: &'static [&'static str]) -> Roots {
        Roots { list: fixed.iter().map(PathBuf::from).collect(), fixed }
    }

    /// A copy, so that the caller may learn and read while it walks.
    fn each(&self) -> Vec<PathBuf> {
        self.list.clone()
    }

    fn hit(&mut self, root: &Path) {
        if let Some(at) = self.list.iter().position(|known| known == root) {
            self.list[..=at].rotate_right(1);
        }
    }

    /// True if it is new.
    fn learn(&mut self, root: &Path) -> bool {
        if self.list.iter().any(|known| known == root) {
            return false;
        }
        if self.list.len() >= self.fixed.len() + LEARNED {
            let is_fixed = |known: &PathBuf| self.fixed.iter().any(|fixed| known == Path::new(fixed));
            if let Some(oldest) = self.list.iter().rposition(|known| !is_fixed(known)) {
                self.list.remove(oldest);
            }
        }
        self.list.push(root.to_owned());
        true
    }
}

#[cfg(test)]
mod tests;
