//! Spreads an amount evenly over time, in steps of 20 ms: a burst each second would show as a saw in the growth.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

const STEP: Duration = Duration::from_millis(20);
/// Without a rate, the size of a piece.
const PIECE: u64 = 1 << 20;

/// Calls `act(from, to)` for consecutive pieces until `total` is reached (or for ever), no faster than `rate` bytes
/// each second; pieces are whole multiples of `unit` but for the last. Returns the bytes done.
pub(crate) fn paced(
    total: Option<u64>,
    rate: Option<u64>,
    unit: u64,
    mut act: impl FnMut(u64, u64) -> Result<()>,
) -> Result<u64> {
    let total = total.unwrap_or(u64::MAX);
    let start = Instant::now();
    let mut done = 0;
    let mut step = 0;
    while done < total {
        step += 1;
        let next = match rate {
            None => done.saturating_add(PIECE),
            // Due at the end of this step, counted from the start: a late wake-up is made good by the next one.
            Some(rate) => {
                let due = u128::from(rate) * (STEP * step).as_micros() / 1_000_000;
                u64::try_from(due).unwrap_or(u64::MAX) / unit * unit
            }
        }
        .min(total);
        if next > done {
            act(done, next)?;
            done = next;
        }
        if rate.is_some() {
            thread::sleep((start + STEP * step).saturating_duration_since(Instant::now()));
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_on_and_reach_the_total() {
        let mut at = 0;
        let done = paced(Some(10_000), Some(100_000), 4096, |from, to| {
            assert_eq!(from, at);
            assert!(to % 4096 == 0 || to == 10_000);
            at = to;
            Ok(())
        });
        assert!(matches!(done, Ok(10_000)));
        assert_eq!(at, 10_000);
    }

    #[test]
    fn rate_is_kept() {
        let start = Instant::now();
        let done = paced(Some(20_000), Some(100_000), 1, |_, _| Ok(()));
        assert!(matches!(done, Ok(20_000)));
        assert!(start.elapsed() >= Duration::from_millis(200));
    }
}
