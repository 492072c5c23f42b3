//! The one table, and the same as JSON.

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    Nanoseconds,
    Seconds,
    /// Of one core.
    Share,
    Bytes,
    /// Bytes a second.
    Rate,
}

/// What a comparison says about the two values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aim {
    /// `with` is at most so much larger than `without`, as a share of it.
    Slowdown(f64),
    /// `with` is at most so much.
    AtMost(f64),
    /// `with` is at least so much.
    AtLeast(f64),
    /// `with` is at most so many times `without`.
    Ratio(f64),
}

/// Lowest, highest and percentiles of what was measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) rounds: u64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) benchmark: &'static str,
    pub(super) what: String,
    pub(super) unit: Unit,
    /// What a user would otherwise have: nothing attached, or another tool.
    pub(super) without: Option<f64>,
    pub(super) with: f64,
    /// Median of the ratios of the rounds where there are rounds, else of the two values.
    pub(super) ratio: Option<f64>,
    /// Of the ratios, or of the values where nothing is compared.
    pub(super) spread: Option<Spread>,
    pub(super) aim: Option<Aim>,
    pub(super) met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    /// Why there is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    kernel: String,
    cpus: u64,
    memory_bytes: u64,
    /// Of the last minute, at the start: above the number of CPUs the machine was not quiet.
    load: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    lines: Vec<Line>,
    /// What could not be measured, and why.
    skipped: Vec<String>,
}

impl Machine {
    pub(super) fn here() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let word = |text: &str, index: usize| text.split_whitespace().nth(index).map(str::to_owned);
        let load = word(&read("/proc/loadavg")?, 0).and_then(|load| load.parse().ok());
        let memory = word(&read("/proc/meminfo")?, 1).and_then(|total| total.parse::<u64>().ok());
        Ok(Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: memory.unwrap_or(0) * 1024,
            load: load.unwrap_or(0.0),
        })
    }
}

impl Line {
    pub(super) fn new(benchmark: &'static str, what: impl Into<String>, unit: Unit, with: f64) -> Self {
        Self {
            benchmark,
            what: what.into(),
            unit,
            without: None,
            with,
            ratio: None,
            spread: None,
            aim: None,
            met: None,
            note: None,
            failed: None,
        }
    }

    /// A row for what could not be measured; its number is null in JSON.
    pub(super) fn failed(benchmark: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        let why = why.into().lines().next().unwrap_or_default().to_owned();
        Self { failed: Some(why), ..Self::new(benchmark, what, Unit::Share, f64::NAN) }
    }

    pub(super) fn beside(mut self, without: f64) -> Self {
        self.without = Some(without);
        self.ratio = self.ratio.or((without > 0.0).then_some(self.with / without));
        self
    }

    /// Ratios of single rounds, which a drift of the machine moves less than it moves the values.
    pub(super) fn ratios(mut self, ratios: &[f64]) -> Result<Self> {
        let spread = Spread::of(ratios)?;
        self.ratio = Some(spread.p50);
        self.spread = Some(spread);
        Ok(self)
    }

    pub(super) fn spread(mut self, spread: Spread) -> Self {
        self.spread = Some(spread);
        self
    }

    pub(super) fn aim(mut self, aim: Aim) -> Self {
        self.met = Some(match aim {
            Aim::AtMost(most) => self.with <= most,
            Aim::AtLeast(least) => self.with >= least,
            Aim::Ratio(most) => self.ratio.is_some_and(|ratio| ratio <= most),
            Aim::Slowdown(most) => self.ratio.is_some_and(|ratio| ratio - 1.0 <= most),
        });
        self.aim = Some(aim);
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Steps of a value in the histogram, and its end: far above any ratio or number of seconds.
const STEP: f64 = 1e6;
const END: u64 = 1_000_000_000_000;

impl Spread {
    /// Of positive numbers, to three digits and a millionth.
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, END, 3).context("cannot make a histogram")?;
        for value in values {
            histogram.saturating_record((value * STEP).round() as u64);
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / STEP;
        Ok(Self { rounds: histogram.len(), min: at(0.0), p50: at(0.5), p90: at(0.9), max: at(1.0) })
    }
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, lines: Vec::new(), skipped: Vec::new() }
    }

    pub(super) fn add(&mut self, line: Line) {
        eprintln!(
            "bench: {}, {}: {} {}",
            line.benchmark,
            line.what,
            line.failed.clone().unwrap_or_else(|| shown(line.unit, line.with)),
            change(&line).unwrap_or_default()
        );
        self.lines.push(line);
    }

    pub(super) fn skip(&mut self, what: &str, why: &str) {
        eprintln!("bench: skipped {what}: {why}");
        self.skipped.push(format!("{what}: {why}"));
    }

    pub(super) fn all_met(&self) -> bool {
        self.lines.iter().all(|line| line.met != Some(false))
    }

    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("cannot write the numbers as JSON")? + "\n")
    }

    pub(super) fn table(&self) -> String {
        let mut rows = vec![
            ["benchmark", "what", "without", "with", "ratio", "min..max", "aim", "met"].map(str::to_owned),
        ];
        rows.extend(self.lines.iter().map(cells));
        let mut widths = [0; 8];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let Machine { kernel, cpus, memory_bytes, load } = &self.machine;
        let gib = *memory_bytes as f64 / f64::from(1 << 30);
        let mut out =
            format!("\nkernel {kernel}, {cpus} CPUs, {gib:.1} GiB, load {load:.1} at the start\n\n");
        for row in &rows {
            for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
                // The first two and the last hold words.
                let _ = if (2..7).contains(&index) {
                    write!(out, "{cell:>width$}  ")
                } else {
                    write!(out, "{cell:<width$}  ")
                };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        for line in &self.lines {
            if let Some(note) = &line.note {
                let _ = writeln!(out, "  {}, {}: {note}", line.benchmark, line.what);
            }
        }
        for skipped in &self.skipped {
            let _ = writeln!(out, "  not measured: {skipped}");
        }
        out
    }
}

