//! What one task that sleeps waits on, as /proc tells: where in the kernel, in which system call, on which file, and one phrase
//! that sums it up.

mod call;
mod cause;
mod function;
mod mount;
mod parse;
mod phrase;
mod proc;
#[cfg(test)]
mod tests;

use self::{
    cause::{Cause, Stack},
    phrase::Known,
};

/// What /proc tells of one task that sleeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// `D`, `S`, `T`: of `/proc/PID/task/TID/stat`.
    pub state: char,
    /// The group leader's name.
    pub comm: String,
    /// The function it sleeps in.
    pub wchan: Option<String>,
    /// Function names, the innermost first.
    pub stack: Vec<String>,
    /// `write(3 </mnt/data/log>)`
    pub syscall: Option<String>,
    /// In one phrase; `None`: not known.
    pub waits_on: Option<String>,
    /// SIGKILL is pending; or a signal that ends the process has been taken, and the task sleeps while it dies.
    pub sigkill_pending: Option<bool>,
    pub frozen: bool,
    pub stopped: bool,
    /// The parent of a vfork, until its child runs another program or ends.
    pub vfork: bool,
    /// It sleeps as one that waits for a device (`io_schedule`); `None`: not known.
    pub io_wait: Option<bool>,
}

/// The lock that the kernel says a task waits for, and who owns it (`task_struct.blocker`, 6.18 and later).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// `mutex`, `semaphore` or `rwsem`.
    pub kind: &'static str,
    /// Process, thread, name.
    pub owner: Option<(u32, u32, String)>,
}

impl Wait {
    /// `None`: it is gone.
    pub fn look(pid: u32, tid: u32, blocker: Option<&Blocker>) -> Option<Wait> {
        let state = proc::safe(pid, tid, "stat").and_then(|stat| parse::state(&stat))?;
        if matches!(state, 'Z' | 'X' | 'x') {
            return None;
        }
        let comm = proc::safe(pid, pid, "comm")?;
        let pending = proc::safe(pid, tid, "status").and_then(|status| parse::sigkill_pending(&status));
        let told = proc::safe(pid, tid, "wchan").and_then(|text| parse::wchan(&text));
        let found = proc::doubtful(pid, tid, state == 'D');

        let wchan = told.or_else(|| Stack::new(&found.stack).telling().map(str::to_owned));
        let name = found.call.map(|call| call::name(&call));
        let is_about = name.as_deref().is_some_and(|name| call::first(name) == call::First::File);
        let known = Known {
            stack: &found.stack,
            wchan: wchan.as_deref(),
            file: found.file.as_deref().filter(|_| is_about),
            mount_id: found.mount_id.filter(|_| is_about),
            mounts: found.mounts.as_deref(),
            host: found.host.as_deref(),
            blocker,
            frozen_cgroup: found.frozen_cgroup,
        };
        let cause = known.cause();
        let waits_on = known.phrase();
        let dies = Stack::dies_of_signal(&found.stack);
        let shown = found.call.zip(name.as_ref()).map(|(call, name)| {
            let shown = call::shown(name, &call, found.file.as_deref());
            if dies { format!("{shown}, dying") } else { shown }
        });
        Some(Wait {
            state,
            comm: parse::bounded(comm.trim_end_matches('\n')),
            stack: found.stack,
            syscall: shown,
            waits_on,
            sigkill_pending: pending.map(|pending| pending || dies),
            frozen: found.frozen_cgroup || cause == Some(Cause::FrozenCgroup),
            stopped: matches!(state, 'T' | 't'),
            vfork: cause == Some(Cause::Vfork),
            io_wait: cause.and_then(|cause| waits_for_io(cause, wchan.as_deref())),
            wchan,
        })
    }
}

/// Whether what sleeps so does it as one that waits for a device.
fn waits_for_io(cause: Cause, wchan: Option<&str>) -> Option<bool> {
    match cause {
        Cause::Page | Cause::Block | Cause::Throttled | Cause::SwapIn => Some(true),
        // Of a journal's buffer that is being written; its other waits are for another task.
        Cause::Journal => Some(wchan == Some("do_get_write_access")),
        Cause::Vfork | Cause::FrozenCgroup | Cause::FrozenFile | Cause::Lock(_) => Some(false),
        Cause::Server(_) | Cause::PageLock | Cause::Writeback | Cause::Reclaim | Cause::Told(_) => None,
    }
}
