//! Reads the counter maps of the probes once a tick: totals per memory cgroup, losses.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuHashMap},
};
use tracer_ebpf::abi::{counter::CgroupCount, failure::Failure};

use super::Event;

/// Every loss that an object's programs counted.
pub fn failures(map: &PerCpuArray<MapData, u64>, events: &mut Vec<Event>) {
    for failure in Failure::ALL {
        if let Ok(values) = map.get(&(*failure as u32), 0) {
            let count = values.iter().sum();
            if count > 0 {
                events.push(Event::Lost { what: failure.sentence(), count });
            }
        }
    }
}

/// The maps, taken out of the loaded object.
pub struct Counters {
    cgroups: PerCpuHashMap<MapData, u64, CgroupCount>,
    failures: PerCpuArray<MapData, u64>,
    /// What was read last: only what moved becomes an event.
    last: HashMap<u64, CgroupCount>,
}

impl Counters {
    pub fn take(ebpf: &mut Ebpf) -> Result<Counters, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(Counters {
            cgroups: PerCpuHashMap::try_from(map("CGROUPS")?)?,
            failures: PerCpuArray::try_from(map("FAILURES")?)?,
            last: HashMap::new(),
        })
    }

    /// Totals of every memory cgroup whose counts moved, and every loss there is.
    pub fn read(&mut self, events: &mut Vec<Event>) {
        for key in self.cgroups.keys() {
            // An entry that is deleted while the map is walked restarts or ends the walk; the next tick reads on.
            let Ok(id) = key else { break };
            let Ok(values) = self.cgroups.get(&id, 0) else { continue };
            let mut count = CgroupCount::default();
            for value in values.iter() {
                count.charged += value.charged;
                count.uncharged += value.uncharged;
                count.execs += value.execs;
                count.exits += value.exits;
            }
            if self.last.insert(id, count) != Some(count) {
                events.push(Event::Counted { id, count });
            }
        }
        failures(&self.failures, events);
    }

    /// Drops the entries of cgroups that `known` does not know any more.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.last.keys().copied().filter(|id| !known(*id)).collect();
        for id in gone {
            let _ = self.cgroups.remove(&id);
            self.last.remove(&id);
        }
    }
}
