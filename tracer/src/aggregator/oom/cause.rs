//! Why, in one sentence, from the numbers alone: which limit, what it was filled with, by whom.

use super::kill::{Composition, Dirtier, Holder, Kill};
use crate::quantity;

/// A part of this share of the whole says what the memory was.
const MAIN: f64 = 0.5;
/// Dirty pages matter from this share on: reclaim has to wait for them.
const DIRTY: f64 = 0.2;

fn size(bytes: u64) -> String {
    quantity::bytes(bytes as f64)
}

/// Names are kept as they are; views make them harmless.
fn process(comm: &str, pid: u32) -> String {
    format!("{comm}[{pid}]")
}

pub fn cause(kill: &Kill) -> String {
    let head = head(kill);
    let body = if kill.global == Some(true) { host(kill) } else { filled(kill) };
    let victim = kill.victim.anon.filter(|anon| *anon > 0);
    match (body, victim) {
        (Some(body), _) => format!("{head}: {body}"),
        (None, Some(anon)) => format!(
            "{head}: the victim held {} anonymous memory; what else it was filled with is not known",
            size(anon)
        ),
        (None, None) => format!("{head}; what it was filled with is not known"),
    }
}

fn head(kill: &Kill) -> String {
    if kill.global == Some(true) {
        return "the host had no memory left".to_owned();
    }
    let limit = match kill.memory.limit {
        Some(limit) => format!("limit {}", size(limit)),
        None => "a limit that is not known".to_owned(),
    };
    let own = kill.container.as_deref().map(|container| container.cgroup.path.as_str());
    let path = kill.limit_cgroup.as_ref().and_then(|limit| limit.path.as_deref());
    match (path, own) {
        // Of the container itself, or of a cgroup in it.
        (Some(path), Some(own)) if own != path && own.starts_with(path.trim_end_matches('/')) => {
            format!("{limit} of {path}, which the container is in")
        }
        _ => limit,
    }
}

fn host(kill: &Kill) -> Option<String> {
    let most = kill.processes.first();
    let most = most.map(|most| {
        format!(
            "{} held {}, the most of all",
            process(&most.comm, most.pid),
            size(most.anon.unwrap_or(most.rss))
        )
    });
    let victim = kill.victim.anon.map(|anon| format!("the victim held {} anonymous memory", size(anon)));
    let is_victim = kill.processes.first().is_some_and(|most| Some(most.pid) == kill.victim.pid);
    match (most, victim) {
        (Some(most), Some(victim)) if !is_victim => Some(format!("{most}; {victim}")),
        (most, victim) => most.or(victim),
    }
}

/// What the cgroup was made of, disjoint.
struct Parts {
    anon: Option<u64>,
    dirty: Option<u64>,
    clean: Option<u64>,
    shmem: Option<u64>,
    kernel: Option<u64>,
    sock: Option<u64>,
}

impl Parts {
    fn of(memory: &Composition) -> Parts {
        let dirty = match (memory.dirty, memory.writeback) {
            (None, None) => None,
            (dirty, writeback) => Some(dirty.unwrap_or(0) + writeback.unwrap_or(0)),
        };
        let not_shared = memory.file.map(|file| file.saturating_sub(memory.shmem.unwrap_or(0)));
        Parts {
            anon: memory.anon,
            dirty,
            clean: not_shared.map(|file| file.saturating_sub(dirty.unwrap_or(0))),
            shmem: memory.shmem,
            kernel: memory.kernel,
            sock: memory.sock,
        }
    }
}

fn filled(kill: &Kill) -> Option<String> {
    let memory = &kill.memory;
    let parts = Parts::of(memory);
    let listed = [parts.anon, parts.dirty, parts.clean, parts.shmem, parts.kernel, parts.sock];
    let sum: u64 = listed.iter().flatten().sum();
    let whole = memory.current.unwrap_or(sum).max(1) as f64;
    let share = |part: Option<u64>| part.unwrap_or(0) as f64 / whole;
    if sum == 0 {
        return memory
            .current
            .filter(|current| *current > 0 && kill.victim.anon.is_none())
            .map(|current| format!("{} in use", size(current)));
    }
    let most = listed.iter().map(|part| share(*part)).fold(0.0, f64::max);
    let is_most = |part: Option<u64>| part.is_some() && share(part) >= most;
    let anon_only = || parts.anon.map(|anon| format!("; anon only {}", size(anon))).unwrap_or_default();
    if share(parts.anon) < MAIN && share(parts.dirty) >= DIRTY {
        return Some(dirty(kill, parts.dirty?) + &anon_only());
    }
    Some(match () {
        () if is_most(parts.anon) => anon(parts.anon?, &kill.processes),
        () if is_most(parts.shmem) => format!(
            "{} in tmpfs files and shared memory (shmem), which nothing drops but removing them{}",
            size(parts.shmem?),
            anon_only()
        ),
        () if is_most(parts.kernel) => {
            let slab = memory.slab.map(|slab| format!(", of which {} slab", size(slab))).unwrap_or_default();
            format!("{} kernel memory{slab}{}", size(parts.kernel?), anon_only())
        }
        () if is_most(parts.sock) => format!("{} network buffers (sock){}", size(parts.sock?), anon_only()),
        () if is_most(parts.dirty) => dirty(kill, parts.dirty?) + &anon_only(),
        () => format!("{} page cache that could not be dropped in time{}", size(parts.clean?), anon_only()),
    })
}

fn anon(anon: u64, processes: &[Holder]) -> String {
    let mut text = format!("{} anonymous memory", size(anon));
    let most = processes.iter().max_by_key(|process| process.anon.unwrap_or(process.rss));
    if let Some(most) = most {
        // With files and what it had before it came into the cgroup a process may seem to hold more than there is.
        let held = most.anon.unwrap_or(most.rss).min(anon);
        text += &format!(", of which {} held {}", process(&most.comm, most.pid), size(held));
    }
    text
}

fn dirty(kill: &Kill, bytes: u64) -> String {
    let mut text = format!("{} dirty page cache", size(bytes));
    let most = kill.top_dirtiers.iter().max_by_key(|dirtier| dirtier.dirtied);
    if let Some(Dirtier { pid, comm, path, .. }) = most {
        text += &format!(" written by {}", process(comm, *pid));
        if let Some(path) = path {
            text += &format!(" to {path}");
        }
    }
    match kill.written_per_s {
        Some(rate) => text += &format!(" faster than {}/s of write-back", quantity::bytes(rate)),
        None => text += " faster than it was written back",
    }
    text
}

#[cfg(test)]
mod tests;
