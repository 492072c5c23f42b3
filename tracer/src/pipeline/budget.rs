//! What memtrace takes of the processors, in its own process and in its programs in the kernel, and what it gives up above
//! its budget: system calls that nobody asked for by a command, the dearest of what is attached when it is needed. What
//! findings rest on stays, and that the budget is not kept is said.
//!
//! The time of programs is sampled. The kernel's statistics of it cost tens of nanoseconds a run while they are on
//! (`BPF_ENABLE_STATS`, kernel/bpf/syscall.c), so they are on for a tenth of a second in ten.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

/// Statistics are on for so long,
const SAMPLE: Duration = Duration::from_millis(100);
/// first after this, when what is attached has settled,
const FIRST: Duration = Duration::from_secs(1);
/// and then this often.
const EVERY: Duration = Duration::from_secs(10);
/// Over so long the share of the own process is smoothed: a tick with much to name is no trend.
const SMOOTH: f64 = 10.0;
/// Calls that are counted for less have told nothing yet.
const USEFUL: Duration = Duration::from_secs(5);
/// What was given up is not tried again before.
const REST: Duration = Duration::from_secs(60);

/// Of one processor.
pub const DEFAULT: f64 = 0.03;

pub struct Budget {
    limit: f64,
    sample: Option<Sample>,
    wakes: Option<Instant>,
    own: Option<(Instant, f64)>,
    programs: Option<f64>,
    shed: Option<(Instant, String)>,
}

struct Sample {
    /// Statistics are on as long as it is open.
    _on: OwnedFd,
    began: Instant,
    before: u64,
}

impl Budget {
    pub fn new(limit: f64, now: Instant) -> Budget {
        let (sample, own, programs, shed) = Default::default();
        Budget { limit, sample, wakes: Some(now + FIRST), own, programs, shed }
    }

    /// When a sample begins or ends; `None`: the kernel takes none.
    pub fn wakes(&self) -> Option<Instant> {
        self.wakes
    }

    /// `run_time`: of all our programs so far, as far as statistics were on; nanoseconds.
    pub fn sample(&mut self, now: Instant, run_time: impl FnOnce() -> u64) {
        match self.sample.take() {
            Some(sample) => {
                let time = run_time().saturating_sub(sample.before) as f64 * 1e-9;
                let wall = now.saturating_duration_since(sample.began).as_secs_f64();
                self.programs = (wall > 0.0).then(|| time / wall);
                self.wakes = Some(now + EVERY);
            }
            // Without the capability, or on a kernel without it, that part is not known.
            None => match enable_stats(Stats::RunTime) {
                Ok(on) => {
                    self.sample = Some(Sample { _on: on, began: now, before: run_time() });
                    self.wakes = Some(now + SAMPLE);
                }
                Err(_) => self.wakes = None,
            },
        }
    }

    /// Takes in a tick; whether to give up counting system calls from now on. `share`: of the own process, over the
    /// interval; `counting`: since when system calls are counted that no command asked for.
    pub fn tick(&mut self, now: Instant, share: Option<f64>, counting: Option<Instant>) -> bool {
        if let Some(share) = share {
            let smoothed = match self.own {
                Some((then, before)) => {
                    let part = (now.saturating_duration_since(then).as_secs_f64() / SMOOTH).min(1.0);
                    before + (share - before) * part
                }
                None => share,
            };
            self.own = Some((now, smoothed));
        }
        let counted = counting.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let Some(total) = self.over().filter(|_| counted >= USEFUL) else { return false };
        self.shed = Some((now, self.why(total)));
        true
    }

    /// Whether system calls that no command asked for may be counted.
    pub fn allows_calls(&self, now: Instant) -> bool {
        self.shed.as_ref().is_none_or(|(since, _)| now.saturating_duration_since(*since) >= REST)
    }

    /// Of the programs, in processors.
    pub fn programs(&self) -> Option<f64> {
        self.programs
    }

    /// What is to be said of it.
    pub fn says(&self, now: Instant) -> Vec<String> {
        let shed = self.shed.as_ref().filter(|_| !self.allows_calls(now)).map(|(_, why)| why.clone());
        let over = || self.over().map(|total| format!("memtrace takes {}", self.measured(total)));
        shed.or_else(over).into_iter().collect()
    }

    fn over(&self) -> Option<f64> {
        let (_, own) = self.own?;
        Some(own + self.programs.unwrap_or(0.0)).filter(|total| *total > self.limit)
    }

    fn why(&self, total: f64) -> String {
        format!(
            "system calls are not counted for {} s: memtrace took {}",
            REST.as_secs(),
            self.measured(total)
        )
    }

    fn measured(&self, total: f64) -> String {
        format!("{:.1} % of a CPU, its budget is {:.1} %", 100.0 * total, 100.0 * self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shares: &[f64], counts: impl Fn(u64) -> bool) -> (Budget, Vec<u64>) {
        let start = Instant::now();
        let mut budget = Budget::new(DEFAULT, start);
        let mut shed = Vec::new();
        let mut counting = None;
        for (second, share) in (0..).zip(shares) {
            let now = start + Duration::from_secs(second);
            counting = counting.or(Some(now)).filter(|_| counts(second) && budget.allows_calls(now));
            if budget.tick(now, Some(*share), counting) {
                counting = None;
                shed.push(second);
            }
        }
        (budget, shed)
    }

    #[test]
    fn above_the_budget_calls_are_given_up_once_they_have_told_something() {
        let (budget, shed) = run(&[0.06; 20], |second| second >= 3);
        assert_eq!(shed, [8]);
        let says = budget.says(Instant::now() + Duration::from_secs(20));
        assert_eq!(
            says,
            ["system calls are not counted for 60 s: memtrace took 6.0 % of a CPU, its budget is 3.0 %"]
        );
        let (_, shed) = run(&[0.06; 90], |second| second >= 3);
        assert_eq!(shed, [8, 73], "a minute later it is tried again");
    }

    #[test]
    fn a_single_tick_is_no_trend_and_what_is_not_there_is_not_given_up() {
        let mut shares = [0.01; 20];
        shares[10] = 0.2;
        let (budget, shed) = run(&shares, |_| true);
        assert!(shed.is_empty() && budget.says(Instant::now()).is_empty(), "{shed:?}");
        let (budget, shed) = run(&[0.06; 20], |_| false);
        assert!(shed.is_empty());
        assert_eq!(budget.says(Instant::now()), ["memtrace takes 6.0 % of a CPU, its budget is 3.0 %"]);
    }

    #[test]
    fn the_time_of_programs_counts_with_the_own() {
        let start = Instant::now();
        let mut budget = Budget::new(DEFAULT, start);
        budget.programs = Some(0.025);
        assert!(!budget.tick(start, Some(0.004), Some(start)));
        assert!(budget.says(start).is_empty());
        assert!(!budget.tick(start + Duration::from_secs(5), Some(0.005), Some(start)));
        assert!(budget.tick(start + Duration::from_secs(10), Some(0.01), Some(start)));
    }
}
