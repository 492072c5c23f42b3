//! Where runtimes keep their files: the usual places, those that /proc has shown, and who reads what there.

use std::path::{Path, PathBuf};

use super::{Metadata, containerd, docker, storage, tree::Tree};
use crate::resolve::{Runtime, container::Shape};

/// Where files may be: the defaults, and what /proc has shown.
pub(super) struct Places {
    pub tree: Tree,
    /// docker's data roots: they have `containers/<id>/config.v2.json`.
    pub docker: Roots,
    /// containerd's task directories by namespace: they have `<id>/config.json`.
    pub bundles: Roots,
    /// containers/storage, of podman and cri-o: they have `<id>/userdata`.
    pub storage: Roots,
}

/// What a look at a process brought.
pub(super) enum Told {
    Name(Metadata),
    /// A place that was not known.
    Places,
    Nothing,
}

/// A runtime's reader of its own files.
pub(super) struct Source {
    pub runtime: Runtime,
    find: fn(&mut Places, &Shape) -> Option<Metadata>,
}

/// For a shape that is not certain the sources are tried in this order, the shape's own first; podman and cri-o
/// mark their cgroups' names, so they are never in doubt.
pub(super) const SOURCES: &[Source] = &[
    Source { runtime: Runtime::Docker, find: docker::find },
    Source { runtime: Runtime::Containerd, find: containerd::find },
    Source { runtime: Runtime::CriO, find: storage::cri_o },
    Source { runtime: Runtime::Podman, find: storage::podman },
];
const DOUBTFUL: [Runtime; 2] = [Runtime::Docker, Runtime::Containerd];

impl Places {
    /// The defaults, all below one root.
    pub fn new(tree: Tree) -> Places {
        Places {
            tree,
            docker: Roots::new(docker::ROOTS),
            bundles: Roots::new(containerd::ROOTS),
            storage: Roots::new(storage::ROOTS),
        }
    }

    /// What a process with a root of its own has shown.
    pub fn within(tree: Tree, bundles: Option<PathBuf>, storage: Option<PathBuf>) -> Places {
        let roots = |list: Option<PathBuf>| Roots { list: list.into_iter().collect(), fixed: &[] };
        Places { tree, docker: roots(None), bundles: roots(bundles), storage: roots(storage) }
    }

    pub fn known(&mut self, shape: &Shape) -> Option<Metadata> {
        let own = SOURCES.iter().filter(|source| source.runtime == shape.runtime);
        let others = SOURCES.iter().filter(|source| {
            !shape.certain && source.runtime != shape.runtime && DOUBTFUL.contains(&source.runtime)
        });
        own.chain(others).find_map(|source| (source.find)(self, shape))
    }
}

/// Directories to try: the defaults for ever, learned ones up to a bound, the last that had an id first.
pub(super) struct Roots {
    list: Vec<PathBuf>,
    fixed: &'static [&'static str],
}

/// More runtime instances than any host has; a bound, because processes name these directories.
pub(super) const LEARNED: usize = 32;

impl Roots {
    pub fn new(fixed: &'static [&'static str]) -> Roots {
        Roots { list: fixed.iter().map(PathBuf::from).collect(), fixed }
    }

    /// A copy, so that the caller may learn and read while it walks.
    pub fn each(&self) -> Vec<PathBuf> {
        self.list.clone()
    }

    pub fn hit(&mut self, root: &Path) {
        if let Some(at) = self.list.iter().position(|known| known == root) {
            self.list[..=at].rotate_right(1);
        }
    }

    /// True if it is new.
    pub fn learn(&mut self, root: &Path) -> bool {
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
