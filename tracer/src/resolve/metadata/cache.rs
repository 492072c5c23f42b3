//! What lookups found and what they missed, both bounded: the least recently used go first. Knows no time.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::Metadata;

pub(super) struct Cache {
    capacity: usize,
    /// Counts uses; a stamp per entry stands in for a list.
    clock: u64,
    known: HashMap<String, (Arc<Metadata>, u64)>,
    missed: HashMap<String, (Miss, u64)>,
}

#[derive(Clone, Copy)]
pub(super) struct Miss {
    pub retry: Instant,
    pub attempts: usize,
    pub had_pids: bool,
}

impl Cache {
    pub fn new(capacity: usize) -> Cache {
        Cache { capacity: capacity.max(1), clock: 0, known: HashMap::new(), missed: HashMap::new() }
    }

    pub fn get(&mut self, id: &str) -> Option<Arc<Metadata>> {
        self.clock += 1;
        let (found, used) = self.known.get_mut(id)?;
        *used = self.clock;
        Some(Arc::clone(found))
    }

    pub fn put(&mut self, id: &str, found: Arc<Metadata>) {
        self.clock += 1;
        self.missed.remove(id);
        self.known.insert(id.to_owned(), (found, self.clock));
        trim(&mut self.known, self.capacity);
    }

    pub fn missed(&self, id: &str) -> Option<Miss> {
        self.missed.get(id).map(|(miss, _)| *miss)
    }

    pub fn miss(&mut self, id: &str, retry: Instant, attempts: usize, had_pids: bool) {
        self.clock += 1;
        self.missed.insert(id.to_owned(), (Miss { retry, attempts, had_pids }, self.clock));
        trim(&mut self.missed, self.capacity);
    }

    pub fn fill(&self) -> (usize, usize) {
        (self.known.len(), self.missed.len())
    }
}

/// Over the bound, an eighth goes at once, so that the walk is rare.
fn trim<V>(map: &mut HashMap<String, (V, u64)>, capacity: usize) {
    if map.len() <= capacity {
        return;
    }
    let mut stamps: Vec<u64> = map.values().map(|(_, used)| *used).collect();
    let drop = (capacity / 8).max(1).min(stamps.len() - 1);
    let (_, &mut oldest_kept, _) = stamps.select_nth_unstable(drop);
    map.retain(|_, (_, used)| *used >= oldest_kept);
}
