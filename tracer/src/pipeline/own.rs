//! What memtrace itself costs, measured with each tick.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use crate::{event::procfs, snapshot::Own};

/// In microseconds. A histogram without an end of its own would clamp at the first few thousand; with more than two
/// digits it would be longer to look through at each tick than a tick should take.
const LONGEST_TICK: u64 = 60_000_000;

/// Own CPU time and the times of the ticks so far.
pub struct Meter {
    before: Option<(Instant, Duration)>,
    ticks: Histogram<u64>,
}

impl Meter {
    pub fn new() -> anyhow::Result<Meter> {
        let ticks = Histogram::new_with_bounds(1, LONGEST_TICK, 2).context("cannot make a histogram")?;
        Ok(Meter { before: None, ticks })
    }

    /// A tick that began then has ended.
    pub fn ticked(&mut self, began: Instant) {
        self.ticks.saturating_record(began.elapsed().as_micros() as u64);
    }

    /// `maps`: kernel memory of the BPF maps.
    pub fn read(&mut self, now: Instant, maps: Option<u64>) -> Own {
        let (cpu, rss) = procfs::own();
        let before = std::mem::replace(&mut self.before, cpu.map(|cpu| (now, cpu)));
        let cpu_share = before.zip(cpu).and_then(|((then, before), cpu)| {
            let wall = now.saturating_duration_since(then).as_secs_f64();
            (wall > 0.0).then(|| cpu.saturating_sub(before).as_secs_f64() / wall)
        });
        let quantile = |q| (!self.ticks.is_empty()).then(|| self.ticks.value_at_quantile(q) as f64 / 1e6);
        Own { cpu_share, rss, maps, tick_p50_s: quantile(0.5), tick_p99_s: quantile(0.99), ..Own::default() }
    }
}
