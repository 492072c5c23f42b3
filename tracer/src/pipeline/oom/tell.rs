//! One kill, put together from its two ends and from what was around it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Around, Dirtiers, Rows};
use crate::{
    aggregator::{
        oom::{Composition, Holder, Joined, Kill, LimitCgroup, Source, Trigger, Victim},
        row::{How, Memory},
    },
    event::{
        HostMemory,
        kmsg::{KernelKill, Process},
        oom::{Limit, Mark},
    },
    kernel::clock,
    resolve::{
        Container,
        container::{self, Role},
    },
};

/// A moment of the kernel's clock as a time of day.
fn wall(at: Duration) -> SystemTime {
    SystemTime::now() - clock::monotonic().saturating_sub(at)
}

/// All that is known of a kill, put together.
pub fn tell(joined: Joined<Around>, rows: &mut Rows, dirtiers: &dyn Dirtiers) -> Kill {
    let Joined { mark, line, early } = joined;
    let (mark, around) = mark.map(|seen| (seen.mark, seen.with)).unzip();
    let around = around.unwrap_or_default();
    let line = line.as_ref();
    let report = line.and_then(|line| line.report.as_deref());
    let container = whose(&around, line, rows);
    let global = match mark.as_ref().map(|mark| mark.limit) {
        Some(Limit::Global) => Some(true),
        Some(Limit::Cgroup { .. }) => Some(false),
        _ => line.map(|line| !line.memcg),
    };
    let limit_cgroup = limit_cgroup(mark.as_ref(), &around, line, rows).filter(|_| global != Some(true));
    let (memory, source) = match report.filter(|report| report.usage.is_some()) {
        Some(report) => (Composition::reported(report.limit, report.usage, &report.stat), Some(Source::Kmsg)),
        None if global == Some(true) && !early => {
            (host(&rows.aggregator.host().memory), Some(Source::Sample))
        }
        None => sampled(mark.as_ref(), &around, limit_cgroup.as_ref()),
    };
    let row = around.row;
    Kill {
        number: 0,
        at: wall(mark.as_ref().map(|mark| mark.at).or(line.map(|line| line.at)).unwrap_or_default()),
        before_attach: early && mark.is_none(),
        trigger: trigger(mark.as_ref(), &around, line, container.as_ref()),
        container,
        victim: victim(mark.as_ref(), line),
        global,
        limit_cgroup,
        memory,
        source,
        grown: around.grown,
        written_per_s: row.and_then(|row| dirtiers.written_per_s(row)),
        processes: report.map(|report| &report.processes).into_iter().flatten().map(holder).collect(),
        top_dirtiers: row.map(|row| dirtiers.top(row)).unwrap_or_default(),
        in_row: None,
        cause: String::new(),
    }
}

fn holder(process: &Process) -> Holder {
    let comm = process.comm.clone();
    Holder { pid: process.pid, comm, rss: process.rss, anon: process.anon }
}

fn victim(mark: Option<&Mark>, line: Option<&KernelKill>) -> Victim {
    let mut victim = Victim::default();
    if let Some(mark) = mark {
        victim.pid = mark.victim.pid;
        victim.tid = Some(mark.victim.tid);
        victim.comm.clone_from(&mark.victim.comm);
        victim.resident(mark.resident);
    }
    if let Some(line) = line {
        victim.tid = Some(line.pid);
        let processes = line.report.as_ref().map(|report| report.processes.as_slice()).unwrap_or_default();
        if victim.pid.is_none() && processes.iter().any(|process| process.pid == line.pid) {
            victim.pid = Some(line.pid);
        } else if victim.pid.is_none() {
            // The kernel chooses processes: the thread is another than the leader only where that has ended.
            victim.pid = Some(line.pid);
            victim.pid_how = Some(How::Inferred);
        }
        victim.comm.get_or_insert_with(|| line.comm.clone());
        victim.resident(line.resident);
    }
    victim
}

/// The victim's container.
fn whose(around: &Around, line: Option<&KernelKill>, rows: &mut Rows) -> Option<Arc<Container>> {
    // By now it may have its name.
    if let Some(container) = around.row.and_then(|row| rows.aggregator.shared(row)) {
        return Some(container);
    }
    if let Some(container) = &around.container {
        return Some(Arc::clone(container));
    }
    let constraint = line.and_then(|line| line.constraint.as_ref());
    // Members of a group: where the limit is a container's, they are in it.
    let of_limit = constraint
        .and_then(|constraint| constraint.limit.as_deref())
        .filter(|path| container::classify(path).role == Role::Container);
    let path = constraint.and_then(|constraint| constraint.victim.as_deref()).or(of_limit);
    let path = path?;
    match rows.tree.at(path).and_then(|id| rows.row_of(id)).and_then(|row| rows.aggregator.shared(row)) {
        Some(container) => Some(container),
        None => Some(Arc::new(rows.identify_gone(path))),
    }
}

