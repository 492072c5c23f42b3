//! The probe of signals that end a process.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Kind, Probe, entry, event};

const TASK: &[Symbol] = &[
    Symbol::SiginfoCode,
    Symbol::TaskTgid,
    Symbol::TaskGroupLeader,
    Symbol::TaskComm,
    Symbol::TaskRealParent,
    Symbol::TaskStart,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
/// The record's, and the sender's kin.
const RECORD: &[Symbol] = &[
    Symbol::TpSignal,
    Symbol::TpSignalCode,
    Symbol::TpSignalPid,
    Symbol::TaskTgid,
    Symbol::TaskGroupLeader,
    Symbol::TaskComm,
    Symbol::TaskRealParent,
    Symbol::TaskStart,
];

// 6.0 named it so (157cc18122b4).
const SEND: &[&str] = &["__send_signal_locked", "__send_signal"];

const EVERY: &str = "every signal, also one that is ignored or pending already";
const SENT: &str = "every signal that is sent, before it is looked at";

const fn functions(kind: Kind, links: &'static [super::Link]) -> Alternative {
    Alternative { kind, links, needs: TASK, precision: SENT, ..ALTERNATIVE }
}

pub(super) const SIGNAL: Probe = Probe {
    name: "signal",
    purpose: "SIGKILL and SIGTERM, by who sends them and to whom, whatever becomes of them",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("signal_btf", "signal", "signal_generate", 3)],
            needs: TASK,
            precision: EVERY,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("signal_raw", "signal", "signal_generate", 3)],
            needs: TASK,
            precision: EVERY,
            ..ALTERNATIVE
        },
        functions(Kind::Fentry, &[entry("signal_fentry", SEND, 5)]),
        Alternative {
            kind: Kind::Tracepoint,
            links: &[event("signal_tp", "signal", "signal_generate", 0)],
            needs: RECORD,
            precision: "every signal; the target's thread group is asked of /proc",
            ..ALTERNATIVE
        },
        functions(Kind::Kprobe, &[entry("signal_kprobe", SEND, 5)]),
    ],
    on_demand: None,
    lost: "who tries to end what, and how often, is not known; that SIGKILL is pending is",
};
