//! What want of memory costs a row: how long its tasks look for free pages themselves, what they have to read again, and
//! how long they are held up in all.
//!
//! Direct reclaim is counted where its tasks are, so rows are disjoint. Faults and stalls are read of whole cgroups: they are
//! told of rows without rows in them, of others they are not known.

use std::time::Duration;

use serde::Serialize;
use tracer_ebpf::abi::oom::ReclaimCount;

use super::row::How;
use crate::event::{Faults, Stalls, Stat, page_size};

/// Rates of a reading are told for so many intervals: a row that is not read moves no more.
const FRESH: u32 = 2;

/// Of one row in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Passes of direct reclaim since attach, the time tasks spent in them, what they got back.
    pub reclaims: Option<u64>,
    pub reclaim_s: Option<f64>,
    pub reclaimed: Option<u64>,
    pub reclaims_per_s: Option<f64>,
    /// Seconds in direct reclaim per second; several tasks at once count each.
    pub reclaim_share: Option<f64>,
    pub pgmajfault_per_s: Option<f64>,
    /// Pages a second that were dropped and had to be read again.
    pub workingset_refault_anon_per_s: Option<f64>,
    pub workingset_refault_file_per_s: Option<f64>,
    pub pswpin_per_s: Option<f64>,
    pub pswpout_per_s: Option<f64>,
    /// `memory.pressure`: the share of the time in which some task, and in which all, waited for memory.
    pub psi_some_share: Option<f64>,
    pub psi_full_share: Option<f64>,
    /// The share of the time in which the row is held up by memory: by PSI, else by direct reclaim alone.
    pub memory_stall_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_stall_share_how: Option<How>,
}

/// One row's state.
#[derive(Default)]
pub struct State {
    reclaim: ReclaimCount,
    reclaim_before: ReclaimCount,
    faults: Option<(Duration, Faults)>,
    stalls: Option<(Duration, Stalls)>,
    /// Of the last two readings, and when the last one was.
    fault_rates: Option<(Duration, [Option<f64>; 5])>,
    stall_shares: Option<(Duration, [f64; 2])>,
}

/// The interval that ends.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    pub at: Duration,
    pub length: Duration,
    pub first: bool,
    /// A probe counts direct reclaim.
    pub served: bool,
    /// No other row is in it.
    pub leaf: bool,
}

impl State {
    pub fn reclaimed(&mut self, more: ReclaimCount) {
        self.reclaim.passes += more.passes;
        self.reclaim.time += more.time;
        self.reclaim.pages += more.pages;
    }

    pub fn read(&mut self, stat: &Stat, at: Duration) {
        if let Some((then, before)) = self.faults.replace((at, stat.faults)) {
            self.fault_rates = rates(&before, &stat.faults, at.saturating_sub(then)).map(|rates| (at, rates));
        }
        let Some(stalls) = stat.more.as_ref().map(|more| more.stalls) else { return };
        let before = std::mem::replace(&mut self.stalls, stalls.map(|stalls| (at, stalls)));
        if let (Some((then, before)), Some(stalls)) = (before, stalls) {
            let seconds = at.saturating_sub(then).as_secs_f64();
            let share = |now: u64, before: u64| (now.saturating_sub(before) as f64 / 1e6 / seconds).min(1.0);
            let shares = [share(stalls.some_us, before.some_us), share(stalls.full_us, before.full_us)];
            self.stall_shares = (seconds > 0.0).then_some((at, shares));
        }
    }

    /// Whether nothing happens that would have to be told.
    pub fn is_quiet(&self, at: Duration, length: Duration) -> bool {
        let told = |read: Option<Duration>| read.is_some_and(|read| is_fresh(read, at, length));
        self.reclaim == self.reclaim_before
            && !told(self.fault_rates.map(|(read, _)| read))
            && !told(self.stall_shares.map(|(read, _)| read))
    }

