//! Whether a row needs a person now. Not a finding: no cause is claimed, only that one should look.

use crate::{
    aggregator::{
        row::Row,
        stream::{Reader, Stream},
        stuck::StuckTask,
    },
    finding,
    view::{composition, host, unit},
};

const CRITICAL_SECONDS: f64 = 120.0;
const WARNING_SECONDS: f64 = 600.0;
const WARNING_LIMIT_SHARE: f64 = 0.9;
const WARNING_HOST_SHARE_PER_S: f64 = 0.01;

/// The rules, as the help states them.
pub const RULES: &[(&str, &str)] = &[
    (
        "!! !",
        "a finding is about it, critical or a warning: the detail tells it, the tab of findings all of them",
    ),
    ("!!", "reaches its limit in less than 2 min, or a process was OOM-killed within the last minute"),
    ("!", "reaches its limit in less than 10 min, or sooner by clean cache, which the kernel can drop"),
    ("!", "90 % or more of its limit, clean cache not counted"),
    ("!", "grows by more than 1 % of the host's memory a second"),
    ("!", "has threads stuck in uninterruptible sleep (D)"),
    ("x", "removed in this interval: its memory now counts in the row around it"),
];

/// The same of streams of log lines.
pub const STREAM_RULES: &[(&str, &str)] = &[
    (
        "!!",
        "its open line is over 1 MiB and grows, and its reader's anonymous memory grew by half of that or more",
    ),
    ("!", "its open line is over 1 MiB and grows, and its reader does not write it on, as far as is known"),
];

/// The same of stuck tasks.
pub const TASK_RULES: &[(&str, &str)] = &[
    ("!!", "SIGKILL is pending, and it is in D: nothing ends it but what it waits on"),
    ("!", "blocked for longer than 5 s; no mark: by its own vfork, or by the freezer of its cgroup"),
];

/// A line is long from here on: no program prints that much without a newline to be read as a line.
const LONG_LINE: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Warning,
    Critical,
}

