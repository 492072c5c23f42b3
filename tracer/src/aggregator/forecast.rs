//! When memory will be used up at the pace of the last half minute: what cannot be reclaimed is followed, so that page cache
//! which is clean does not count, however full it makes a cgroup, and dirty pages count as far as they pile up.

use std::{collections::VecDeque, time::Duration};

/// How far back the pace is looked at,
const WINDOW: f64 = 30.0;
/// and how close readings may be to each other.
const APART: f64 = 0.4;
const READINGS: usize = 80;
/// Nothing is foretold from fewer.
const LEAST: usize = 3;
/// No pace is steadier than this, whatever its past: half of it to each side.
const DOUBT: f64 = 0.1;
/// How many standard errors of the pace the range has to each side: readings in a row are not independent.
const ERRORS: f64 = 3.0;
/// Bytes a second below which nothing grows.
const STILL: f64 = 1.0;

/// Seconds until it is used up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub seconds: f64,
    pub low: f64,
    /// `None`: perhaps never.
    pub high: Option<f64>,
}

/// Readings of the last half minute.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Seconds and bytes.
    readings: VecDeque<(f64, f64)>,
}

/// A straight line through readings: bytes a second, and the standard error of that.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rate: f64,
    error: f64,
    /// From one reading to the next.
    steps: f64,
}

impl History {
    pub fn push(&mut self, at: Duration, bytes: u64) {
        let (at, bytes) = (at.as_secs_f64(), bytes as f64);
        if let Some((last, before)) = self.readings.back().copied() {
            if at < last + APART {
                // The newest counts, at its own time.
                if self.readings.len() > 1 && at > self.readings[self.readings.len() - 2].0 {
                    self.readings.pop_back();
                    self.readings.push_back((at, bytes));
                }
                return;
            }
            let usual = self.readings.iter().nth_back(1).map_or(1.0, |(earlier, _)| last - earlier);
            if at - last > 2.5 * usual.max(APART) {
                // What is at rest is not read: it stood still until a moment ago.
                self.readings.push_back((at - usual.max(APART), before));
            }
        }
        self.readings.push_back((at, bytes));
        while self.readings.len() > READINGS
            || self.readings.front().is_some_and(|first| first.0 < at - WINDOW)
        {
            self.readings.pop_front();
        }
    }

    /// Something else from now on.
    pub fn clear(&mut self) {
        self.readings.clear();
    }

    /// When so many bytes are reached; `None` where it is not sure that they will be.
    pub fn until(&self, limit: u64) -> Option<Forecast> {
        let pace = self.pace()?;
        let (_, now) = self.readings.back()?;
        let room = (limit as f64 - now).max(0.0);
        // A few readings that happen to lie in line say nothing where the others are scattered.
        let error = pace.error.max(self.roughness() / pace.steps);
        let doubt = ERRORS * error + pace.rate.abs() * DOUBT / 2.0;
        if pace.rate < STILL || pace.rate <= ERRORS * error {
            return None;
        }
        let slowest = pace.rate - doubt;
        Some(Forecast {
            seconds: room / pace.rate,
            low: room / (pace.rate + doubt),
            high: (slowest >= STILL).then(|| room / slowest),
        })
    }

    /// Standard deviation of the pace from one reading to the next.
    fn roughness(&self) -> f64 {
        let pairs = || self.readings.iter().zip(self.readings.iter().skip(1));
        let paces = || pairs().map(|(a, b)| (b.1 - a.1) / (b.0 - a.0).max(APART / 4.0));
        let count = pairs().count().max(1) as f64;
        let mean = paces().sum::<f64>() / count;
        (paces().map(|pace| (pace - mean).powi(2)).sum::<f64>() / count).sqrt()
    }

    /// Of as much of the past as goes with the newest readings: a pace that changed is the new one.
    fn pace(&self) -> Option<Pace> {
        let readings: Vec<(f64, f64)> = self.readings.iter().copied().collect();
        let newest = fit(readings.get(readings.len().checked_sub(LEAST)?..)?)?;
        let fits = |pace: &Pace| {
            (pace.rate - newest.rate).abs()
                <= pace.error + 2.0 * newest.error + DOUBT / 2.0 * newest.rate.abs().max(STILL)
        };
        let lengths = [READINGS, 40, 20, 12, 8, 5].into_iter().filter(|length| *length > LEAST);
        let longest =
            lengths.filter_map(|length| fit(&readings[readings.len().saturating_sub(length)..])).find(fits);
        Some(longest.unwrap_or(newest))
    }
}

