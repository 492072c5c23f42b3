//! Probes of want of memory: who is killed for it, and who waits for it.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Kind, Probe, entry, event, exit, optional};

const TASK: &[Symbol] = &[
    Symbol::TaskPid,
    Symbol::TaskTgid,
    Symbol::TaskGroupLeader,
    Symbol::TaskComm,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const TASK_AND_LIMIT: &[Symbol] = &[
    Symbol::TaskPid,
    Symbol::TaskTgid,
    Symbol::TaskGroupLeader,
    Symbol::TaskComm,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::OomControlMemcg,
    Symbol::MemcgCss,
    Symbol::MemcgMemory,
    Symbol::PageCounterUsage,
    Symbol::PageCounterMax,
];
/// The tracepoint's first argument is the task, not a number.
const IS_TASK: &[&[Symbol]] = &[&[Symbol::MarkVictimTask]];
const CURRENT: &[Symbol] = &[
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const MARK: &[&str] = &["mark_oom_victim"];
const CHOOSE: &[&str] = &["oom_kill_process"];

pub(super) const OOM_KILL: Probe = Probe {
    name: "oom_kill",
    purpose: "tasks that the kernel kills for want of memory: who, for whom, at which limit",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[
                event("oom_mark_btf", "oom", "mark_victim", 1),
                optional(entry("oom_limit_fe", CHOOSE, 2)),
                optional(exit("oom_done_fx", CHOOSE, 2)),
            ],
            needs: TASK,
            needs_any: IS_TASK,
            precision: "every kill; the limit's cgroup at once where functions can be hooked, else from the kernel's log",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("oom_mark_raw", "oom", "mark_victim", 1)],
            needs: TASK,
            needs_any: IS_TASK,
            precision: "every kill; the limit's cgroup from the kernel's log",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Fentry,
            links: &[
                entry("oom_mark_fe", MARK, 1),
                entry("oom_limit_fe", CHOOSE, 2),
                exit("oom_done_fx", CHOOSE, 2),
            ],
            needs: TASK_AND_LIMIT,
            precision: "every kill, with the limit's cgroup",
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Kprobe,
            links: &[
                entry("oom_mark_kp", MARK, 1),
                entry("oom_limit_kp", CHOOSE, 2),
                exit("oom_done_kr", CHOOSE, 2),
            ],
            needs: TASK_AND_LIMIT,
            precision: "every kill, with the limit's cgroup",
            ..ALTERNATIVE
        },
        // Last, though cheaper than a kprobe: its record has the victim's number only.
        Alternative {
            kind: Kind::Tracepoint,
            links: &[event("oom_mark_tp", "oom", "mark_victim", 0)],
            needs: &[Symbol::TpVictimPid],
            precision: "every kill; the victim's cgroup and the limit's from the kernel's log and /proc",
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "OOM kills are known from the kernel's log alone, without the container of the task that asked for memory",
};

const RECLAIM_EVENTS: [(&str, &str); 3] = [
    ("mm_vmscan_direct_reclaim_begin", "mm_vmscan_direct_reclaim_end"),
    ("mm_vmscan_memcg_reclaim_begin", "mm_vmscan_memcg_reclaim_end"),
    ("mm_vmscan_memcg_softlimit_reclaim_begin", "mm_vmscan_memcg_softlimit_reclaim_end"),
];

/// Begin and end of each kind; how many arguments of an end are read.
const fn passes(programs: [(&'static str, &'static str); 3], args: u32) -> [super::Link; 6] {
    let [direct, memcg, soft] = RECLAIM_EVENTS;
    [
        event(programs[0].0, "vmscan", direct.0, 0),
        event(programs[0].1, "vmscan", direct.1, args),
        event(programs[1].0, "vmscan", memcg.0, 0),
        event(programs[1].1, "vmscan", memcg.1, args),
        // Of cgroup v1 only; a kernel without it has nothing to wait for there.
        optional(event(programs[2].0, "vmscan", soft.0, 0)),
        optional(event(programs[2].1, "vmscan", soft.1, args)),
    ]
}

const PRECISION: &str =
    "passes that ended, by the memory cgroup of the task in them; one under way counts at its end";

pub(super) const RECLAIM: Probe = Probe {
    name: "reclaim",
    purpose: "direct reclaim per memory cgroup: how often its tasks look for free pages themselves, and for how long",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &passes(
                [
                    ("rc_direct_b_btf", "rc_direct_e_btf"),
                    ("rc_memcg_b_btf", "rc_memcg_e_btf"),
                    ("rc_soft_b_btf", "rc_soft_e_btf"),
                ],
                1,
            ),
            needs: CURRENT,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &passes(
                [
                    ("rc_direct_b_raw", "rc_direct_e_raw"),
                    ("rc_memcg_b_raw", "rc_memcg_e_raw"),
                    ("rc_soft_b_raw", "rc_soft_e_raw"),
                ],
                1,
            ),
            needs: CURRENT,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &passes(
                [
                    ("rc_direct_b_tp", "rc_direct_e_tp"),
                    ("rc_memcg_b_tp", "rc_memcg_e_tp"),
                    ("rc_soft_b_tp", "rc_soft_e_tp"),
                ],
                0,
            ),
            needs: CURRENT,
            needs_any: &[&[Symbol::TpReclaimed]],
            precision: PRECISION,
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "how long containers wait for free pages is not known, but by memory.pressure (cgroup v2)",
};
