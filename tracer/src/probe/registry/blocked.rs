//! Probes of uninterruptible sleep.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Hook, Kind, Link, Probe, event};

const TASK: &[Symbol] = &[
    Symbol::TaskState,
    Symbol::TaskPid,
    Symbol::TaskTgid,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const CLASSIC: &[Symbol] = &[
    Symbol::TaskState,
    Symbol::TaskPid,
    Symbol::TaskTgid,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::TpSwitchState,
    Symbol::TpSwitchNext,
];
const PRECISION: &str = "every sleep, until the task has a processor again";

pub(super) const BLOCKED: Probe = Probe {
    name: "blocked",
    purpose: "tasks that go into uninterruptible sleep and run again, by memory cgroup: how many, how long, which are in it",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("blocked_btf", "sched", "sched_switch", 3)],
            needs: TASK,
            cost: Cost::Switch,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("blocked_raw", "sched", "sched_switch", 3)],
            needs: TASK,
            cost: Cost::Switch,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[event("blocked_tp", "sched", "sched_switch", 0)],
            needs: CLASSIC,
            cost: Cost::Switch,
            precision: PRECISION,
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "which tasks are stuck is looked for every ten seconds, how long containers wait uninterruptibly is not known",
};

/// Runs when memtrace reads it.
const READ: Link =
    Link { program: "blocked_iter", hook: Hook::Iterator("task"), optional: false, late: false };

pub(super) const BLOCKED_BEFORE: Probe = Probe {
    name: "blocked_before",
    purpose: "tasks that were in uninterruptible sleep before attach, since when, and who has the locks that tasks wait for",
    alternatives: &[Alternative {
        kind: Kind::Iterator,
        links: &[READ],
        needs: TASK,
        cost: Cost::Rare,
        precision: "since they last got a processor",
        ..ALTERNATIVE
    }],
    on_demand: None,
    lost: "tasks that were blocked before attach are not found, and who has a lock is not known",
};
