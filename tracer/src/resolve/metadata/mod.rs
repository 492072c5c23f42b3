//! A container's name, pod, namespace and image, from files on disk and from /proc. Never asks a daemon: in the
//! incidents this tool is for, the runtime's socket hangs. Decides when to look and what to keep; what each
//! runtime writes, and where, is in the modules below.

mod apart;
mod cache;
mod containerd;
mod docker;
mod kubelet;
mod labels;
mod mounts;
mod places;
mod proc;
mod reader;
mod rename;
mod storage;
mod tree;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    apart::Apart,
    cache::Cache,
    places::{Places, Told},
    reader::Plain,
};
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
/// The same while a file system does not answer.
const UNANSWERED: Duration = Duration::from_secs(1);
/// A plain directory is looked at so often: nearly all are none's.
const PLAIN: usize = 3;
/// Names by container id, with what was learned on the way.
pub struct Names {
    cache: Cache,
    apart: Apart,
}

impl Names {
    /// Every path, /proc too, is read below `root`: "/", or where a test or a container has the host's tree.
    pub fn new(root: &Path) -> Names {
        Names::with_capacity(root, CACHED)
    }

    pub fn with_capacity(root: &Path, capacity: usize) -> Names {
        Names { cache: Cache::new(capacity), apart: Apart::new(root, capacity) }
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
        let (wanted, pids) = (shape.clone(), pids.to_vec());
        let had_pids = !pids.is_empty();
        let found = if shape.role == Role::Pod {
            // The host's kubelet knows nothing of pods in a container.
            match shape.outer {
                None => self.apart.ask(move |reader| reader.pod(&wanted.id)),
                Some(_) => Some(None),
            }
        } else {
            // What is still unknown after all the waits is not worth further walks through /proc.
            let scan = attempt <= RETRY.len();
            self.apart.ask(move |reader| reader.container(&wanted, &pids, now, scan))
        };
        let Some(found) = found else { return Lookup::Later(now + UNANSWERED) };
        match found {
            Some(found) => Lookup::Known(self.keep(shape, &key, found)),
            // What was kept away from may have it.
            None if self.apart.keeps_away() => Lookup::Later(now + UNANSWERED),
            None => {
                let retry = now + RETRY[attempt.min(RETRY.len() - 1)];
                self.cache.miss(&key, retry, attempt + 1, had_pids);
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
        if let Some(&pid) = pids.first() {
            let (wanted, place) = (shape.clone(), path.to_owned());
            match self.apart.ask(move |reader| reader.plain(&wanted, &place, pid)) {
                Some(Plain::Found(found)) => return Lookup::Known(self.keep(&shape, path, found)),
                Some(Plain::Unread) => {}
                Some(Plain::No) => return Lookup::Nameless,
                None => return Lookup::Later(now + UNANSWERED),
            }
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
        for (shape, found) in self.apart.ask(reader::Reader::moved).unwrap_or_default() {
            let key = key(&shape);
            if self.cache.get(&key).is_some_and(|known| *known != found) {
                self.cache.put(&key, Arc::new(found));
                renamed.push(shape);
            }
        }
        renamed
    }

    /// What could not be read, and why: a sentence for the first of each kind.
    pub fn problems(&mut self) -> Vec<String> {
        let told = self.apart.ask(|reader| reader.places.tree.problems().map(str::to_owned).collect());
        told.unwrap_or_default()
    }

    /// How often a name was not read because a file system does not answer.
    pub fn unanswered(&self) -> u64 {
        self.apart.unanswered()
    }

    /// How many containers are remembered: (with metadata, without).
    pub fn fill(&self) -> (usize, usize) {
        self.cache.fill()
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

#[cfg(test)]
mod tests;
