//! The probe of system calls.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Kind, Link, Probe, event};

/// From the task to its memory cgroup.
macro_rules! needs {
    ($($own:ident)*) => {
        &[
            $(Symbol::$own,)*
            Symbol::TaskCgroups,
            Symbol::CssSetSubsys,
            Symbol::MemoryCgrpId,
            Symbol::CssCgroup,
            Symbol::CgroupKn,
            Symbol::KernfsNodeId,
        ]
    };
}

/// The exit first: a call that begins before it is there would not be seen to end.
const fn calls(enter: &'static str, exit: &'static str, args: u32) -> [Link; 2] {
    [event(exit, "raw_syscalls", "sys_exit", args), event(enter, "raw_syscalls", "sys_enter", args)]
}

const CALL: Alternative = Alternative {
    cost: Cost::Call,
    precision: "counts exact, percentiles within 1.6 %; calls count when they return, those under way at attach not at all",
    ..ALTERNATIVE
};

pub(super) const SYSCALL: Probe = Probe {
    name: "syscall",
    purpose: "system calls per memory cgroup: how many, how many failed and why, how long they took",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &calls("call_enter_btf", "call_exit_btf", 2),
            needs: needs!(),
            ..CALL
        },
        Alternative {
            kind: Kind::RawTp,
            links: &calls("call_enter_raw", "call_exit_raw", 2),
            needs: needs!(),
            ..CALL
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &calls("call_enter_tp", "call_exit_tp", 0),
            needs: needs!(TpSysEnterId TpSysExitRet),
            ..CALL
        },
    ],
    on_demand: Some(
        "runs with every system call: memtrace syscalls, the tab of calls in top, diagnose for a suspect",
    ),
    lost: "which system calls a container makes, and how long they take, is not known",
};