fn trigger(
    mark: Option<&Mark>,
    around: &Around,
    line: Option<&KernelKill>,
    container: Option<&Arc<Container>>,
) -> Option<Trigger> {
    if let Some(Mark { trigger, .. }) = mark {
        return Some(Trigger {
            pid: trigger.pid,
            tid: Some(trigger.tid),
            comm: trigger.comm.clone(),
            container: around.trigger.clone(),
        });
    }
    let line = line?;
    let report = line.report.as_ref()?;
    let tid = report.trigger_tid;
    // Of the oldest report the head may be gone.
    if tid.is_none() && report.trigger_comm.is_none() {
        return None;
    }
    let own = tid == Some(line.pid);
    let leads = own || report.processes.iter().any(|process| Some(process.pid) == tid);
    Some(Trigger {
        pid: tid.filter(|_| leads),
        tid,
        comm: report.trigger_comm.clone(),
        container: container.filter(|_| own).cloned(),
    })
}

fn limit_cgroup(
    mark: Option<&Mark>,
    around: &Around,
    line: Option<&KernelKill>,
    rows: &Rows,
) -> Option<LimitCgroup> {
    let constraint = line.and_then(|line| line.constraint.as_ref());
    let report = line.and_then(|line| line.report.as_ref());
    let told = constraint
        .and_then(|constraint| constraint.limit.clone())
        .or_else(|| report.and_then(|report| report.path.clone()));
    if let Some(Limit::Cgroup { id, .. }) = mark.map(|mark| mark.limit) {
        let path = told.or_else(|| around.limit_path.clone());
        return Some(LimitCgroup { id: Some(id), path, path_how: None });
    }
    if let Some(path) = told {
        // As it was at the mark: by now it may be gone, as a container's is that had no other process.
        let around = around.rows.iter().find(|(_, known, _)| *known == path).map(|(id, ..)| *id);
        return Some(LimitCgroup {
            id: around.or_else(|| rows.tree.at(&path)),
            path: Some(path),
            path_how: None,
        });
    }
    // Where only one of the cgroups around the victim has a limit, it is that one.
    let mut limited = around.rows.iter().filter(|(_, _, memory)| memory.limit.is_some());
    let (id, path, _) = limited.next().filter(|_| limited.next().is_none())?;
    Some(LimitCgroup { id: Some(*id), path: Some(path.clone()), path_how: Some(How::Inferred) })
}

/// Without a report: the last look at the cgroup, with what the probe read of its counter.
fn sampled(
    mark: Option<&Mark>,
    around: &Around,
    limit: Option<&LimitCgroup>,
) -> (Composition, Option<Source>) {
    let id = limit.and_then(|limit| limit.id);
    let row = around.rows.iter().find(|(row, ..)| Some(*row) == id);
    // At the kill it was full: a look that found it half empty is of another time, and says nothing of this one.
    let full = |memory: &&(u64, String, Memory)| {
        let (_, _, memory) = memory;
        memory.current.zip(memory.limit).is_some_and(|(current, limit)| current >= limit / 2)
    };
    let own_limit = row.and_then(|(_, _, memory)| memory.limit);
    let sample = row.filter(full).map(|(_, _, memory)| Composition::sampled(memory));
    let counter = match mark.map(|mark| mark.limit) {
        Some(Limit::Cgroup { usage, limit, .. }) => Some((usage, limit)),
        _ => None,
    };
    match (sample, counter) {
        (Some(sample), counter) => {
            let (current, limit) = counter.unzip();
            let (current, limit) = (current.or(sample.current), limit.or(sample.limit));
            (Composition { limit, current, ..sample }, Some(Source::Sample))
        }
        (None, Some((usage, limit))) => {
            let (limit, current) = (Some(limit), Some(usage));
            (Composition { limit, current, ..Composition::default() }, Some(Source::Probe))
        }
        (None, None) => (Composition { limit: own_limit, ..Composition::default() }, None),
    }
}

/// Of a global kill: the host's memory at the last look.
fn host(memory: &HostMemory) -> Composition {
    Composition {
        limit: memory.total,
        current: memory.total.zip(memory.free).map(|(total, free)| total.saturating_sub(free)),
        anon: memory.anon,
        file: memory.cached,
        slab: memory.slab,
        ..Composition::default()
    }
}
