//! A kill in a block of lines.

use crate::{
    aggregator::{
        oom::{Kill, Source},
        row::How,
    },
    quantity,
    view::{
        host::timestamp,
        label::label,
        text::{Charset, clean},
        unit,
    },
};

/// Processes and files that are listed.
const LISTED: usize = 5;

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| quantity::bytes(bytes as f64))
}

fn task(comm: Option<&str>, pid: Option<u32>, tid: Option<u32>) -> String {
    let number = pid.or(tid).map_or_else(|| "?".to_owned(), |number| number.to_string());
    format!("{}[{number}]", comm.unwrap_or("?"))
}

/// The kill's lines, an empty one last. Names are made harmless at the end, line by line.
pub fn block(kill: &Kill, charset: Charset) -> String {
    let whose = kill.container.as_deref().map_or_else(|| "an unknown container".to_owned(), label);
    let victim = task(kill.victim.comm.as_deref(), kill.victim.pid, kill.victim.tid);
    let before = if kill.before_attach { " (before attach)" } else { "" };
    let mut lines = vec![format!("{}{before}  {whose}: {victim} killed: {}", timestamp(kill.at), kill.cause)];
    let resident = &kill.victim;
    lines.push(format!(
        "  victim   anon {}, file {}, shmem {}",
        size(resident.anon),
        size(resident.file),
        size(resident.shmem)
    ));
    if let Some(trigger) = &kill.trigger {
        let of = trigger.container.as_deref().map(|container| format!(" of {}", label(container)));
        let name = task(trigger.comm.as_deref(), trigger.pid, trigger.tid);
        lines.push(format!("  trigger  {name}{}", of.unwrap_or_default()));
    }
    lines.push(format!("  limit    {}", limit(kill)));
    if let Some(source) = kill.source {
        let memory = &kill.memory;
        let mark = memory.kernel_how.map_or("", unit::mark);
        let parts = [
            ("current", memory.current),
            ("anon", memory.anon),
            ("file", memory.file),
            ("shmem", memory.shmem),
            ("dirty", memory.dirty),
            ("writeback", memory.writeback),
            ("slab", memory.slab),
            ("sock", memory.sock),
        ];
        let parts: Vec<String> =
            parts.iter().map(|(name, bytes)| format!("{name} {}", size(*bytes))).collect();
        let source = match source {
            Source::Probe => "the kernel's counter",
            Source::Kmsg => "the kernel's report",
            Source::Sample => "the last look before",
        };
        lines.push(format!(
            "  memory   {}, kernel {mark}{} (by {source})",
            parts.join(", "),
            size(memory.kernel)
        ));
    }
    if let Some(grown) = &kill.grown {
        let parts = [
            ("anon", grown.anon),
            ("file", grown.file),
            ("shmem", grown.shmem),
            ("dirty", grown.dirty),
            ("kernel", grown.kernel),
        ];
        let by =
            |bytes: Option<i64>| bytes.map_or_else(|| "-".to_owned(), |bytes| quantity::bytes(bytes as f64));
        let parts: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {}", by(*bytes))).collect();
        lines.push(format!("  grew     {} in {}", parts.join(", "), quantity::seconds(grown.over_s)));
    }
    for process in kill.processes.iter().take(LISTED) {
        let (name, held) =
            (task(Some(&process.comm), Some(process.pid), None), quantity::bytes(process.rss as f64));
        lines.push(format!("  held     {name} {held}"));
    }
    for dirtier in kill.top_dirtiers.iter().take(LISTED) {
        let name = task(Some(&dirtier.comm), Some(dirtier.pid), None);
        let (path, dirtied) =
            (dirtier.path.as_deref().unwrap_or("?"), quantity::bytes(dirtier.dirtied as f64));
        lines.push(format!("  dirtied  {name} {dirtied} of {path}"));
    }
    if let Some(row) = kill.in_row.filter(|row| row.count > 1) {
        lines.push(format!("  again    kill {} of this container since {}", row.count, timestamp(row.since)));
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&clean(&line, charset));
        text.push('\n');
    }
    text.push('\n');
    text
}

fn limit(kill: &Kill) -> String {
    if kill.global == Some(true) {
        return format!("none: the host's {}", size(kill.memory.limit));
    }
    let path = kill.limit_cgroup.as_ref().and_then(|limit| limit.path.as_deref());
    let how = kill.limit_cgroup.as_ref().and_then(|limit| limit.path_how);
    let sure = if how == Some(How::Inferred) { ", the only limit there is" } else { "" };
    match path {
        Some(path) => format!("{} of {path}{sure}", size(kill.memory.limit)),
        None => format!("{} of a cgroup that is not known", size(kill.memory.limit)),
    }
}
