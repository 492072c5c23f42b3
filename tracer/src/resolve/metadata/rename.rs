//! Containers that may be renamed while they run, and the state in which their files were when they were read. Knows
//! no runtime and reads no file.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::tree::{Stamp, Tree};
use crate::resolve::container::Shape;

/// One look may take so long, of whatever number of containers: at 3 us each some thousand.
const LOOK: Duration = Duration::from_millis(3);

pub(super) struct Renames {
    capacity: usize,
    watched: VecDeque<Watched>,
}

struct Watched {
    shape: Shape,
    file: PathBuf,
    stamp: Stamp,
}

impl Renames {
    pub fn new(capacity: usize) -> Renames {
        Renames { capacity, watched: VecDeque::new() }
    }

    pub fn watch(&mut self, tree: &Tree, shape: &Shape, file: &Path) {
        // A file that is gone already belongs to one that is.
        let Some(stamp) = tree.stamp(file) else { return };
        if self.watched.len() >= self.capacity {
            self.watched.pop_front();
        }
        self.watched.push_back(Watched { shape: shape.clone(), file: file.to_owned(), stamp });
    }

    /// Those whose files are not what they were; those whose files are gone are forgotten.
    pub fn moved(&mut self, tree: &Tree) -> Vec<Shape> {
        let start = Instant::now();
        let mut moved = Vec::new();
        for _ in 0..self.watched.len() {
            if start.elapsed() > LOOK {
                break;
            }
            let Some(mut watched) = self.watched.pop_front() else { break };
            let Some(stamp) = tree.stamp(&watched.file) else { continue };
            if stamp != watched.stamp {
                moved.push(watched.shape.clone());
                watched.stamp = stamp;
            }
            self.watched.push_back(watched);
        }
        moved
    }

    #[cfg(test)]
    pub fn fill(&self) -> usize {
        self.watched.len()
    }
}
