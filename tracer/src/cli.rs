//! The command line. Words, ranges and exit statuses are relied on from outside (see `docs/architecture.md`).

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};

use crate::{
    aggregator::daemon::Wanted,
    metric::{self, call, dirty, stream},
    pipeline::BUDGET,
    probe::plan::Force,
    view::select::Filter,
};

/// Tells, live, which container eats the host's memory, of what kind, and how fast.
#[derive(Debug, Parser)]
#[command(name = "memtrace", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed at run time, 2 usage, 3 not permitted or the kernel lacks \
                        what is needed, 10 `diagnose --exit-code` and a finding is critical."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Which container's memory grows, of what, and how fast: live, fastest-growing first
    Top(Box<Top>),
    /// How long each container's log lines are, what was written since the last newline, and who reads them
    Lines(Box<Lines>),
    /// Which tasks are in uninterruptible sleep, in which container, since when, on what; how long such sleeps are
    Stuck(Box<Stuck>),
    /// Who makes page cache dirty: container, process, file; what is written back, and who waits for it
    Dirty(Box<Dirty>),
    /// Who was killed for want of memory, at whose limit, what it was full of: as it happens, past kills first
    Oom(Box<Oom>),
    /// Removed memory cgroups that the kernel keeps, what they pin, where they came from, and who makes them
    Cgroups(Box<Cgroups>),
    /// System calls of containers: how many, how many failed and why, how long they took
    Syscalls(Box<Syscalls>),
    /// Watches for a while and says what is wrong: who, by which mechanism, on what evidence, and what to do
    Diagnose(Box<Diagnose>),
    /// What this kernel allows, which hook serves each probe, and what is lost where one is missing
    Doctor(Doctor),
    /// Writes a page of `docs/` (for `cargo xtask docs`)
    #[command(hide = true)]
    GenerateDocs {
        #[arg(value_parser = PossibleValuesParser::new(["probes", "metrics"]))]
        page: String,
    },
    /// Writes completions and manual pages below a folder `share` (for `cargo xtask install`)
    #[command(hide = true)]
    GenerateShare { dir: PathBuf },
}

// No sentence of its own: a command that takes these in would be described by it.
#[derive(Debug, Args)]
pub struct Watch {
    /// Seconds between two looks
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    pub interval: Duration,

    /// End after this many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Only rows that match: a glob over id prefix, container name, pod name or namespace/pod/container
    #[arg(short, long, value_name = "PATTERN", value_parser = |text: &str| Filter::new(text))]
    pub container: Option<Filter>,

    /// Show at most this many rows
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,

    /// One JSON object an interval (NDJSON) instead of a screen or a table
    #[arg(long)]
    pub json: bool,

    /// Attach only so: [PROBE=]KIND[:TARGET]
    #[arg(long, hide = true, value_name = "KIND", value_parser = |text: &str| Force::parse(text))]
    pub attach: Vec<Force>,

    /// Print what the kernel programs log (error, warn, info, debug, trace)
    #[arg(long, hide = true, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LOG_LEVELS))]
    pub probe_log: Option<String>,
}

#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    pub watch: Watch,

    /// Column to sort by, greatest first
    #[arg(long, value_name = "COLUMN", default_value = "growth",
          value_parser = PossibleValuesParser::new(metric::sort_words()), hide_possible_values = true,
          long_help = sort_help())]
    pub sort: String,

    /// Count charges for so long (30 s) even where that costs every page fault (65-190 ns)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30",
          value_parser = seconds)]
    pub charges: Option<Duration>,

    /// Tell which processes of the rows that -c chooses are charged, and through which kernel functions, for so long (30 s)
    ///
    /// Kernel stacks are sampled once a batch of 32 or 64 pages. Where the kernel has only hooks on every page, that
    /// costs every page fault of the host 65-190 ns meanwhile.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30",
          value_parser = seconds, requires = "container")]
    pub sites: Option<Duration>,

    /// At the end, write the stacks of --sites to this file, folded as flame graph tools read them (bytes)
    #[arg(long, value_name = "FILE", requires = "sites")]
    pub folded: Option<PathBuf>,

    /// Percent of one CPU that memtrace may take, its programs in the kernel too; above it system calls are not counted
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0 * BUDGET, value_parser = percent)]
    pub budget: f64,

    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[derive(Debug, Args)]
pub struct Lines {
    #[command(flatten)]
    pub watch: Watch,

    /// Column to sort by, greatest first
    #[arg(long, value_name = "COLUMN", default_value = stream::URGENT,
          value_parser = PossibleValuesParser::new(stream::sort_words()), hide_possible_values = true,
          long_help = stream_sort_help())]
    pub sort: String,

    /// Draw how long the lines of each stream are, all on one axis
    #[arg(long, conflicts_with = "json")]
    pub histogram: bool,

    /// Show where the lines go: relays and readers, with bytes a second, what they hold and how they grow
    #[arg(long, conflicts_with = "json")]
    pub flow: bool,

    /// Write and draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[derive(Debug, Args)]
