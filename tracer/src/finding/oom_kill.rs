//! A process was killed for want of memory: who, at whose limit, and what that was full of.
//!
//! What made the memory full is in the kill's own record; here it is weighed. One before memtrace came is worth knowing, one
//! that happened while it watched is trouble. Several of one container are one finding, of the last.

use std::sync::Arc;

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    evidence::{Dirtier, Evidence, Value},
    remedy,
};
use crate::{
    aggregator::{
        oom::{Kill, Source},
        stream::Process,
    },
    quantity::{bytes, timestamp},
    resolve::label::label,
};

/// Containers with kills before memtrace came that are told one by one, the last ones: a kernel log may be full of them.
const BEFORE: usize = 4;

pub(super) fn check(look: &Look<'_>, kills: &[Arc<Kill>]) -> Vec<Finding> {
    let found = each(look, kills);
    let mut before = 0;
    let mut told: Vec<Finding> = Vec::new();
    for finding in found {
        before += usize::from(finding.severity == Severity::Info);
        if before <= BEFORE || finding.severity > Severity::Info {
            told.push(finding);
        }
    }
    if let Some(last) = told.iter_mut().rfind(|finding| finding.severity == Severity::Info)
        && before > BEFORE
    {
        let more = before - BEFORE;
        last.summary
            .push_str(&format!("; {more} more had kills before that, which `memtrace oom -d 1` tells"));
    }
    told
}

/// One a container.
fn each(look: &Look<'_>, kills: &[Arc<Kill>]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    // The last of a container first.
    for kill in kills.iter().rev() {
        let finding = Case { look, kill }.finding();
        if !found.iter().any(|known| known.id == finding.id) {
            found.push(finding);
        }
    }
    found
}

struct Case<'a> {
    look: &'a Look<'a>,
    kill: &'a Kill,
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        let kill = self.kill;
        let of = kill.container.as_ref().map_or("host", |container| container.id.as_str());
        // The id of a cgroup that was gone before memtrace came is not known: 0.
        let row = kill.container.as_ref().map(|container| container.cgroup.id).filter(|id| *id != 0);
        Finding {
            id: format!("{}:{of}", Kind::OomKill.as_str()),
            kind: Kind::OomKill,
            severity: if kill.before_attach { Severity::Info } else { Severity::Critical },
            container: kill.container.clone(),
            daemon: None,
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: "A composition that does not add up to the limit, or a `source` that is only the last sample: then \
                         what was charged in between is not known. The kernel's own report is in `dmesg`."
                .to_owned(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: kill.victim.anon.unwrap_or(0),
            grown: row.map(|row| Grown { row: Some(row), bytes_per_s: 0.0 }),
            nature: if self.is_of_dirty_pages() { Nature::DirtyPages } else { Nature::Plain },
        }
    }

    fn victim(&self) -> String {
        let victim = &self.kill.victim;
        let comm = victim.comm.as_deref().unwrap_or("a process");
        victim.pid.map_or_else(|| comm.to_owned(), |pid| format!("{comm}[{pid}]"))
    }

    fn summary(&self) -> String {
        let kill = self.kill;
        let who = kill.container.as_ref().map_or_else(|| "the host".to_owned(), |container| label(container));
        let times = match kill.in_row {
            Some(in_row) if in_row.count > 1 => format!(" ({} kills so far)", in_row.count),
            _ => String::new(),
        };
        let when = match kill.before_attach {
            true => format!(" before memtrace came, at {}", timestamp(kill.at)),
            false => String::new(),
        };
        format!("{} of {who} was killed for want of memory{when}{times}: {}", self.victim(), kill.cause)
    }

    fn evidence(&self) -> Evidence {
        let kill = self.kill;
        let memory = &kill.memory;
        let source = kill.source.map_or("unknown", |source| match source {
            Source::Probe => "probe",
            Source::Kmsg => "kmsg",
            Source::Sample => "sample",
        });
        let dirtiers = kill.top_dirtiers.iter().map(|dirtier| Dirtier {
            process: Process { pid: dirtier.pid, comm: Arc::from(dirtier.comm.as_str()) },
            path: dirtier.path.as_deref().map(Arc::from),
            dirtied: dirtier.dirtied,
        });
        let trigger = kill.trigger.as_ref();
        Evidence::default()
            .with("victim", "the process that was killed", Value::record(&kill.victim))
            .with(
                "trigger",
                "the task that asked for memory",
                Value::record(&trigger.map(|trigger| {
                    serde_json::json!({
                        "pid": trigger.pid,
                        "comm": trigger.comm,
                        "container": trigger.container,
                    })
                })),
            )
            .with("limit_cgroup", "the cgroup at its limit", Value::record(&kill.limit_cgroup))
            .with("memory", "what that was made of", Value::record(memory))
            .with("source", "of the composition", Value::Word(source))
            .with("before_attach", "", Value::record(&kill.before_attach))
            .with("at", "", Value::record(&timestamp(kill.at)))
            .with("limit", "the limit that was met", Value::Bytes(memory.limit))
            .with("anon", "anonymous memory at the kill", Value::Bytes(memory.anon))
            .with("file", "page cache", Value::Bytes(memory.file))
            .with("shmem", "of it tmpfs and shared memory", Value::Bytes(memory.shmem))
            .with("dirty", "of it not yet written", Value::Bytes(memory.dirty))
            .with("writeback", "of it being written", Value::Bytes(memory.writeback))
            .with("kills", "of this container", Value::Count(kill.in_row.map(|in_row| in_row.count)))
            .with("top_dirtiers", "in the minute before by", Value::Dirtiers(dirtiers.collect()))
            .with("cause", "", Value::record(&kill.cause))
    }

    /// Page cache that could not be written fast enough.
    fn is_of_dirty_pages(&self) -> bool {
        is_of_dirty_pages(self.kill)
    }

    fn advice(&self) -> Vec<String> {
        let kill = self.kill;
        let mut advice = Vec::new();
        match kill.memory.limit {
            _ if self.is_of_dirty_pages() => advice.push(
                "Do not raise the limit first: what filled it is written faster than the disk takes it. Let the writer \
                 use direct or synchronous I/O."
                    .to_owned(),
            ),
            Some(limit) => advice.push(format!(
                "Find out what holds the memory before raising the limit of {}: a leak fills any limit.",
                bytes(limit as f64)
            )),
            None => advice.push("Give what grows a limit of its own, so that it does not take others with it.".to_owned()),
        }
        let lives = |id: u64| self.look.rows.iter().any(|row| row.container.cgroup.id == id);
        if let Some(container) = kill.container.as_ref().filter(|container| lives(container.cgroup.id)) {
            advice.extend(match self.is_of_dirty_pages() {
                true => remedy::view(container, "dirty"),
                false => remedy::sites(container),
            });
        }
        advice.push("The record of this kill and of those before:".to_owned());
        advice.push("$ memtrace oom -d 1".to_owned());
        advice
    }
}

/// A quarter of the limit or more was dirty or being written.
pub(super) fn is_of_dirty_pages(kill: &Kill) -> bool {
    let memory = &kill.memory;
    let outstanding = memory.dirty.unwrap_or(0) + memory.writeback.unwrap_or(0);
    memory.limit.is_some_and(|limit| outstanding >= limit / 4)
}
