//! Reads which connections arrived, and how long processes lived that ended.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{self, MapData, MapError},
};
use tracer_ebpf::abi::work::{LifeCount, LifeKey, Listener};

/// From so many on, times of life of rows that nobody looks at are taken out.
const CROWDED: usize = 3072;

/// The maps, taken out of the loaded object.
pub struct WorkMaps {
    arrivals: maps::HashMap<MapData, Listener, u64>,
    lives: maps::HashMap<MapData, LifeKey, LifeCount>,
}

/// Processes of one name in one memory cgroup that ended: buckets of times, shortest first.
pub type Lives = HashMap<(u64, String), Vec<LifeCount>>;

impl WorkMaps {
    pub fn take(ebpf: &mut Ebpf) -> Result<WorkMaps, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(WorkMaps {
            arrivals: maps::HashMap::try_from(map("ARRIVALS")?)?,
            lives: maps::HashMap::try_from(map("LIVES")?)?,
        })
    }

    /// Since attach, by listening port.
    pub fn arrivals(&self) -> HashMap<Listener, u64> {
        // An entry that is added while the map is walked may be missed; the next look has it.
        self.arrivals.iter().map_while(Result::ok).collect()
    }

    /// Since attach, of cgroups that are `wanted`. Where there is little room left, the others' are dropped.
    pub fn lives(&mut self, wanted: impl Fn(u64) -> bool) -> Lives {
        let mut found: HashMap<(u64, String), Vec<(u64, LifeCount)>> = HashMap::new();
        let keys: Vec<LifeKey> = self.lives.keys().map_while(Result::ok).collect();
        let crowded = keys.len() >= CROWDED;
        for key in keys {
            if !wanted(key.cgroup) {
                if crowded {
                    let _ = self.lives.remove(&key);
                }
                continue;
            }
            let Ok(count) = self.lives.get(&key, 0) else { continue };
            found.entry((key.cgroup, super::dirty::comm(&key.comm))).or_default().push((key.bucket, count));
        }
        let sorted = |mut buckets: Vec<(u64, LifeCount)>| {
            buckets.sort_by_key(|(bucket, _)| *bucket);
            buckets.into_iter().map(|(_, count)| count).collect()
        };
        found.into_iter().map(|(key, buckets)| (key, sorted(buckets))).collect()
    }
}
