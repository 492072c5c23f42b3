//! Follows the lines of OOM reports (mm/oom_kill.c `dump_header` to `__oom_kill_process`, mm/memcontrol.c
//! `mem_cgroup_print_oom_meminfo`). Other lines may stand between; the kernel leaves out all but the last line where reports
//! come too fast; a line may be cut, and may come in pieces. What was not read is `None`.

use std::{sync::Arc, time::Duration};

use super::{
    constraint::{self, Constraint, constraint},
    record::record,
};
use crate::event::{Stat, oom::Resident, page_size};

/// Reports under way at once: the kernel writes one at a time, their pieces may come by several callers.
const REPORTS: usize = 8;
/// Processes kept of the table of tasks, those with most memory.
const PROCESSES: usize = 16;
/// No line is longer, and nothing that is put together of pieces.
const LINE: usize = 8192;
/// Killed tasks of a report that are told apart.
const KILLED: usize = 1024;
/// Members of a group are killed one right after the other.
const GROUP: Duration = Duration::from_secs(1);

/// A process in the table of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The thread group.
    pub pid: u32,
    pub comm: String,
    pub rss: u64,
    /// Since 6.8 (5b4e75d1fd36) the table tells.
    pub anon: Option<u64>,
}

/// What a report says before it names the victim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub trigger_comm: Option<String>,
    /// The thread that asked for memory.
    pub trigger_tid: Option<u32>,
    /// Of the cgroup at its limit.
    pub usage: Option<u64>,
    pub limit: Option<u64>,
    pub path: Option<String>,
    pub stat: Stat,
    pub processes: Vec<Process>,
    /// All members of a cgroup are killed.
    pub group: Option<String>,
}

/// One task that was killed.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelKill {
    /// Since boot, by the clock of the log.
    pub at: Duration,
    pub pid: u32,
    pub comm: String,
    pub resident: Resident,
    /// A cgroup was at its limit, not the host.
    pub memcg: bool,
    pub constraint: Option<Constraint>,
    pub report: Option<Arc<Report>>,
}

/// A report that is being read.
#[derive(Default)]
struct Reading {
    caller: String,
    begun: bool,
    report: Report,
    /// v1's keys: the plain ones are of the cgroup alone.
    plain_are_local: bool,
    statistics: bool,
    /// Names of the table's columns of numbers.
    columns: Option<Vec<String>>,
    oom_line: Option<String>,
    /// The cgroup at its limit, by that line.
    limit: Option<String>,
    /// A line whose end is still to come.
    open: Option<String>,
    killed: Vec<u32>,
    last_kill: Option<Duration>,
    shared: Option<Arc<Report>>,
}

/// Reads lines, gives kills.
#[derive(Default)]
pub struct Parser {
    readings: Vec<Reading>,
}

const KILLED_LINE: &str = ": Killed process ";
const STATS: &str = "Memory cgroup stats for ";
const GROUP_LINE: (&str, &str) = ("Tasks in ", " are going to be killed due to memory.oom.group set");

impl Parser {
    /// Records are missing here: what was begun is not gone on with.
    pub fn gap(&mut self) {
        self.readings.clear();
    }

    /// One record as the device gives it.
    pub fn line(&mut self, bytes: &[u8]) -> Option<KernelKill> {
        let record = record(bytes.get(..LINE.min(bytes.len()))?)?;
        let caller = record.caller.unwrap_or_default();
        let place = match self.readings.iter().position(|reading| reading.caller == caller) {
            Some(place) => place,
            None => {
                if self.readings.len() >= REPORTS {
                    self.readings.remove(0);
                }
                self.readings.push(Reading { caller: caller.to_owned(), ..Reading::default() });
                self.readings.len() - 1
            }
        };
        let reading = &mut self.readings[place];
        let open = if record.continued { reading.open.take() } else { None };
        let text = match open {
            Some(open) if open.len() + record.text.len() <= LINE => open + &record.text,
            _ => record.text,
        };
        reading.take(&text, record.at)
    }
}

impl Reading {
    fn take(&mut self, text: &str, at: Duration) -> Option<KernelKill> {
        if let Some(kill) = self.killed_line(text, at) {
            return kill;
        }
        if let Some((comm, _)) = text.split_once(" invoked oom-killer: ") {
            *self = Reading { caller: std::mem::take(&mut self.caller), begun: true, ..Reading::default() };
            self.report.trigger_comm = Some(comm.to_owned());
        }
        // The log is a ring: of the oldest report the head may be gone.
        self.begun |= text.starts_with("oom-kill:") || text.starts_with("Tasks state");
        if !self.begun {
            return None;
        }
        if let Some(rest) = text.strip_prefix("CPU: ") {
            let tid = rest.split_once(" PID: ").and_then(|(_, rest)| leading(rest));
            self.report.trigger_tid = self.report.trigger_tid.or(tid.map(|tid| tid as u32));
        } else if let Some(rest) = text.strip_prefix("memory: usage ") {
            self.report.usage = kib(rest);
            let limit = rest.split_once("limit ").and_then(|(_, rest)| kib(rest));
            self.report.limit = limit.filter(|limit| *limit < (i64::MAX as u64) / 4096 * 4096);
        } else if let Some(rest) = text.strip_prefix("kmem: usage ") {
            self.report.stat.kernel = kib(rest);
        } else if let Some(rest) = text.strip_prefix(STATS) {
            self.report.path = rest.strip_suffix(':').filter(|path| path.starts_with('/')).map(str::to_owned);
            self.open = self.report.path.is_none().then(|| text.to_owned());
            self.statistics = true;
        } else if text.starts_with("Tasks state") {
            self.statistics = false;
        } else if let Some(rest) = text.strip_prefix("[  pid  ]") {
            let mut names: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            self.columns = (names.pop().as_deref() == Some("name")).then_some(names);
        } else if text.starts_with("oom-kill:") {
            self.open = constraint::pid(text).is_none().then(|| text.to_owned());
            self.oom_line = Some(text.to_owned());
            self.columns = None;
        } else if let Some((path, _)) =
            text.strip_prefix(GROUP_LINE.0).and_then(|rest| rest.rsplit_once(GROUP_LINE.1))
        {
            self.report.group = Some(path.to_owned());
            self.shared = None;
        } else if text.starts_with(GROUP_LINE.0) {
            self.open = Some(text.to_owned());
        } else if self.columns.is_some() && text.starts_with('[') {
            self.process(text);
        } else if self.statistics {
            // Up to 6.3 all of them are one record.
            text.split('\n').for_each(|line| self.statistic(line));
        }
        None
    }

