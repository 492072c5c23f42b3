//! Reads the sites of charges once a tick, and says which memory cgroups are followed.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{self, MapData, MapError, PerCpuHashMap, PerCpuValues},
};
use tracer_ebpf::abi::site::{Frames, NO_STACK, SiteCount, SiteKey};

use super::{Event, counters::failures, page_size};
use maps::PerCpuArray;

/// The maps, taken out of an object loaded for this alone.
pub struct Sites {
    targets: PerCpuHashMap<MapData, u64, u64>,
    sites: maps::HashMap<MapData, SiteKey, SiteCount>,
    stacks: maps::HashMap<MapData, u64, Frames>,
    failures: PerCpuArray<MapData, u64>,
    followed: HashSet<u64>,
    cpus: usize,
    /// What was read last: only what moved becomes an event.
    last: HashMap<SiteKey, SiteCount>,
}

impl Sites {
    pub fn take(ebpf: &mut Ebpf) -> Result<Sites, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(Sites {
            targets: PerCpuHashMap::try_from(map("SITE_TARGETS")?)?,
            sites: maps::HashMap::try_from(map("SITES")?)?,
            stacks: maps::HashMap::try_from(map("STACKS")?)?,
            failures: PerCpuArray::try_from(map("FAILURES")?)?,
            followed: HashSet::new(),
            cpus: aya::util::nr_cpus().unwrap_or(1),
            last: HashMap::new(),
        })
    }

    /// Follows these memory cgroups and no others; gives how many there is no room for.
    pub fn follow(&mut self, wanted: &HashSet<u64>) -> usize {
        for id in self.followed.difference(wanted) {
            let _ = self.targets.remove(id);
        }
        self.followed.retain(|id| wanted.contains(id));
        let mut beyond = 0;
        for id in wanted {
            if self.followed.contains(id) {
                continue;
            }
            let none = PerCpuValues::try_from(vec![0; self.cpus]);
            match none.map(|none| self.targets.insert(id, none, 0)) {
                Ok(Ok(())) => {
                    self.followed.insert(*id);
                }
                _ => beyond += 1,
            }
        }
        beyond
    }

    /// Totals of every site that charged since the last time, and every loss there is.
    pub fn read(&mut self, events: &mut Vec<Event>) {
        for entry in self.sites.iter() {
            let Ok((key, count)) = entry else { break };
            if self.last.insert(key, count) == Some(count) {
                continue;
            }
            events.push(Event::Charged {
                id: key.cgroup,
                pid: key.pid,
                comm: comm(&count.comm),
                stack: (key.stack != NO_STACK).then_some(key.stack),
                bytes: count.pages * page_size(),
                samples: count.samples,
            });
        }
        failures(&self.failures, events);
    }

    /// The return addresses of a stack, the innermost first.
    pub fn stack(&self, key: u64) -> Option<Vec<u64>> {
        let frames = self.stacks.get(&key, 0).ok()?;
        Some(frames.into_iter().take_while(|address| *address != 0).collect())
    }
}

/// Up to its NUL; what is not UTF-8 in it is shown as such.
fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
