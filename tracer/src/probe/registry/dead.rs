//! The walk over memory cgroups that finds the dead ones.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Hook, Kind, Link, Probe, event};

const LISTS: &[Symbol] = &[
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CssParent,
    Symbol::CssChildren,
    Symbol::CssSibling,
    Symbol::CssSerial,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::KernfsNodeName,
    Symbol::KernfsNodeLinked,
    Symbol::MemcgCss,
    Symbol::MemcgMemory,
    Symbol::PageCounterUsage,
];
const CLASSIC: &[Symbol] = &[
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CssParent,
    Symbol::CssChildren,
    Symbol::CssSibling,
    Symbol::CssSerial,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::KernfsNodeName,
    Symbol::KernfsNodeLinked,
    Symbol::MemcgCss,
    Symbol::MemcgMemory,
    Symbol::PageCounterUsage,
    Symbol::TpRenameComm,
];
const EXACT: &str = "every one, also those that died before attach";
/// Runs when memtrace reads it.
const READ: Link = Link { program: "dead_iter", hook: Hook::Iterator("task"), optional: false, late: false };

pub(super) const DEAD_CGROUPS: Probe = Probe {
    name: "dead_cgroups",
    purpose: "removed memory cgroups that the kernel keeps, and what they pin",
    alternatives: &[
        // The others' programs are in the way of every task that is started or named.
        Alternative {
            kind: Kind::Iterator,
            links: &[READ],
            needs: LISTS,
            cost: Cost::Rare,
            precision: EXACT,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("dead_btf", "task", "task_rename", 2)],
            needs: LISTS,
            cost: Cost::Rare,
            precision: EXACT,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("dead_raw", "task", "task_rename", 2)],
            needs: LISTS,
            cost: Cost::Rare,
            precision: EXACT,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[event("dead_tp", "task", "task_rename", 0)],
            needs: CLASSIC,
            cost: Cost::Rare,
            precision: EXACT,
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "how many there are is inferred from the kernel's counts; what they pin and where they came from is not known",
};
