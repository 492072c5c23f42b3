//! Reads system calls once a tick, and says of which memory cgroups they are counted.

use std::collections::{BTreeMap, HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray},
};
use tracer_ebpf::abi::call::{Block, Bucket, Entry, Key, SLOTS, TARGET_PLACES, Targets, target_place};

use super::{Event, counters::failures, mapped::Mapped};

/// How long calls took: how many of each bucket, by `group * SLOTS + slot`.
pub type Times = BTreeMap<u16, u64>;

/// One call of one memory cgroup since it is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallTotal {
    pub count: u64,
    pub total_ns: u64,
    pub max_ns: u64,
    /// Failed calls by error.
    pub errors: BTreeMap<u32, u64>,
    pub times: Times,
}

impl CallTotal {
    pub fn add(&mut self, other: &CallTotal) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        for (error, count) in &other.errors {
            *self.errors.entry(*error).or_default() += count;
        }
        for (bucket, count) in &other.times {
            *self.times.entry(*bucket).or_default() += count;
        }
    }
}

/// By memory cgroup and a code of `abi::call`.
pub type CallTotals = HashMap<(u64, u32), CallTotal>;

/// The maps, taken out of an object loaded for this alone.
pub struct Calls {
    targets: Mapped<Targets>,
    calls: Mapped<Bucket>,
    times: Mapped<Block>,
    failures: PerCpuArray<MapData, u64>,
    followed: HashSet<u64>,
    cpus: usize,
}

impl Calls {
    pub fn take(ebpf: &mut Ebpf) -> Result<Calls, MapError> {
        let failures = ebpf.take_map("FAILURES");
        let failures = failures.ok_or_else(|| MapError::InvalidName { name: "FAILURES".to_owned() })?;
        Ok(Calls {
            targets: Mapped::take(ebpf, "CALL_TARGETS")?,
            calls: Mapped::take(ebpf, "CALLS")?,
            times: Mapped::take(ebpf, "CALL_TIMES")?,
            failures: PerCpuArray::try_from(failures)?,
            followed: HashSet::new(),
            cpus: aya::util::nr_cpus().unwrap_or(1),
        })
    }

    /// Counts calls of these memory cgroups and no others; gives how many there is no room for.
    pub fn follow(&mut self, wanted: &HashSet<u64>) -> usize {
        if *wanted == self.followed {
            return 0;
        }
        let mut places = vec![[0_u64; 8]; TARGET_PLACES as usize];
        let mut beyond = 0;
        self.followed.clear();
        for id in wanted {
            match places[target_place(*id) as usize].iter_mut().find(|place| **place == 0) {
                Some(place) => {
                    *place = *id;
                    self.followed.insert(*id);
                }
                None => beyond += 1,
            }
        }
        for (at, place) in places.into_iter().enumerate() {
            self.targets.set(at, place);
        }
        beyond
    }

    /// Every call that was counted.
    pub fn read(&self) -> CallTotals {
        let mut totals = CallTotals::new();
        let per_cpu = self.calls.len() / self.cpus;
        for place in 0..self.calls.len() {
            let Some(bucket) = self.calls.get(place) else { break };
            for (key, entry) in bucket.keys.into_iter().zip(&bucket.entries) {
                if key.cgroup == 0 {
                    continue;
                }
                let total = totals.entry((key.cgroup, key.call as u32)).or_default();
                match (key.call >> 32) as u32 {
                    0 => self.count(total, entry, place / per_cpu),
                    error => *total.errors.entry(error).or_default() += entry.count,
                }
            }
        }
        totals
    }

    fn count(&self, total: &mut CallTotal, entry: &Entry, cpu: usize) {
        total.count += entry.count;
        total.total_ns += entry.total;
        total.max_ns = total.max_ns.max(entry.max);
        for (group, block) in entry.blocks.iter().enumerate().filter(|(_, block)| **block > 0) {
            let Some(block) = self.times.get(self.block(cpu, *block)) else { continue };
            for (slot, count) in block.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                *total.times.entry((group * SLOTS + slot) as u16).or_default() += count;
            }
        }
    }

    fn block(&self, cpu: usize, number: u16) -> usize {
        cpu * (self.times.len() / self.cpus) + usize::from(number) - 1
    }

    /// Losses since it is attached.
    pub fn lost(&self, events: &mut Vec<Event>) {
        failures(&self.failures, events);
    }

    /// Frees what memory cgroups take that are gone: no task is in them, so no program counts there.
    pub fn forget(&mut self, gone: &HashSet<u64>) {
        let per_cpu = self.calls.len() / self.cpus;
        for place in 0..self.calls.len() {
            let Some(bucket) = self.calls.get(place) else { break };
            for (way, key) in bucket.keys.iter().enumerate().filter(|(_, key)| gone.contains(&key.cgroup)) {
                let _ = key;
                for number in bucket.entries[way].blocks.into_iter().filter(|number| *number > 0) {
                    let block = self.block(place / per_cpu, number);
                    self.times.set(block, Block { taken: 0, counts: [0; SLOTS] });
                }
                let Some(bucket) = self.calls.entry(place) else { continue };
                // SAFETY: within the mapping; the key last, by which the kernel takes the entry for free.
                unsafe {
                    let none = Entry { count: 0, total: 0, max: 0, blocks: [0; 64] };
                    (&raw mut (*bucket).entries[way]).write_volatile(none);
                    (&raw mut (*bucket).keys[way]).write_volatile(Key::default());
                }
            }
        }
    }
}