    pub fn close(&mut self, of: Interval) -> Pressure {
        let (now, before) = (self.reclaim, std::mem::replace(&mut self.reclaim_before, self.reclaim));
        let seconds = of.length.as_secs_f64();
        let rated = of.served && !of.first && seconds > 0.0;
        let nanoseconds = now.time.saturating_sub(before.time) as f64;
        let reclaim_share = rated.then(|| nanoseconds / 1e9 / seconds);
        if !of.leaf {
            // What the rows in it did is theirs; without them it begins anew.
            (self.faults, self.fault_rates, self.stalls, self.stall_shares) = (None, None, None, None);
        }
        let fresh = |read: Duration| is_fresh(read, of.at, of.length);
        let faults = self.fault_rates.filter(|(read, _)| fresh(*read)).map_or([None; 5], |(_, rates)| rates);
        let stalls = self.stall_shares.filter(|(read, _)| fresh(*read)).map(|(_, shares)| shares);
        let by_reclaim = reclaim_share.map(|share| share.min(1.0));
        let some = stalls.map(|[some, _]| some);
        Pressure {
            reclaims: of.served.then_some(now.passes),
            reclaim_s: of.served.then_some(now.time as f64 / 1e9),
            reclaimed: of.served.then(|| now.pages.saturating_mul(page_size())),
            reclaims_per_s: rated.then(|| now.passes.saturating_sub(before.passes) as f64 / seconds),
            reclaim_share,
            pgmajfault_per_s: faults[0],
            workingset_refault_anon_per_s: faults[1],
            workingset_refault_file_per_s: faults[2],
            pswpin_per_s: faults[3],
            pswpout_per_s: faults[4],
            psi_some_share: some,
            psi_full_share: stalls.map(|[_, full]| full),
            memory_stall_share: some.or(by_reclaim),
            memory_stall_share_how: (some.is_none() && by_reclaim.is_some()).then_some(How::Inferred),
        }
    }
}

fn is_fresh(read: Duration, at: Duration, length: Duration) -> bool {
    at.saturating_sub(read) < length * FRESH
}

fn rates(before: &Faults, now: &Faults, over: Duration) -> Option<[Option<f64>; 5]> {
    let seconds = over.as_secs_f64();
    let rate = |now: Option<u64>, before: Option<u64>| Some(now?.checked_sub(before?)? as f64 / seconds);
    (seconds > 0.0).then(|| {
        [
            rate(now.pgmajfault, before.pgmajfault),
            rate(now.refault_anon, before.refault_anon),
            rate(now.refault_file, before.refault_file),
            rate(now.pswpin, before.pswpin),
            rate(now.pswpout, before.pswpout),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::More;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn interval(now: u64, leaf: bool) -> Interval {
        Interval { at: at(now), length: at(1), first: false, served: true, leaf }
    }

    fn stat(majors: u64, some_us: Option<u64>) -> Stat {
        let stalls = some_us.map(|some_us| Stalls { some_us, full_us: some_us / 2 });
        Stat {
            faults: Faults { pgmajfault: Some(majors), ..Faults::default() },
            more: Some(More { stalls, ..More::default() }),
            ..Stat::default()
        }
    }

    #[test]
    fn psi_is_measured_and_reclaim_alone_is_inferred() {
        let mut state = State::default();
        state.read(&stat(10, Some(0)), at(1));
        state.reclaimed(ReclaimCount { passes: 3, time: 250_000_000, pages: 5 });
        let first = state.close(interval(1, true));
        assert_eq!((first.reclaims, first.reclaim_share), (Some(3), Some(0.25)));
        assert_eq!(
            (first.memory_stall_share, first.memory_stall_share_how),
            (Some(0.25), Some(How::Inferred))
        );
        assert_eq!(first.pgmajfault_per_s, None, "one reading is no rate");
        state.read(&stat(14, Some(1_000_000)), at(3));
        let second = state.close(interval(3, true));
        assert_eq!((second.pgmajfault_per_s, second.psi_some_share), (Some(2.0), Some(0.5)));
        assert_eq!((second.memory_stall_share, second.memory_stall_share_how), (Some(0.5), None));
        assert_eq!(second.workingset_refault_file_per_s, None, "not told");
        let third = state.close(interval(9, true));
        assert_eq!((third.pgmajfault_per_s, third.psi_some_share), (None, None), "read long ago");
        assert!(state.is_quiet(at(9), at(1)));
    }

    #[test]
    fn of_rows_with_rows_in_them_only_reclaim_is_known() {
        let mut state = State::default();
        state.read(&stat(0, Some(0)), at(1));
        state.read(&stat(9, Some(900)), at(2));
        let outer = state.close(interval(2, false));
        assert_eq!((outer.pgmajfault_per_s, outer.psi_some_share, outer.reclaims), (None, None, Some(0)));
        state.read(&stat(900, Some(900)), at(3));
        assert_eq!(
            state.close(interval(3, true)).pgmajfault_per_s,
            None,
            "what was the inner rows' is not its own"
        );
    }
}
