//! What is read of a container, wherever a runtime wrote it. It may hang with a file system: see `apart`.

use std::time::Instant;

use super::{
    Metadata, kubelet, mounts,
    places::{Places, Told},
    proc::{self, Scan},
    rename::Renames,
    tree::Tree,
};
use crate::resolve::container::Shape;

/// A container's processes share their parent and their mounts: the first few tell all.
const PIDS: usize = 4;

pub(super) struct Reader {
    pub places: Places,
    scan: Scan,
    renames: Renames,
}

/// Whether a plain directory is a container.
pub(super) enum Plain {
    Found(Metadata),
    /// It has a shim, whose files are not there yet.
    Unread,
    /// Who has processes but no shim is none.
    No,
}

impl Reader {
    /// `capacity`: so many files are watched for renames.
    pub fn new(tree: Tree, capacity: usize) -> Reader {
        Reader { places: Places::new(tree), scan: Scan::default(), renames: Renames::new(capacity) }
    }

    pub fn pod(&mut self, uid: &str) -> Option<Metadata> {
        kubelet::pod(&mut self.places, uid)
    }

    pub fn plain(&mut self, shape: &Shape, path: &str, pid: u32) -> Plain {
        if !proc::shim_at(&mut self.places, path, pid) {
            return Plain::No;
        }
        match self.places.known(shape) {
            Some(found) => Plain::Found(self.watched(shape, found)),
            None => Plain::Unread,
        }
    }

    pub fn container(&mut self, shape: &Shape, pids: &[u32], now: Instant, scan: bool) -> Option<Metadata> {
        let found = self.find(shape, pids, now, scan)?;
        Some(self.watched(shape, found))
    }

    /// Containers whose files have changed, and what they say now, as many as a few milliseconds allow.
    pub fn moved(&mut self) -> Vec<(Shape, Metadata)> {
        let moved = self.renames.moved(&self.places.tree);
        // A file that cannot be read now takes no name away.
        moved.into_iter().filter_map(|shape| Some((shape.clone(), self.places.known(&shape)?))).collect()
    }

    #[cfg(test)]
    pub fn watches(&self) -> usize {
        self.renames.fill()
    }

    fn watched(&mut self, shape: &Shape, found: Metadata) -> Metadata {
        if let Some(file) = &found.file {
            self.renames.watch(&self.places.tree, shape, file);
        }
        found
    }

    /// From cheap to dear: known places, the container's ancestors, its mounts, what its ancestors see, all processes.
    fn find(&mut self, shape: &Shape, pids: &[u32], now: Instant, scan: bool) -> Option<Metadata> {
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
}
