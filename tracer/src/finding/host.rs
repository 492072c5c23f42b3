//! How the host's memory went: what is available, and what of the fall is in no row, by kind and by process.

use std::{collections::VecDeque, time::Duration};

use super::growth::{Grower, Growers, RECENT, SLOW, steady};
use crate::{
    aggregator::{host::Remainder, stream::Process},
    event::HostMemory,
};

/// A fall is counted from the moment at which most was available, at most so long ago.
const WINDOW: Duration = Duration::from_secs(60);

/// What no row accounts for, by kind. Page cache is left out: the kernel takes it back.
pub(super) const KINDS: [&str; 8] =
    ["anon", "shmem", "slab", "percpu", "vmalloc", "page_tables", "kernel_stack", "hugetlb"];

/// One tick's.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Duration,
    available: u64,
    left: [Option<i64>; KINDS.len()],
}

/// The last minute of the host.
#[derive(Default)]
pub(super) struct Host {
    readings: VecDeque<Reading>,
    processes: Growers,
}

impl Host {
    pub fn note(&mut self, at: Duration, host: &HostMemory, left: &Remainder) {
        let Some(available) = host.available else { return self.readings.clear() };
        let [slab, percpu, vmalloc, page_tables, kernel_stack] = left.kernel().map(|part| part.bytes);
        let (anon, shmem, hugetlb) = (left.root_anon, left.root_shmem, left.hugetlb);
        let left = [anon, shmem, slab, percpu, vmalloc, page_tables, kernel_stack, hugetlb];
        self.readings.push_back(Reading { at, available, left });
        while self.readings.len() > 2 && at.saturating_sub(self.readings[0].at) > WINDOW {
            self.readings.pop_front();
        }
        if !self.asks_for_processes() {
            self.processes.clear();
        }
    }

    /// The first of the fall and the last.
    fn ends(&self) -> Option<(&Reading, &Reading)> {
        self.readings.iter().max_by_key(|reading| reading.available).zip(self.readings.back())
    }

    /// How long it has fallen.
    pub fn span(&self) -> Duration {
        self.ends().map_or(Duration::ZERO, |(first, last)| last.at.saturating_sub(first.at))
    }

    /// Bytes a second by which there is less available, if that goes on.
    pub fn fall(&self) -> Option<f64> {
        let (first, last) = self.ends()?;
        let recent = self
            .readings
            .iter()
            .rev()
            .find(|reading| reading.at <= first.at || last.at.saturating_sub(reading.at) >= RECENT)?;
        let slope = |from: &Reading| {
            let seconds = last.at.saturating_sub(from.at).as_secs_f64();
            (seconds > 0.0).then(|| (from.available as f64 - last.available as f64) / seconds)
        };
        steady(slope(first)?, slope(recent)?)
    }

    /// Bytes a second that went into memory of no row, over the fall.
    pub fn by_kind(&self) -> [(&'static str, Option<f64>); KINDS.len()] {
        let rates = self.ends().map(|(first, last)| {
            let seconds = last.at.saturating_sub(first.at).as_secs_f64();
            std::array::from_fn::<_, { KINDS.len() }, _>(|kind| {
                let both = first.left[kind].zip(last.left[kind]).filter(|_| seconds > 0.0);
                both.map(|(first, last)| (last - first) as f64 / seconds)
            })
        });
        std::array::from_fn(|kind| (KINDS[kind], rates.and_then(|rates| rates[kind])))
    }

    /// Anonymous memory of no row grows: whose that is should be looked at before the next tick.
    pub fn asks_for_processes(&self) -> bool {
        let anon = self.by_kind()[0].1;
        self.fall().zip(anon).is_some_and(|(fall, anon)| fall > SLOW && anon > SLOW && anon >= fall / 4.0)
    }

    /// What the processes in no row hold now.
    pub fn processes(&mut self, at: Duration, now: Vec<(Process, u64)>) {
        self.processes.note(at, now);
    }

    pub fn top_process(&self) -> Option<Grower> {
        self.processes.top()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn host(available: impl IntoIterator<Item = u64>) -> Host {
        let mut host = Host::default();
        for (second, mib) in available.into_iter().enumerate() {
            let memory = HostMemory { available: Some(mib * MIB), ..HostMemory::default() };
            let left = Remainder { root_anon: Some(-((mib * MIB) as i64)), ..Remainder::default() };
            host.note(Duration::from_secs(second as u64), &memory, &left);
        }
        host
    }

    #[test]
    fn a_fall_counts_from_where_most_was_available() {
        let steep = host((0..20).map(|second| 10_000 - 10 * second));
        assert_eq!((steep.span(), steep.fall()), (Duration::from_secs(19), Some(10.0 * MIB as f64)));
        // After hours of nothing it is as steep as it is.
        let late = host((0..2000).map(|second| 10_000 - 10 * u64::saturating_sub(second, 1990)));
        assert_eq!((late.span(), late.fall()), (Duration::from_secs(9), Some(10.0 * MIB as f64)));
        assert_eq!(late.by_kind()[0], ("anon", Some(10.0 * MIB as f64)));
        assert_eq!(late.by_kind()[1], ("shmem", None));
        let long = host((0..500).map(|second| 10_000 - 10 * second));
        assert_eq!(long.span(), WINDOW);
        assert_eq!(long.readings.len(), 61);
    }

    #[test]
    fn what_is_over_or_rises_is_no_fall() {
        assert_eq!(host([]).fall(), None);
        assert_eq!(host([100]).fall(), None);
        assert_eq!(host([100, 110, 120, 130]).fall(), None);
        assert_eq!(host((0..20).map(|second| 10_000 - 10 * u64::min(second, 10))).fall(), None);
        assert!(!host((0..20).map(|_| 100)).asks_for_processes());
        assert!(host((0..20).map(|second| 10_000 - 10 * second)).asks_for_processes());
    }
}