pub struct Stuck {
    #[command(flatten)]
    pub watch: Watch,

    /// A task is stuck that sleeps uninterruptibly for so many seconds
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub threshold: Duration,

    /// Column to sort by, greatest first: blocked, container, pid
    #[arg(long, value_name = "COLUMN", default_value = "blocked",
          value_parser = PossibleValuesParser::new(["blocked", "container", "pid"]), hide_possible_values = true)]
    pub sort: String,

    /// Write with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[derive(Debug, Args)]
pub struct Dirty {
    #[command(flatten)]
    pub watch: Watch,

    /// Column to sort by, greatest first
    #[arg(long, value_name = "COLUMN", default_value = dirty::RATE,
          value_parser = PossibleValuesParser::new(dirty::sort_words()), hide_possible_values = true,
          long_help = dirty_sort_help())]
    pub sort: String,

    /// Count what is written back even where only the statistics of every page tell; else it is inferred there
    #[arg(long, long_help = written_help())]
    pub written: bool,

    /// Write with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[derive(Debug, Args)]
pub struct Oom {
    // Of -n: how many of the kills before attach are shown.
    #[command(flatten)]
    pub watch: Watch,

    /// Write with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

#[derive(Debug, Args)]
pub struct Cgroups {
    #[command(flatten)]
    pub watch: Watch,
}

#[derive(Debug, Args)]
pub struct Syscalls {
    #[command(flatten)]
    pub watch: Watch,

    /// Column to sort by, greatest first
    #[arg(long, value_name = "COLUMN", default_value = call::TIME,
          value_parser = PossibleValuesParser::new(call::sort_words()), hide_possible_values = true,
          long_help = call_sort_help())]
    pub sort: String,

    /// Write with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
}

/// In the order of `aya_log::Level`, which counts from 1.
pub const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

#[derive(Debug, Args)]
pub struct Diagnose {
    /// Seconds to watch before the report; what is sure is told at once
    #[arg(short, long, default_value = "15", value_name = "SECONDS", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds between two looks
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    pub interval: Duration,

    /// Only findings about what matches: a glob over id prefix, container name, pod name or
    /// namespace/pod/container
    #[arg(short, long, value_name = "PATTERN", value_parser = |text: &str| Filter::new(text))]
    pub container: Option<Filter>,

    /// Look at this process, too, as at a daemon of containers: its number, or its name (repeatable)
    #[arg(long, value_name = "PID|COMM", value_parser = Wanted::parse)]
    pub watch: Vec<Wanted>,

    /// Percent of one CPU that memtrace may take, its programs in the kernel too; above it system calls are not counted
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0 * BUDGET, value_parser = percent)]
    pub budget: f64,

    /// One JSON object at the end
    #[arg(long)]
    pub json: bool,

    /// Exit with status 10 when a finding is critical
    #[arg(long)]
    pub exit_code: bool,

    /// Attach only so: [PROBE=]KIND[:TARGET]
    #[arg(long, hide = true, value_name = "KIND", value_parser = |text: &str| Force::parse(text))]
    pub attach: Vec<Force>,

    /// Print what the kernel programs log (error, warn, info, debug, trace)
    #[arg(long, hide = true, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LOG_LEVELS))]
    pub probe_log: Option<String>,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// One JSON object
    #[arg(long)]
    pub json: bool,

    /// Print the kernel facts that the plan is made from, as JSON, with what the kernel refused when tried
    #[arg(long, hide = true)]
    pub facts: bool,
}

fn sort_help() -> String {
    format!("Column to sort by, greatest first: {}", metric::sort_words().collect::<Vec<_>>().join(", "))
}

fn written_help() -> &'static str {
    "Count what is written back even where only the statistics of every page tell: six to seven more runs of a program for \
     each page that is written, some for each page fault. Without it, what is written is inferred there: what became dirty, \
     less what is dirty or under way to the disk still; what was dropped unwritten counts as written"
}

fn dirty_sort_help() -> String {
    format!("Column to sort by, greatest first: {}", dirty::sort_words().collect::<Vec<_>>().join(", "))
}

fn call_sort_help() -> String {
    let words = call::sort_words().collect::<Vec<_>>().join(", ");
    format!("Column to sort calls by, and containers by its sum, or greatest, greatest first: {words}")
}

fn stream_sort_help() -> String {
    let words = stream::sort_words().collect::<Vec<_>>().join(", ");
    format!(
        "Column to sort by, greatest first; urgent: lines over 1 MiB that still grow, then the busiest: {words}"
    )
}

/// Of one processor, with fractions.
fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=10_000.0).contains(&percent) {
        Ok(percent)
    } else {
        Err("out of range: from 0.1 to 10000 percent of one CPU".to_owned())
    }
}

/// A number of seconds with fractions, from a tenth to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("out of range: from 0.1 to 86400 seconds".to_owned())
    }
}
