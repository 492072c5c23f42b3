//! Reads what became dirty and what was written back, once a tick: only what moved.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{self, MapData, MapError, PerCpuHashMap, RingBuf},
};
use tracer_ebpf::abi::dirty::{DirtyCount, FileCount, FileKey};

use super::{Event, page_size};

/// A file at rest for so many looks is taken out of the kernel's map, which has room for others then.
const AT_REST: u32 = 10;

/// From so many on.
const CROWDED: usize = 4096;

type Files = maps::HashMap<MapData, FileKey, FileCount>;

/// The maps, taken out of the loaded object.
pub struct DirtyMaps {
    files: Files,
    /// Of processes, for whose files there was no room.
    beyond: Files,
    cgroups: PerCpuHashMap<MapData, u64, DirtyCount>,
    fresh: RingBuf<MapData>,
    /// Pages that were read last, and for how many looks they have been the same.
    last: HashMap<FileKey, (u64, u32)>,
    last_of_cgroup: HashMap<u64, DirtyCount>,
}

impl DirtyMaps {
    pub fn take(ebpf: &mut Ebpf) -> Result<DirtyMaps, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        Ok(DirtyMaps {
            files: maps::HashMap::try_from(map("DIRTY_FILES")?)?,
            beyond: maps::HashMap::try_from(map("DIRTY_BEYOND")?)?,
            cgroups: PerCpuHashMap::try_from(map("DIRTY_CGROUPS")?)?,
            fresh: RingBuf::try_from(map("DIRTY_NEW")?)?,
            last: HashMap::new(),
            last_of_cgroup: HashMap::new(),
        })
    }

    /// Files that became dirty for the first time since the last look, as far as they were told of.
    pub fn fresh(&mut self) -> Vec<FileKey> {
        let mut keys = Vec::new();
        while let Some(item) = self.fresh.next() {
            let word = |at: usize| item.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
            let half = |at: usize| item.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
            if let (Some(cgroup), Some(ino), Some(pid), Some(dev)) = (word(0), word(8), half(16), half(20)) {
                keys.push(FileKey { cgroup, ino, pid, dev });
            }
        }
        keys
    }

    /// What came since the last look.
    pub fn read(&mut self, events: &mut Vec<Event>) {
        // In a flood of files those that stand still make room at once.
        let patience = if self.last.len() > CROWDED { 0 } else { AT_REST };
        for map in [&mut self.files, &mut self.beyond] {
            read_files(map, &mut self.last, patience, events);
        }
        self.read_cgroups(events);
    }

    fn read_cgroups(&mut self, events: &mut Vec<Event>) {
        for key in self.cgroups.keys() {
            let Ok(id) = key else { break };
            let Ok(values) = self.cgroups.get(&id, 0) else { continue };
            let now = values.iter().fold(DirtyCount::default(), |a, b| combine(a, *b, u64::wrapping_add));
            let before = self.last_of_cgroup.insert(id, now).unwrap_or_default();
            if now != before {
                events.push(Event::WrittenBack { id, more: combine(now, before, u64::saturating_sub) });
            }
        }
    }

    /// Drops the counts of cgroups that `known` does not know any more.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.last_of_cgroup.keys().copied().filter(|id| !known(*id)).collect();
        for id in gone {
            let _ = self.cgroups.remove(&id);
            self.last_of_cgroup.remove(&id);
        }
    }
}

fn read_files(
    map: &mut Files,
    last: &mut HashMap<FileKey, (u64, u32)>,
    patience: u32,
    events: &mut Vec<Event>,
) {
    let mut rested = Vec::new();
    for key in map.keys() {
        // An entry that is deleted while the map is walked restarts or ends the walk; the next tick reads on.
        let Ok(key) = key else { break };
        let Ok(count) = map.get(&key, 0) else { continue };
        let (before, looks) = last.get(&key).copied().unwrap_or_default();
        let more = count.pages.saturating_sub(before);
        if more > 0 {
            last.insert(key, (count.pages, 0));
            events.push(Event::Dirtied { key, comm: comm(&count.comm), bytes: more * page_size() });
        } else if looks < patience {
            last.insert(key, (count.pages, looks + 1));
        } else {
            rested.push(key);
        }
    }
    for key in rested {
        let _ = map.remove(&key);
        last.remove(&key);
    }
}

fn combine(a: DirtyCount, b: DirtyCount, by: fn(u64, u64) -> u64) -> DirtyCount {
    DirtyCount {
        beyond: by(a.beyond, b.beyond),
        written: by(a.written, b.written),
        started: by(a.started, b.started),
        undirtied: by(a.undirtied, b.undirtied),
        cleaned: by(a.cleaned, b.cleaned),
        throttled_ms: by(a.throttled_ms, b.throttled_ms),
    }
}

/// Up to its NUL.
pub(super) fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_nul_and_may_be_anything() {
        assert_eq!(comm(b"qemu-img\0leftover"[..16].try_into().unwrap()), "qemu-img");
        assert_eq!(comm(&[b'x'; 16]), "x".repeat(16));
        assert_eq!(comm(&[0xff; 16]).chars().count(), 16);
    }

    #[test]
    fn counts_are_taken_apart_and_together() {
        let one = DirtyCount { beyond: 1, written: 2, started: 3, undirtied: 4, cleaned: 5, throttled_ms: 6 };
        let two = combine(one, one, u64::wrapping_add);
        assert_eq!(combine(two, one, u64::saturating_sub), one);
        assert_eq!(combine(one, two, u64::saturating_sub), DirtyCount::default());
    }
}
