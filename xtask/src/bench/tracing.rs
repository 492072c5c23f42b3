//! What bpftrace needs of the machine, and the programs it is given.

use std::{
    ffi::{CStr, OsStr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::terminal::bpftrace;
use crate::command::find;

const TRACEFS: &str = "/sys/kernel/tracing";

/// Charges by memory cgroup, from the tracepoint that memtrace counts too where there is nothing cheaper.
pub(super) const COUNT: &str = "tracepoint:memcg:mod_memcg_lruvec_state { @[args->id] = sum(args->val); }";
/// The same by process and kernel stack.
pub(super) const STACKS: &str =
    "tracepoint:memcg:mod_memcg_lruvec_state { @[args->id, pid, kstack] = sum(args->val); }";
/// The floor: a program that does nothing, on the same hook.
pub(super) const EMPTY: &str = "tracepoint:memcg:mod_memcg_lruvec_state { }";
/// What memtrace takes from the same tracepoint where it counts write-back so, by memory cgroup.
pub(super) const WRITTEN: &str = "tracepoint:memcg:mod_memcg_lruvec_state \
     /args->item == NR_FILE_DIRTY || args->item == NR_WRITEBACK/ { @written[args->id] = sum(args->val); }";
/// How large writes are, by the writer's cgroup: less than what memtrace tells of them.
pub(super) const SIZES: &str = "tracepoint:syscalls:sys_exit_write { @[cgroup] = hist(args->ret); }";
/// What a task's time off the processor is told by.
pub(super) const OFF_CPU: &str = "tracepoint:sched:sched_switch { @since[args->prev_pid] = nsecs; \
     if (@since[args->next_pid]) { @[cgroup] = hist(nsecs - @since[args->next_pid]); delete(@since[args->next_pid]); } }";
/// The floor of a hook on the function that writes to pipes.
pub(super) const FUNCTION: &str = "kretfunc:anon_pipe_write { }";

/// Nothing at each call that memtrace looks at, from its own tracepoint: the other way of seeing them.
pub(super) fn each_call() -> String {
    let calls = [
        "write",
        "writev",
        "pwritev2",
        "read",
        "readv",
        "preadv2",
        "splice",
        "tee",
        "sendfile64",
        "vmsplice",
    ];
    let probes: Vec<String> =
        calls.iter().map(|call| format!("tracepoint:syscalls:sys_exit_{call}")).collect();
    probes.join(", ") + " { }"
}

/// Calls of one process, by number: how many, how many failed, how long they took.
pub(super) fn calls_of(pid: &str) -> String {
    format!(
        "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @since[tid] = nsecs; }} \
         tracepoint:raw_syscalls:sys_exit /@since[tid]/ {{ @took[args->id] = hist(nsecs - @since[tid]); \
         @total[args->id] = sum(nsecs - @since[tid]); if (args->ret < 0) {{ @failed[args->id] = count(); }} \
         delete(@since[tid]); }}"
    )
}

/// bpftrace with a program that says when it is attached; before that it says how many probes it attaches: two lines.
pub(super) fn counting(program: &str) -> Result<Command> {
    ensure!(find("bpftrace").is_some(), "bpftrace is not installed");
    let ready = "interval:ms:1 { if (!@ready) { @ready = 1; printf(\"ready\\n\"); } }";
    Ok(bpftrace(&format!("{program} {ready}")))
}

/// The tracepoint of pages that become dirty, which has changed its name, if there is one.
pub(super) fn of_dirty_pages() -> Option<&'static CStr> {
    [c"writeback_dirty_folio", c"writeback_dirty_page"].into_iter().find(|name| {
        let event = Path::new(TRACEFS).join("events/writeback").join(OsStr::from_bytes(name.to_bytes()));
        event.exists()
    })
}

/// Does so at each folio that becomes dirty.
pub(super) fn dirtied(act: &str) -> Result<String> {
    let event = of_dirty_pages().context("this kernel has no tracepoint of dirty pages")?.to_string_lossy();
    Ok(format!("tracepoint:writeback:{event} {{ {act} }}"))
}

/// bpftrace looks for tracefs in its usual place. Where it is not mounted there (in a container, on a bare machine) it
/// is for us and our children only, in a mount namespace that ends with us.
pub(super) fn mount_where_missing() -> Result<()> {
    if Path::new(TRACEFS).join("events").exists() {
        return Ok(());
    }
    // SAFETY: of what may be unshared only the file descriptor table endangers memory safety, and that stays shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("cannot make a mount namespace")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make our mounts private")?;
    mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount tracefs on {TRACEFS}"))
}

/// Whether this kernel has the tracepoint and this machine bpftrace; else why not.
pub(super) fn missing() -> Option<&'static str> {
    if find("bpftrace").is_none() {
        return Some("bpftrace is not installed");
    }
    let there = Path::new(TRACEFS).join("events/memcg/mod_memcg_lruvec_state").exists();
    (!there).then_some("this kernel has no tracepoint memcg:mod_memcg_lruvec_state")
}