    fn statistic(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(' ') else { return };
        let Some(value) = value.parse::<u64>().ok() else { return };
        self.plain_are_local |= matches!(key, "cache" | "rss");
        let stat = &mut self.report.stat;
        let slot = match (self.plain_are_local, key) {
            (false, "anon") | (true, "total_rss") => &mut stat.anon,
            (false, "file") | (true, "total_cache") => &mut stat.file,
            (false, "shmem") | (true, "total_shmem") => &mut stat.shmem,
            (false, "file_dirty") | (true, "total_dirty") => &mut stat.dirty,
            (false, "file_writeback") | (true, "total_writeback") => &mut stat.writeback,
            (false, "kernel") => &mut stat.kernel,
            (false, "slab") => &mut stat.slab,
            (false, "sock") => &mut stat.sock,
            _ => return,
        };
        *slot = Some(value);
    }

    /// `[    129]     0   129    10528    10353 ... eat`
    fn process(&mut self, text: &str) {
        let Some(columns) = &self.columns else { return };
        let Some(mut rest) = text.split_once(']').map(|(_, rest)| rest) else { return };
        let mut numbers = Vec::with_capacity(columns.len());
        for _ in columns {
            rest = rest.trim_start_matches(' ');
            let end = rest.find(' ').unwrap_or(rest.len());
            let Ok(number) = rest[..end].parse::<i64>() else { return };
            numbers.push(number);
            rest = &rest[end..];
        }
        let get = |name: &str| {
            let place = columns.iter().position(|column| column == name)?;
            u64::try_from(*numbers.get(place)?).ok()
        };
        let pages = |name: &str| get(name).map(|pages| pages.saturating_mul(page_size()));
        let (Some(pid), Some(rss)) = (get("tgid"), pages("rss")) else { return };
        let comm = rest.strip_prefix(' ').unwrap_or(rest).to_owned();
        let process = Process { pid: pid as u32, comm, rss, anon: pages("rss_anon") };
        let processes = &mut self.report.processes;
        let place = processes.partition_point(|other| other.rss >= process.rss);
        if place < PROCESSES {
            processes.insert(place, process);
            processes.truncate(PROCESSES);
        }
    }

    /// `None`: it is another line; `Some(None)`: one that was told already.
    fn killed_line(&mut self, text: &str, at: Duration) -> Option<Option<KernelKill>> {
        let (message, rest) = text.split_once(KILLED_LINE)?;
        let memcg = match message {
            "Memory cgroup out of memory" => true,
            "Out of memory" | "Out of memory (oom_kill_allocating_task)" => false,
            _ => return None,
        };
        let (pid, rest) = rest.split_once(" (")?;
        let pid: u32 = pid.parse().ok()?;
        // A cut line still names its victim.
        let (comm, numbers) = rest.rsplit_once(") total-vm:").unwrap_or((rest.trim_end_matches(')'), ""));
        let resident = |key: &str| kib(numbers.split_once(key)?.1);
        let resident = Resident {
            anon: resident("anon-rss:"),
            file: resident("file-rss:"),
            shmem: resident("shmem-rss:"),
        };
        if self.killed.contains(&pid) {
            return Some(None);
        }
        let own = self.oom_line.as_deref().and_then(constraint::pid) == Some(pid);
        let member =
            self.report.group.is_some() && self.last_kill.is_some_and(|last| at.saturating_sub(last) < GROUP);
        let of_report = self.begun && (own || (member && memcg));
        let constraint = match &self.oom_line {
            Some(line) if own => constraint(line, comm),
            // Another member: the limit is that of the first, its own cgroup is not told. The path over the statistics may
            // have come in pieces, and one of them be lost.
            _ if of_report => {
                self.limit.clone().map(|limit| Constraint { limit: Some(limit), victim: None, global: false })
            }
            _ => None,
        };
        if own {
            self.limit = constraint.as_ref().and_then(|constraint| constraint.limit.clone());
        }
        let report = of_report.then(|| {
            self.last_kill = Some(at);
            if self.killed.len() < KILLED {
                self.killed.push(pid);
            }
            Arc::clone(self.shared.get_or_insert_with(|| Arc::new(self.report.clone())))
        });
        Some(Some(KernelKill { at, pid, comm: comm.to_owned(), resident, memcg, constraint, report }))
    }
}

/// The digits that a text begins with.
fn leading(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// `32768kB` at the beginning, in bytes; cut off in the number it is none.
fn kib(text: &str) -> Option<u64> {
    let number = leading(text)?;
    text[text.find(|c: char| !c.is_ascii_digit())?..].starts_with("kB").then(|| number.saturating_mul(1024))
}

#[cfg(test)]
mod tests;
