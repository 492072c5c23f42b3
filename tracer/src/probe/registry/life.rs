//! Probes of lives: of memory cgroups, and of tasks.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Kind, Probe, event};

const CGROUP_NUMBERS: &[Symbol] = &[
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::CgroupRoot,
    Symbol::CgroupRootHierarchyId,
    Symbol::CgroupSubsys,
    Symbol::MemoryCgrpId,
    Symbol::TaskTgid,
];

const CURRENT_MEMCG: &[Symbol] = &[
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];

const CLASSIC_CGROUP: &[Symbol] = &[
    Symbol::TpMkdirRoot,
    Symbol::TpMkdirId,
    Symbol::TpMkdirPath,
    Symbol::TpAttachRoot,
    Symbol::TpAttachId,
    Symbol::TpAttachPid,
];

pub(super) const CGROUP_LIFE: Probe = Probe {
    name: "cgroup_life",
    purpose: "memory cgroups made, renamed, removed and released; tasks moved into them",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[
                event("mkdir_btf", "cgroup", "cgroup_mkdir", 2),
                event("rename_btf", "cgroup", "cgroup_rename", 2),
                event("rmdir_btf", "cgroup", "cgroup_rmdir", 2),
                event("release_btf", "cgroup", "cgroup_release", 2),
                event("attach_btf", "cgroup", "cgroup_attach_task", 4),
            ],
            needs: CGROUP_NUMBERS,
            cost: Cost::Rare,
            precision: "every event, with usage and peak at removal",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[
                event("mkdir_raw", "cgroup", "cgroup_mkdir", 2),
                event("rename_raw", "cgroup", "cgroup_rename", 2),
                event("rmdir_raw", "cgroup", "cgroup_rmdir", 2),
                event("release_raw", "cgroup", "cgroup_release", 2),
                event("attach_raw", "cgroup", "cgroup_attach_task", 4),
            ],
            needs: CGROUP_NUMBERS,
            cost: Cost::Rare,
            precision: "every event, with usage and peak at removal",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("mkdir_tp", "cgroup", "cgroup_mkdir", 0),
                event("rename_tp", "cgroup", "cgroup_rename", 0),
                event("rmdir_tp", "cgroup", "cgroup_rmdir", 0),
                event("release_tp", "cgroup", "cgroup_release", 0),
                event("attach_tp", "cgroup", "cgroup_attach_task", 0),
            ],
            needs: CLASSIC_CGROUP,
            cost: Cost::Rare,
            precision: "every event; usage and peak at removal are not known",
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "new containers are found by looking at the cgroup tree once a tick; one that lives shorter is missed",
};

pub(super) const TASK_LIFE: Probe = Probe {
    name: "task_life",
    purpose: "programs started and tasks ended, per memory cgroup",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[
                event("exec_btf", "sched", "sched_process_exec", 0),
                event("exit_btf", "sched", "sched_process_exit", 0),
            ],
            needs: CURRENT_MEMCG,
            cost: Cost::Rare,
            precision: "exact",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[
                event("exec_raw", "sched", "sched_process_exec", 0),
                event("exit_raw", "sched", "sched_process_exit", 0),
            ],
            needs: CURRENT_MEMCG,
            cost: Cost::Rare,
            precision: "exact",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("exec_tp", "sched", "sched_process_exec", 0),
                event("exit_tp", "sched", "sched_process_exit", 0),
            ],
            needs: CURRENT_MEMCG,
            cost: Cost::Rare,
            precision: "exact",
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "tasks started and ended per second are not known",
};
