//! Reads about one task that sleeps.
//!
//! `stat`, `status`, `wchan` and `comm` take no lock that a sleeper holds. `stack` and `syscall` wait for a task that is in the
//! middle of exec (`lock_trace`, fs/proc/base.c), mountinfo may read btrfs' disk, `cgroup` takes the lock of all cgroups:
//! whoever looks is a thread that can be left behind. Never `cmdline`, `environ`, `maps`, `exe`; `mem` for a path only (`path`).

use std::sync::Arc;

use super::{
    Hint, call,
    cause::{Kind, Stack},
    mount::Mounts,
    parse, path,
    phrase::Known,
};
use crate::kernel::proc;

const TEXT: u64 = 64 << 10;
const MOUNTINFO: u64 = 4 << 20;
/// Where a request to a FUSE server waits for its answer (fs/fuse/dev.c).
const FUSE_WAIT: &str = "request_wait_answer";

/// What /proc told of one task at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The group leader's number
    pub pid: u32,
    /// and name.
    pub comm: String,
    /// `D`, `S`, `T`.
    pub state: char,
    /// How often it left a processor so far: one that stands still has not moved since.
    pub switches: Option<u64>,
    /// The function it sleeps in.
    pub wchan: Option<String>,
    /// Function names, the innermost first.
    pub stack: Vec<String>,
    /// It has memory of its own, as no thread of the kernel has.
    pub has_memory: bool,
    /// Lines of `/proc/PID/cgroup`.
    pub cgroups: String,
    pending: Option<bool>,
    call: Option<parse::Call>,
    /// The file behind the call's first argument.
    file: Option<String>,
    mount_id: Option<u64>,
    /// The path that the call was given, and that from the task's root on.
    path: Option<String>,
    whole_path: Option<String>,
    mounts: Option<Arc<Mounts>>,
    host: Option<Arc<Mounts>>,
    /// Its cgroup is frozen, or becomes it.
    frozen_cgroup: bool,
}

pub(super) fn of(tid: u32, name: &str) -> Option<String> {
    proc::text(&format!("/proc/{tid}/{name}"), TEXT)
}

/// State of a task, from a file that waits for nobody.
pub fn state(tid: u32) -> Option<char> {
    proc::state(&of(tid, "stat")?)
}

pub fn comm(pid: u32) -> Option<String> {
    of(pid, "comm").map(|comm| parse::bounded(comm.trim_end_matches('\n')))
}

/// Whether a task that sleeps interruptibly waits for a FUSE server: until a fatal signal comes it does so.
pub fn fuse_waits(tid: u32) -> bool {
    let Some(name) = of(tid, "wchan") else { return false };
    // Up to 5.15 it is `0` for every task that sleeps (42a20f86dc19), and the stack has to tell.
    match name.as_str() {
        "0" => of(tid, "stack").is_some_and(|text| is_for_fuse(&parse::stack(&text))),
        name => name == FUSE_WAIT,
    }
}

fn is_for_fuse(stack: &[String]) -> bool {
    stack.iter().any(|name| name == FUSE_WAIT)
}

