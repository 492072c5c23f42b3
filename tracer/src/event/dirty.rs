//! Reads what became dirty and what was written back, once a tick: only what moved.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{self, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_ebpf::abi::dirty::{DirtyCount, FileCount, FileKey, FileRecent, RECENT_FILES};

use super::{Event, page_size};

/// A file at rest for so many looks is taken out of the kernel's map, which has room for others then.
const AT_REST: u32 = 10;

/// From so many on.
const CROWDED: usize = 4096;

type Files = maps::HashMap<MapData, FileKey, FileCount>;

/// The maps, taken out of the loaded object.
pub struct DirtyMaps {
    files: Files,
    /// Of them those that CPUs have at hand, with what is not added yet.
    recent: PerCpuArray<MapData, FileRecent>,
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
            recent: PerCpuArray::try_from(map("DIRTY_RECENT")?)?,
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
        let mut files = counts(&self.files);
        // After the map: what is added in between is seen at the next look, and nothing is counted twice. One that stays at
        // hand stays in the map.
        let mut at_hand = HashSet::new();
        for slot in 0..RECENT_FILES {
            let values = self.recent.get(&slot, 0).ok();
            for recent in
                values.iter().flat_map(|values| values.iter()).filter(|recent| recent.key.cgroup != 0)
            {
                at_hand.insert(recent.key);
                // One that was taken out of the map just before it came to hand is there alone.
                let known = files.entry(recent.key).or_insert(FileCount { pages: 0, ..recent.count });
                known.pages += recent.count.pages;
            }
        }
        take_in(&mut self.files, files, &at_hand, &mut self.last, patience, events);
        let beyond = counts(&self.beyond);
        take_in(&mut self.beyond, beyond, &HashSet::new(), &mut self.last, patience, events);
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

fn counts(map: &Files) -> HashMap<FileKey, FileCount> {
    // An entry that is deleted while the map is walked restarts or ends the walk; the next tick reads on.
    let keys = map.keys().map_while(Result::ok);
    keys.filter_map(|key| Some((key, map.get(&key, 0).ok()?))).collect()
}

fn take_in(
    map: &mut Files,
    counts: HashMap<FileKey, FileCount>,
    at_hand: &HashSet<FileKey>,
    last: &mut HashMap<FileKey, (u64, u32)>,
    patience: u32,
    events: &mut Vec<Event>,
) {
    for (key, count) in counts {
        let (before, looks) = last.get(&key).copied().unwrap_or_default();
        let more = count.pages.saturating_sub(before);
        if more > 0 {
            last.insert(key, (count.pages, 0));
            events.push(Event::Dirtied { key, comm: comm(&count.comm), bytes: more * page_size() });
        } else if looks < patience || at_hand.contains(&key) {
            last.insert(key, (before, looks.saturating_add(1)));
        } else {
            let _ = map.remove(&key);
            last.remove(&key);
        }
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