/// Least squares.
fn fit(readings: &[(f64, f64)]) -> Option<Pace> {
    let count = readings.len() as f64;
    if readings.len() < LEAST {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| readings.iter().map(of).sum::<f64>() / count;
    let (time, bytes) = (mean(|reading| reading.0), mean(|reading| reading.1));
    let spread: f64 = readings.iter().map(|reading| (reading.0 - time).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let together: f64 = readings.iter().map(|reading| (reading.0 - time) * (reading.1 - bytes)).sum();
    let rate = together / spread;
    let left = |reading: &(f64, f64)| (reading.1 - bytes - rate * (reading.0 - time)).powi(2);
    let left: f64 = readings.iter().map(left).sum();
    Some(Pace { rate, error: (left / (count - 2.0) / spread).sqrt(), steps: count - 1.0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn history(readings: impl IntoIterator<Item = (f64, f64)>) -> History {
        let mut history = History::default();
        for (at, bytes) in readings {
            history.push(Duration::from_secs_f64(at), bytes as u64);
        }
        history
    }

    fn limit(mib: f64) -> u64 {
        (mib * MIB) as u64
    }

    #[test]
    fn a_ramp_ends_when_it_ends() {
        let found =
            history((0..10).map(|at| (f64::from(at), f64::from(at) * 20.0 * MIB))).until(limit(380.0));
        let found = found.expect("it grows");
        assert!((found.seconds - 10.0).abs() < 0.01, "{found:?}");
        assert!(found.low < 10.0 && found.high.is_some_and(|high| high > 10.0 && high < 11.0), "{found:?}");
    }

    #[test]
    fn what_began_to_grow_is_at_its_new_pace_within_three_readings() {
        let ramp = |at: i32| f64::from((at - 25).max(0)) * 20.0 * MIB;
        let found =
            history((0..29).map(|at| (f64::from(at), ramp(at)))).until(limit(260.0)).expect("it grows");
        assert!((found.seconds - 10.0).abs() < 1.0, "{found:?}");
        let stopped = |at: i32| f64::from(at.min(20)) * 20.0 * MIB;
        assert_eq!(history((0..24).map(|at| (f64::from(at), stopped(at)))).until(limit(1000.0)), None);
    }

    #[test]
    fn rest_is_no_reading_and_no_growth() {
        let mut rested = history((0..5).map(|at| (f64::from(at), 50.0 * MIB)));
        for at in 0..3 {
            rested.push(Duration::from_secs(20 + at), limit(50.0 + 20.0 * (at + 1) as f64));
        }
        let found = rested.until(limit(210.0)).expect("it grows");
        assert!((found.seconds - 5.0).abs() < 0.6, "{found:?}");
    }

    #[test]
    fn noise_and_shrinking_are_no_forecast() {
        assert_eq!(History::default().until(1), None);
        let noise = |at: i32| (100.0 + f64::from(at * 7919 % 13)) * MIB;
        assert_eq!(history((0..30).map(|at| (f64::from(at), noise(at)))).until(limit(500.0)), None);
        assert_eq!(history((0..9).map(|at| (f64::from(at), 900.0 - f64::from(at)))).until(1000), None);
    }

    proptest! {
        /// The pace of a steady ramp with some scatter is found within a fifth, and the range is around it.
        #[test]
        fn a_scattered_ramp_is_found(
            rate in 1.0f64..200.0, scatter in proptest::collection::vec(-0.25f64..0.25, 12..40), step in 0.5f64..2.0,
        ) {
            let bytes = |place: usize| (100.0 + (place as f64 + scatter[place]) * step * rate) * MIB;
            let count = scatter.len();
            let found = history((0..count).map(|place| (place as f64 * step, bytes(place))));
            let room = 50.0 * rate;
            let found = found.until((bytes(count - 1) + room * MIB) as u64);
            if let Some(found) = found {
                prop_assert!((found.seconds - 50.0).abs() < 25.0, "{:?}", found);
                prop_assert!(found.low <= found.seconds);
                prop_assert!(found.high.is_none_or(|high| high >= found.seconds));
            }
        }

        #[test]
        fn any_readings_are_no_panic(
            readings in proptest::collection::vec((0.0f64..100.0, any::<u64>()), 0..100), limit in any::<u64>(),
        ) {
            let mut history = History::default();
            for (at, bytes) in readings {
                history.push(Duration::from_secs_f64(at), bytes);
                if let Some(found) = history.until(limit) {
                    prop_assert!(found.seconds >= 0.0 && found.low >= 0.0);
                }
            }
            prop_assert!(history.readings.len() <= READINGS + 1);
        }
    }
}