/// `None`: it is gone. Of one that has not moved since `before` only what may have changed is read.
pub fn look(tid: u32, before: Option<&Told>) -> Option<Told> {
    let status = parse::Status::parse(&of(tid, "status")?)?;
    if matches!(status.state, 'Z' | 'X' | 'x') {
        return None;
    }
    let pending = status.sigkill_pending;
    let still = |before: &&Told| status.switches.is_some() && before.switches == status.switches;
    if let Some(before) = before.filter(still).filter(|before| before.state == status.state) {
        return Some(Told { pending, ..before.clone() });
    }
    let stack = of(tid, "stack").map(|text| parse::stack(&text)).unwrap_or_default();
    let call = of(tid, "syscall").and_then(|text| parse::call(&text));
    let descriptor = call.and_then(|call| call::descriptor(&call::name(&call), &call));
    // Of a directory of /proc by the thread's number: it may share its files with nobody.
    let file = descriptor.and_then(|number| std::fs::read_link(format!("/proc/{tid}/fd/{number}")).ok());
    let file = file.map(|path| path.to_string_lossy().into_owned());
    let sleeps = status.state == 'D' || is_for_fuse(&stack);
    let path = call.filter(|_| sleeps).and_then(|call| path::read(status.pid, tid, &call));
    let whole_path = path.as_deref().and_then(|path| {
        let here = || std::fs::read_link(format!("/proc/{tid}/cwd")).ok();
        // A descriptor that cannot be read is not the directory that the task is in.
        let start = match descriptor {
            Some(_) => file.clone(),
            None => here().map(|dir| dir.to_string_lossy().into_owned()),
        };
        path::whole(path, start.as_deref())
    });
    let info = descriptor.and_then(|number| of(tid, &format!("fdinfo/{number}")));
    let cgroups = of(tid, "cgroup").unwrap_or_default();
    let told = of(tid, "wchan").and_then(|text| parse::wchan(&text));
    let mounts = proc::text(&format!("/proc/{tid}/mountinfo"), MOUNTINFO);
    let host = || {
        proc::text("/proc/1/mountinfo", MOUNTINFO).or_else(|| proc::text("/proc/self/mountinfo", MOUNTINFO))
    };
    let has_overlay = mounts.as_ref().is_some_and(|mounts| mounts.contains(" - overlay "));
    Some(Told {
        pid: status.pid,
        comm: comm(status.pid)?,
        state: status.state,
        switches: status.switches,
        has_memory: status.has_memory,
        wchan: told.or_else(|| Stack::new(&stack).telling().map(str::to_owned)),
        stack,
        pending,
        call,
        file,
        path,
        whole_path,
        mount_id: info.and_then(|info| parse::mount_id(&info)),
        mounts: mounts.map(|mounts| Arc::new(Mounts::parse(&mounts))),
        host: has_overlay.then(host).flatten().map(|host| Arc::new(Mounts::parse(&host))),
        // A cgroup that is being frozen may be why it sleeps.
        frozen_cgroup: status.state == 'D' && frozen_cgroup(&cgroups),
        cgroups,
    })
}

impl Told {
    /// SIGKILL is pending; or a signal that ends the process has been taken, and the task sleeps while it dies.
    pub fn sigkill_pending(&self) -> Option<bool> {
        self.pending.map(|pending| pending || Stack::dies_of_signal(&self.stack))
    }

    /// For the answer of a FUSE server.
    pub fn waits_for_fuse(&self) -> bool {
        self.stack.iter().chain(&self.wchan).any(|name| name == FUSE_WAIT)
    }

    /// `write(3 </mnt/data/log>)`. `None`: it is in none.
    pub fn syscall(&self) -> Option<String> {
        let call = self.call?;
        let shown = call::shown(&call::name(&call), &call, self.file.as_deref(), self.path.as_deref());
        Some(if Stack::dies_of_signal(&self.stack) { format!("{shown}, dying") } else { shown })
    }

    /// What kind of wait it is, and the phrase for it if anything is known.
    pub fn waits_on(&self, hint: &Hint) -> (Kind, Option<String>) {
        let name = self.call.map(|call| call::name(&call));
        let is_about = name.is_some_and(|name| call::first(&name) == call::First::File);
        let known = Known {
            stack: &self.stack,
            wchan: self.wchan.as_deref(),
            file: self.file.as_deref().filter(|_| is_about),
            mount_id: self.mount_id.filter(|_| is_about),
            path: self.whole_path.as_deref(),
            mounts: self.mounts.as_deref(),
            host: self.host.as_deref(),
            blocker: hint.blocker.as_ref(),
            frozen_cgroup: self.frozen_cgroup || hint.frozen,
            io: hint.io,
        };
        (known.kind(), known.phrase())
    }
}

/// Of the freezer of cgroup v1, which from 6.1 on leaves a task where it slept. That of v2 shows in the stack.
fn frozen_cgroup(cgroups: &str) -> bool {
    let frozen = || {
        let path = proc::cgroup(cgroups, "freezer")?;
        let mounts = proc::text("/proc/self/mountinfo", MOUNTINFO)?;
        let point = mounts.lines().find_map(|line| {
            let (mount, of) = line.split_once(" - cgroup ")?;
            let has = of.split([' ', ',']).any(|option| option == "freezer");
            mount.split(' ').nth(4).filter(|_| has)
        })?;
        let state = proc::text(&format!("{point}{path}/freezer.state"), TEXT)?;
        Some(matches!(state.trim(), "FROZEN" | "FREEZING"))
    };
    frozen().unwrap_or(false)
}
