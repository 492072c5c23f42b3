//! The probe of log lines: two programs for each hook, one for kernels with `bpf_loop` and fetching atomics.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, GoesOn, Kind, Probe, entry, event, exit, late, optional};

// 6.16 gave the functions of anonymous pipes their own name (c22a5cbbd9ee); FIFOs call them.
const PIPE_WRITE: &[&str] = &["anon_pipe_write", "pipe_write"];
const PIPE_READ: &[&str] = &["anon_pipe_read", "pipe_read"];
const TTY_WRITE: &[&str] = &["tty_write"];
const TTY_READ: &[&str] = &["tty_read"];
const SOCKET_WRITE: &[&str] = &["unix_stream_sendmsg"];
const SPLICE: &[&str] = &["do_splice"];
const TEE: &[&str] = &["do_tee"];
const SENDFILE: &[&str] = &["do_sendfile"];
const VMSPLICE: &[&str] = &["__x64_sys_vmsplice", "__arm64_sys_vmsplice"];

const FILE: &[Symbol] = &[
    Symbol::HelperLoop,
    Symbol::KiocbFile,
    Symbol::FileInode,
    Symbol::InodeMode,
    Symbol::InodeSb,
    Symbol::InodeIno,
    Symbol::InodeRdev,
    Symbol::SbDev,
    Symbol::IterOffset,
    Symbol::IterIov,
    Symbol::IterIovec,
    Symbol::IovecLen,
    Symbol::SocketFile,
    Symbol::MsghdrIter,
    Symbol::TaskFiles,
    Symbol::FilesFdt,
    Symbol::FilesArray,
    Symbol::FdtMax,
    Symbol::FdtFd,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const REGISTERS: &[Symbol] = &[
    Symbol::HelperLoop,
    Symbol::SyscallNumber,
    Symbol::SyscallArg0,
    Symbol::SyscallArg1,
    Symbol::SyscallArg2,
    Symbol::FileInode,
    Symbol::InodeMode,
    Symbol::InodeSb,
    Symbol::InodeIno,
    Symbol::InodeRdev,
    Symbol::SbDev,
    Symbol::TaskFiles,
    Symbol::FilesFdt,
    Symbol::FilesArray,
    Symbol::FdtMax,
    Symbol::FdtFd,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const RECORDS: &[Symbol] = &[
    Symbol::HelperLoop,
    Symbol::TpSysEnterId,
    Symbol::TpSysEnterArgs,
    Symbol::TpSysExitRet,
    Symbol::FileInode,
    Symbol::InodeMode,
    Symbol::InodeSb,
    Symbol::InodeIno,
    Symbol::InodeRdev,
    Symbol::SbDev,
    Symbol::TaskFiles,
    Symbol::FilesFdt,
    Symbol::FilesArray,
    Symbol::FdtMax,
    Symbol::FdtFd,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];

/// Without `bpf_loop`, the first of a list.
const fn bounded(needs: &'static [Symbol]) -> &'static [Symbol] {
    match needs {
        [_, rest @ ..] => rest,
        [] => needs,
    }
}

const ITERATOR: &[&[Symbol]] = &[&[Symbol::IterType, Symbol::IterTypeWord]];

const BOUNDED: Option<&str> = Some("bounded");
const EXACT: &str =
    "exact; of one write up to 4 MiB are looked at; splice, tee, vmsplice and sendfile move bytes unseen";
const EXACT_BUT_RING: &str = "exact; of one write up to 4 MiB are looked at; splice, tee, vmsplice and sendfile move bytes unseen; \
     io_uring and 32-bit system calls are not seen";
const ALMOST: &str = "of one write about 4 MiB are looked at (256 KiB of lines of 80 bytes); a line may be off by a write where two \
     processes write to one stream at once; splice, tee, vmsplice and sendfile move bytes unseen";
const ALMOST_BUT_RING: &str = "of one write about 4 MiB are looked at (256 KiB of lines of 80 bytes); a line may be off by a write where two \
     processes write to one stream at once; splice, tee, vmsplice and sendfile move bytes unseen; io_uring and 32-bit \
     system calls are not seen";

pub(super) const LOG_WRITE: Probe = Probe {
    name: "log_write",
    purpose: "lines written to pipes and terminals, how long they are, and who reads them",
    alternatives: &[
        Alternative {
            kind: Kind::Fentry,
            links: &[
                exit("lw_pipe_fx", PIPE_WRITE, 2),
                exit("lr_pipe_fx", PIPE_READ, 2),
                exit("lw_tty_fx", TTY_WRITE, 2),
                optional(exit("lr_tty_fx", TTY_READ, 2)),
                optional(exit("lr_tty4_fx", TTY_READ, 4)),
                optional(exit("lw_splice_fx", SPLICE, 6)),
                optional(exit("lw_tee_fx", TEE, 4)),
                optional(exit("lw_sendfile_fx", SENDFILE, 5)),
                optional(exit("lw_vmsplice_fx", VMSPLICE, 1)),
                late(exit("lw_sock_fx", SOCKET_WRITE, 3)),
            ],
            needs: FILE,
            needs_any: ITERATOR,
            cost: Cost::Call,
            precision: EXACT,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Fentry,
            links: &[
                exit("lw_pipe_fxb", PIPE_WRITE, 2),
                exit("lr_pipe_fxb", PIPE_READ, 2),
                exit("lw_tty_fxb", TTY_WRITE, 2),
                optional(exit("lr_tty_fxb", TTY_READ, 2)),
                optional(exit("lr_tty4_fxb", TTY_READ, 4)),
                optional(exit("lw_splice_fxb", SPLICE, 6)),
                optional(exit("lw_tee_fxb", TEE, 4)),
                optional(exit("lw_sendfil_fxb", SENDFILE, 5)),
                optional(exit("lw_vmsplic_fxb", VMSPLICE, 1)),
                late(exit("lw_sock_fxb", SOCKET_WRITE, 3)),
            ],
            needs: bounded(FILE),
            needs_any: ITERATOR,
            cost: Cost::Call,
            precision: ALMOST,
            variant: BOUNDED,
            goes_on: Some(GoesOn {
                map: "GO_ON_FEXIT",
                programs: &[(0, "lw_pipe_fxb"), (1, "lw_tty_fxb"), (2, "lw_sock_fxb")],
            }),
        },
        Alternative {
            kind: Kind::Kprobe,
            links: &[
                // Entry first: a return then always finds what its entry left.
                entry("lw_pipe_kp", PIPE_WRITE, 2),
                exit("lw_pipe_kr", PIPE_WRITE, 2),
                entry("lr_pipe_kp", PIPE_READ, 2),
                exit("lr_pipe_kr", PIPE_READ, 2),
                entry("lw_tty_kp", TTY_WRITE, 2),
                exit("lw_tty_kr", TTY_WRITE, 2),
                optional(entry("lr_tty_kp", TTY_READ, 2)),
                optional(exit("lr_tty_kr", TTY_READ, 2)),
                optional(entry("lw_splice_kp", SPLICE, 6)),
                optional(exit("lw_splice_kr", SPLICE, 6)),
                optional(entry("lw_tee_kp", TEE, 4)),
                optional(exit("lw_tee_kr", TEE, 4)),
                optional(entry("lw_send_kp", SENDFILE, 5)),
                optional(exit("lw_send_kr", SENDFILE, 5)),
                optional(entry("lw_vms_kp", VMSPLICE, 1)),
                optional(exit("lw_vms_kr", VMSPLICE, 1)),
                late(entry("lw_sock_kp", SOCKET_WRITE, 3)),
                late(exit("lw_sock_kr", SOCKET_WRITE, 3)),
            ],
            needs: FILE,
            needs_any: ITERATOR,
            cost: Cost::Call,
            precision: EXACT,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Kprobe,
            links: &[
                entry("lw_pipe_kpb", PIPE_WRITE, 2),
                exit("lw_pipe_krb", PIPE_WRITE, 2),
                entry("lr_pipe_kpb", PIPE_READ, 2),
                exit("lr_pipe_krb", PIPE_READ, 2),
                entry("lw_tty_kpb", TTY_WRITE, 2),
                exit("lw_tty_krb", TTY_WRITE, 2),
                optional(entry("lr_tty_kpb", TTY_READ, 2)),
                optional(exit("lr_tty_krb", TTY_READ, 2)),
                optional(entry("lw_splice_kpb", SPLICE, 6)),
                optional(exit("lw_splice_krb", SPLICE, 6)),
                optional(entry("lw_tee_kpb", TEE, 4)),
                optional(exit("lw_tee_krb", TEE, 4)),
                optional(entry("lw_send_kpb", SENDFILE, 5)),
                optional(exit("lw_send_krb", SENDFILE, 5)),
                optional(entry("lw_vms_kpb", VMSPLICE, 1)),
                optional(exit("lw_vms_krb", VMSPLICE, 1)),
                late(entry("lw_sock_kpb", SOCKET_WRITE, 3)),
                late(exit("lw_sock_krb", SOCKET_WRITE, 3)),
            ],
            needs: bounded(FILE),
            needs_any: ITERATOR,
            cost: Cost::Call,
            precision: ALMOST,
            variant: BOUNDED,
            goes_on: Some(GoesOn {
                map: "GO_ON_KPROBE",
                programs: &[(0, "lw_pipe_krb"), (1, "lw_tty_krb"), (2, "lw_sock_krb")],
            }),
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("log_exit_btf", "raw_syscalls", "sys_exit", 2)],
            needs: REGISTERS,
            cost: Cost::Call,
            precision: EXACT_BUT_RING,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("log_exit_btf_b", "raw_syscalls", "sys_exit", 2)],
            needs: bounded(REGISTERS),
            needs_any: &[],
            cost: Cost::Call,
            precision: ALMOST_BUT_RING,
            variant: BOUNDED,
            goes_on: Some(GoesOn { map: "GO_ON_BTF", programs: &[(0, "log_exit_btf_b")] }),
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("log_exit_raw", "raw_syscalls", "sys_exit", 2)],
            needs: REGISTERS,
            cost: Cost::Call,
            precision: EXACT_BUT_RING,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("log_exit_raw_b", "raw_syscalls", "sys_exit", 2)],
            needs: bounded(REGISTERS),
            needs_any: &[],
            cost: Cost::Call,
            precision: ALMOST_BUT_RING,
            variant: BOUNDED,
            goes_on: Some(GoesOn { map: "GO_ON_RAW", programs: &[(0, "log_exit_raw_b")] }),
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("log_enter_tp", "raw_syscalls", "sys_enter", 0),
                event("log_exit_tp", "raw_syscalls", "sys_exit", 0),
            ],
            needs: RECORDS,
            cost: Cost::Call,
            precision: EXACT_BUT_RING,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("log_enter_tp_b", "raw_syscalls", "sys_enter", 0),
                event("log_exit_tp_b", "raw_syscalls", "sys_exit", 0),
            ],
            needs: bounded(RECORDS),
            needs_any: &[],
            cost: Cost::Call,
            precision: ALMOST_BUT_RING,
            variant: BOUNDED,
            goes_on: Some(GoesOn { map: "GO_ON_TP", programs: &[(0, "log_exit_tp_b")] }),
        },
    ],
    on_demand: None,
    lost: "how long log lines are, how much a line without an end holds, and who reads it is not known",
};