fn cells(line: &Line) -> [String; 8] {
    let none = || "-".to_owned();
    let spread = |spread: Spread| {
        if line.ratio.is_some() {
            format!("{:.3}..{:.3}", spread.min, spread.max)
        } else {
            format!("{}..{}", shown(line.unit, spread.min), shown(line.unit, spread.max))
        }
    };
    [
        line.benchmark.to_owned(),
        line.what.clone(),
        line.without.map_or_else(none, |without| shown(line.unit, without)),
        shown(line.unit, line.with),
        change(line).unwrap_or_else(none),
        line.spread.map_or_else(none, spread),
        line.aim.map_or_else(none, |aim| match aim {
            Aim::Slowdown(most) => format!("<= +{:.1} %", most * 100.0),
            Aim::AtMost(most) => format!("<= {}", shown(line.unit, most)),
            Aim::AtLeast(least) => format!(">= {}", shown(line.unit, least)),
            Aim::Ratio(most) => format!("<= x {most:.2}"),
        }),
        match (&line.failed, line.met) {
            (Some(why), _) => why.clone(),
            (None, Some(met)) => if met { "yes" } else { "NO" }.to_owned(),
            (None, None) => none(),
        },
    ]
}

/// A slowdown below the double, else how many times.
fn change(line: &Line) -> Option<String> {
    line.ratio.map(|ratio| {
        if (0.5..2.0).contains(&ratio) {
            format!("{:+.1} %", (ratio - 1.0) * 100.0)
        } else {
            format!("x {ratio:.2}")
        }
    })
}

fn shown(unit: Unit, value: f64) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    match unit {
        Unit::Nanoseconds => format!("{value:.0} ns"),
        Unit::Seconds => format!("{:.0} ms", value * 1000.0),
        Unit::Share => format!("{:.2} %", value * 100.0),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        Unit::Rate => format!("{:.2} GB/s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_by_the_median_of_the_rounds() {
        let line = Line::new("faults", "memtrace", Unit::Nanoseconds, 110.0).beside(100.0);
        let rounds = [1.02, 1.01, 1.5];
        let met = |most| line.clone().ratios(&rounds).map(|line| line.aim(Aim::Slowdown(most)).met);
        assert!(matches!(met(0.03), Ok(Some(true))), "one bad round is noise");
        assert!(matches!(met(0.01), Ok(Some(false))));
        assert_eq!(line.aim(Aim::AtMost(109.0)).met, Some(false));
    }

    #[test]
    fn a_row_without_a_number_says_why() {
        let machine = Machine { kernel: "6.1".to_owned(), cpus: 2, memory_bytes: 1 << 31, load: 0.5 };
        let mut report = Report::new(machine);
        report.add(Line::failed("idle", "netdata", "it ended\nwith more words"));
        assert!(
            report.table().contains("netdata") && report.table().contains("it ended\n"),
            "{}",
            report.table()
        );
        assert!(report.json().is_ok_and(|json| json.contains(r#""with": null"#)));
        assert!(report.all_met());
    }

    #[test]
    fn the_table_tells_what_was_not_measured() {
        let machine = Machine { kernel: "6.1".to_owned(), cpus: 2, memory_bytes: 1 << 31, load: 0.5 };
        let mut report = Report::new(machine);
        let line = Line::new("idle", "CPU", Unit::Share, 0.006).aim(Aim::AtMost(0.005));
        report.add(line.note("three windows"));
        report.skip("atop", "it is not installed");
        let table = report.table();
        assert!(table.contains("0.60 %") && table.contains("<= 0.50 %  NO"), "{table}");
        assert!(table.contains("idle, CPU: three windows") && table.contains("not measured: atop"));
        assert!(!report.all_met());
    }
}