impl Level {
    /// Readable without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Level::Warning => "!",
            Level::Critical => "!!",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Severity {
    pub level: Level,
    pub why: String,
}

/// The first rule that holds, worst first. `killed`: a process of the row was OOM-killed a short while ago.
pub fn severity(row: &Row, mem_total: Option<u64>, killed: bool) -> Option<Severity> {
    let critical = |why| Some(Severity { level: Level::Critical, why });
    let warning = |why| Some(Severity { level: Level::Warning, why });
    if killed {
        return critical(String::from("OOM kill within the last minute"));
    }
    let until_limit = |seconds: f64| format!("at its limit in {}", unit::seconds(seconds));
    if let Some(seconds) = row.seconds_to_limit {
        let droppable = composition::is_droppable(&row.growth_ewma_per_s);
        if seconds < CRITICAL_SECONDS && !droppable {
            return critical(until_limit(seconds));
        }
        if seconds < WARNING_SECONDS && droppable {
            return warning(format!("{}, mostly of clean cache", until_limit(seconds)));
        }
        if seconds < WARNING_SECONDS {
            return warning(until_limit(seconds));
        }
    }
    if let (Some(held), Some(limit)) = (composition::held(&row.memory), row.memory.effective_limit)
        && limit > 0
        && held as f64 >= limit as f64 * WARNING_LIMIT_SHARE
    {
        return warning(format!("{} of its limit", unit::share(held as f64 / limit as f64)));
    }
    if let (Some(growth), Some(total)) = (row.growth_ewma_per_s.current, mem_total)
        && total > 0
        && growth > total as f64 * WARNING_HOST_SHARE_PER_S
    {
        return warning(format!("grows by {} of the host a second", unit::share(growth / total as f64)));
    }
    if let Some(stuck) = row.tasks.stuck.filter(|stuck| *stuck > 0) {
        return warning(format!("{stuck} stuck in uninterruptible sleep"));
    }
    None
}

/// What a finding's own word for it is on the screen; what is only worth knowing has no mark.
pub fn of_finding(severity: finding::Severity) -> Option<Level> {
    match severity {
        finding::Severity::Critical => Some(Level::Critical),
        finding::Severity::Warning => Some(Level::Warning),
        finding::Severity::Info => None,
    }
}

/// Whether its line is long and still grows.
pub fn is_endless(stream: &Stream) -> bool {
    stream.open_line > LONG_LINE && stream.open_line_per_s.is_some_and(|growth| growth > 0.0)
}

/// The first rule for streams that holds. `reader`: what is known of the stream's last one.
pub fn stream(stream: &Stream, reader: Option<&Reader>) -> Option<Severity> {
    let half = stream.open_line / 2;
    // A reader that splits the line and writes it on holds little of it.
    if !is_endless(stream) || stream.held.is_some_and(|held| held < half) {
        return None;
    }
    let size = host::size(Some(stream.open_line));
    let grown = reader.and_then(|reader| reader.anon_growth).filter(|grown| *grown >= half as i64);
    Some(match grown {
        Some(grown) => Severity {
            level: Level::Critical,
            why: format!("{size} without a newline, its reader grew by {}", unit::bytes(grown as f64)),
        },
        None => Severity { level: Level::Warning, why: format!("{size} without a newline, and growing") },
    })
}

/// The first rule for stuck tasks that holds.
pub fn task(task: &StuckTask) -> Option<Severity> {
    let (level, why) = match task.wait.is_intended() {
        _ if task.is_unkillable() => {
            (Level::Critical, "SIGKILL is pending, and it sleeps on: nothing ends it but what it waits on")
        }
        false => (Level::Warning, "blocked for too long"),
        true => return None,
    };
    Some(Severity { level, why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregator::row::{Growth, Memory, Tasks},
        resolve::Runtime,
        view::example,
    };

    const GIB: u64 = 1 << 30;

    fn level(change: impl FnOnce(&mut Row), killed: bool) -> Option<Level> {
        let mut row = example::row(example::container(Runtime::Docker, Some("app")));
        row.memory = Memory { current: Some(GIB / 2), effective_limit: Some(GIB), ..Memory::default() };
        change(&mut row);
        severity(&row, Some(32 * GIB), killed).map(|severity| severity.level)
    }

    #[test]
    fn the_worst_rule_that_holds_decides() {
        assert_eq!(level(|_| {}, false), None);
        assert_eq!(level(|_| {}, true), Some(Level::Critical));
        assert_eq!(level(|row| row.seconds_to_limit = Some(119.0), false), Some(Level::Critical));
        assert_eq!(level(|row| row.seconds_to_limit = Some(599.0), false), Some(Level::Warning));
        assert_eq!(level(|row| row.seconds_to_limit = Some(601.0), false), None);
        assert_eq!(level(|row| row.memory.current = Some(GIB * 95 / 100), false), Some(Level::Warning));
        assert_eq!(
            level(|row| row.tasks = Tasks { stuck: Some(1), ..Tasks::default() }, false),
            Some(Level::Warning)
        );
        let fast = Growth { current: Some(0.4e9), ..Growth::default() };
        assert_eq!(level(|row| row.growth_ewma_per_s = fast, false), Some(Level::Warning));
    }

    #[test]
    fn a_line_without_an_end_alarms_where_its_reader_hoards_it() {
        let logs = example::logs();
        let hoarded = logs.streams[6].as_ref();
        let level = |stream: &Stream, reader| super::stream(stream, reader).map(|severity| severity.level);
        assert_eq!(level(hoarded, logs.readers.first()), Some(Level::Critical));
        assert_eq!(level(hoarded, logs.readers.get(1)), Some(Level::Warning), "another's growth is no proof");
        assert_eq!(level(&Stream { held: None, ..hoarded.clone() }, None), Some(Level::Warning));
        assert_eq!(level(&Stream { held: Some(0), ..hoarded.clone() }, logs.readers.first()), None);
        assert_eq!(level(&Stream { open_line: LONG_LINE, ..hoarded.clone() }, None), None);
        assert_eq!(level(&Stream { open_line_per_s: Some(0.0), ..hoarded.clone() }, None), None);
    }

    #[test]
    fn clean_cache_alarms_less() {
        let full_of_cache = |row: &mut Row| {
            row.memory.current = Some(GIB);
            row.memory.file = Some(GIB * 9 / 10);
        };
        assert_eq!(level(full_of_cache, false), None);
        let reads_a_file = |row: &mut Row| {
            row.seconds_to_limit = Some(4.0);
            row.growth_ewma_per_s = Growth { current: Some(1e8), file: Some(1e8), ..Growth::default() };
        };
        assert_eq!(level(reads_a_file, false), Some(Level::Warning));
    }
}
