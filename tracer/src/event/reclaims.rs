//! Reads how long tasks were in direct reclaim, by memory cgroup, once a tick.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuHashMap},
};
use tracer_ebpf::abi::oom::ReclaimCount;

use super::Event;

/// The map, taken out of the loaded object.
pub struct Reclaims {
    map: PerCpuHashMap<MapData, u64, ReclaimCount>,
    /// What was read last: only what moved becomes an event.
    last: HashMap<u64, ReclaimCount>,
}

impl Reclaims {
    pub fn take(ebpf: &mut Ebpf) -> Result<Reclaims, MapError> {
        let map = ebpf.take_map("RECLAIMS");
        let map = map.ok_or_else(|| MapError::InvalidName { name: "RECLAIMS".to_owned() })?;
        Ok(Reclaims { map: PerCpuHashMap::try_from(map)?, last: HashMap::new() })
    }

    pub fn read(&mut self, events: &mut Vec<Event>) {
        for key in self.map.keys() {
            // As with other counters: an entry that goes meanwhile ends the walk, the next tick reads on.
            let Ok(id) = key else { break };
            let Ok(values) = self.map.get(&id, 0) else { continue };
            let mut count = ReclaimCount::default();
            for value in values.iter() {
                count.passes += value.passes;
                count.time += value.time;
                count.pages += value.pages;
            }
            if self.last.insert(id, count) != Some(count) {
                events.push(Event::Reclaimed { id, count });
            }
        }
    }

    /// Drops the entries of cgroups that `known` does not know any more.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.last.keys().copied().filter(|id| !known(*id)).collect();
        for id in gone {
            let _ = self.map.remove(&id);
            self.last.remove(&id);
        }
    }
}
