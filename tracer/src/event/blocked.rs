//! Reads which tasks are in uninterruptible sleep, and how long those that left it were, once a tick.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{self, MapData, MapError, PerCpuHashMap},
};
use tracer_ebpf::abi::blocked::{Blocked, BlockedCount, DurationKey, Durations};

/// Tasks that are looked at in a tick.
const TASKS: usize = 16384;

/// The maps, taken out of the loaded object.
pub struct BlockedMaps {
    tasks: maps::HashMap<MapData, u32, Blocked>,
    times: PerCpuHashMap<MapData, u64, BlockedCount>,
    durations: maps::HashMap<MapData, DurationKey, Durations>,
    last: HashMap<u64, BlockedCount>,
}

/// What moved since the last look.
#[derive(Debug, Default)]
pub struct Moved {
    /// Totals since attach by memory cgroup.
    pub times: Vec<(u64, BlockedCount)>,
    /// Likewise.
    pub durations: Vec<(DurationKey, Durations)>,
}

impl BlockedMaps {
    pub fn take(ebpf: &mut Ebpf) -> Result<BlockedMaps, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(BlockedMaps {
            tasks: maps::HashMap::try_from(map("BLOCKED")?)?,
            times: PerCpuHashMap::try_from(map("BLOCKED_TIMES")?)?,
            durations: maps::HashMap::try_from(map("DURATIONS")?)?,
            last: HashMap::new(),
        })
    }

    /// Tasks that are blocked now, by number.
    pub fn tasks(&self) -> Vec<(u32, Blocked)> {
        // A task that runs meanwhile ends the walk, and it begins anew: then some come twice.
        let mut seen = HashSet::new();
        let keys: Vec<u32> = self.tasks.keys().take(TASKS).filter_map(Result::ok).collect();
        let new = keys.into_iter().filter(|tid| seen.insert(*tid));
        new.filter_map(|tid| Some((tid, self.tasks.get(&tid, 0).ok()?))).collect()
    }

    /// The kernel's entry for one that is not blocked any more.
    pub fn forget(&mut self, tid: u32) {
        let _ = self.tasks.remove(&tid);
    }

    pub fn moved(&mut self) -> Moved {
        let mut moved = Moved::default();
        for key in self.times.keys() {
            let Ok(id) = key else { break };
            let Ok(values) = self.times.get(&id, 0) else { continue };
            let mut sum = BlockedCount::default();
            for value in values.iter() {
                sum.count += value.count;
                sum.time += value.time;
                sum.max = sum.max.max(value.max);
                sum.io_count += value.io_count;
                sum.io_time += value.io_time;
                sum.killable_count += value.killable_count;
                sum.killable_time += value.killable_time;
            }
            if self.last.insert(id, sum) != Some(sum) {
                moved.times.push((id, sum));
            }
        }
        if moved.times.is_empty() {
            return moved;
        }
        let of: HashSet<u64> = moved.times.iter().map(|(id, _)| *id).collect();
        for key in self.durations.keys().filter_map(Result::ok).filter(|key| of.contains(&key.cgroup)) {
            if let Ok(counts) = self.durations.get(&key, 0) {
                moved.durations.push((key, counts));
            }
        }
        moved
    }

    /// Drops the entries of cgroups that `known` does not know any more.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        let gone: HashSet<u64> = self.last.keys().copied().filter(|id| !known(*id)).collect();
        if gone.is_empty() {
            return;
        }
        for id in &gone {
            let _ = self.times.remove(id);
            self.last.remove(id);
        }
        let keys: Vec<DurationKey> =
            self.durations.keys().filter_map(Result::ok).filter(|key| gone.contains(&key.cgroup)).collect();
        for key in keys {
            let _ = self.durations.remove(&key);
        }
    }
}
