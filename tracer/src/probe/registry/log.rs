//! The probe of log lines: two programs for each hook, one for kernels with `bpf_loop` and fetching atomics.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Kind, Probe, entry, event, exit, late, optional};

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

/// `bpf_loop`, what is named, and what leads every alternative from a descriptor to the pipe and from the task to its memory
/// cgroup.
macro_rules! needs {
    ($($own:ident)+) => {
        &[
            Symbol::HelperLoop,
            $(Symbol::$own,)+
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
        ]
    };
}

const FILE: &[Symbol] = needs!(KiocbFile IterOffset IterIov IterIovec IovecLen SocketFile MsghdrIter);
const REGISTERS: &[Symbol] = needs!(SyscallNumber SyscallArg0 SyscallArg1 SyscallArg2);
const RECORDS: &[Symbol] = needs!(TpSysEnterId TpSysEnterArgs TpSysExitRet);

/// Without `bpf_loop`, the first of a list.
const fn bounded(needs: &'static [Symbol]) -> &'static [Symbol] {
    match needs {
        [_, rest @ ..] => rest,
        [] => needs,
    }
}

const ITERATOR: &[&[Symbol]] = &[&[Symbol::IterType, Symbol::IterTypeWord]];

const EXACT: &str =
    "exact; of one write up to 4 MiB are looked at; splice, tee, vmsplice and sendfile move bytes unseen";
const EXACT_BUT_MANY: &str = "exact as long as no more tasks wait in a pipe at once than a return probe has room for: ten, before 6.1 often but one \
     for each CPU; of one write up to 4 MiB are looked at; splice, tee, vmsplice and sendfile move bytes unseen";
const EXACT_BUT_RING: &str = "exact; of one write up to 4 MiB are looked at; splice, tee, vmsplice and sendfile move bytes unseen; \
     io_uring and 32-bit system calls are not seen";
const ALMOST: &str = "of one write up to 4 MiB are looked at; a line may be off by a write where two \
     processes write to one stream at once; splice, tee, vmsplice and sendfile move bytes unseen";
const ALMOST_BUT_RING: &str = "of one write up to 4 MiB are looked at; a line may be off by a write where two \
     processes write to one stream at once; splice, tee, vmsplice and sendfile move bytes unseen; io_uring and 32-bit \
     system calls are not seen";

/// By fexit; programs for kernels without `bpf_loop` bear a suffix.
macro_rules! returns {
    ($suffix:literal) => {
        returns!($suffix; exit(concat!("lw_pipe_fx", $suffix), PIPE_WRITE, 2))
    };
    ($suffix:literal; $($write:expr),+) => {
        &[
            $($write,)+
            exit(concat!("lr_pipe_fx", $suffix), PIPE_READ, 2),
            exit(concat!("lw_tty_fx", $suffix), TTY_WRITE, 2),
            optional(exit(concat!("lr_tty_fx", $suffix), TTY_READ, 2)),
            optional(exit(concat!("lr_tty4_fx", $suffix), TTY_READ, 4)),
            optional(exit(concat!("lw_splice_fx", $suffix), SPLICE, 6)),
            optional(exit(concat!("lw_tee_fx", $suffix), TEE, 4)),
            optional(exit(concat!("lw_send_fx", $suffix), SENDFILE, 5)),
            optional(exit(concat!("lw_vms_fx", $suffix), VMSPLICE, 1)),
            late(exit(concat!("lw_sock_fx", $suffix), SOCKET_WRITE, 3)),
        ]
    };
}

/// By kprobes; entry first: a return then always finds what its entry left.
macro_rules! pairs {
    ($suffix:literal) => {
        &[
            entry(concat!("lw_pipe_kp", $suffix), PIPE_WRITE, 2),
            exit(concat!("lw_pipe_kr", $suffix), PIPE_WRITE, 2),
            entry(concat!("lr_pipe_kp", $suffix), PIPE_READ, 2),
            exit(concat!("lr_pipe_kr", $suffix), PIPE_READ, 2),
            entry(concat!("lw_tty_kp", $suffix), TTY_WRITE, 2),
            exit(concat!("lw_tty_kr", $suffix), TTY_WRITE, 2),
            optional(entry(concat!("lr_tty_kp", $suffix), TTY_READ, 2)),
            optional(exit(concat!("lr_tty_kr", $suffix), TTY_READ, 2)),
            optional(entry(concat!("lw_splice_kp", $suffix), SPLICE, 6)),
            optional(exit(concat!("lw_splice_kr", $suffix), SPLICE, 6)),
            optional(entry(concat!("lw_tee_kp", $suffix), TEE, 4)),
            optional(exit(concat!("lw_tee_kr", $suffix), TEE, 4)),
            optional(entry(concat!("lw_send_kp", $suffix), SENDFILE, 5)),
            optional(exit(concat!("lw_send_kr", $suffix), SENDFILE, 5)),
            optional(entry(concat!("lw_vms_kp", $suffix), VMSPLICE, 1)),
            optional(exit(concat!("lw_vms_kr", $suffix), VMSPLICE, 1)),
            late(entry(concat!("lw_sock_kp", $suffix), SOCKET_WRITE, 3)),
            late(exit(concat!("lw_sock_kr", $suffix), SOCKET_WRITE, 3)),
        ]
    };
}

const LOOPING: Alternative = Alternative { cost: Cost::Call, precision: EXACT, ..ALTERNATIVE };
const BOUNDED: Alternative =
    Alternative { cost: Cost::Call, precision: ALMOST, variant: Some("bounded"), ..ALTERNATIVE };

pub(super) const LOG_WRITE: Probe = Probe {
    name: "log_write",
    purpose: "lines written to pipes and terminals, how long they are, and who reads them",
    alternatives: &[
        Alternative {
            kind: Kind::Fentry,
            links: returns!(
                "";
                entry("lw_pipe_fe1", PIPE_WRITE, 2),
                entry("lw_pipe_fe2", PIPE_WRITE, 2),
                exit("lw_pipe_fx1", PIPE_WRITE, 2),
                exit("lw_pipe_fx2", PIPE_WRITE, 2),
                exit("lw_pipe_fx3", PIPE_WRITE, 2),
                exit("lw_pipe_fx4", PIPE_WRITE, 2)
            ),
            needs: FILE,
            needs_any: ITERATOR,
            variant: Some("copies"),
            for_preemption: true,
            ..LOOPING
        },
        Alternative { kind: Kind::Fentry, links: returns!(""), needs: FILE, needs_any: ITERATOR, ..LOOPING },
        Alternative {
            kind: Kind::Fentry,
            links: returns!("b"),
            needs: bounded(FILE),
            needs_any: ITERATOR,
            ..BOUNDED
        },
        // One hook on every exit costs calls that are no writes less than a tracepoint for each kind of write does.
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("log_exit_btf", "raw_syscalls", "sys_exit", 2)],
            needs: REGISTERS,
            precision: EXACT_BUT_RING,
            ..LOOPING
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("log_exit_btf_b", "raw_syscalls", "sys_exit", 2)],
            needs: bounded(REGISTERS),
            precision: ALMOST_BUT_RING,
            ..BOUNDED
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("log_exit_raw", "raw_syscalls", "sys_exit", 2)],
            needs: REGISTERS,
            precision: EXACT_BUT_RING,
            ..LOOPING
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("log_exit_raw_b", "raw_syscalls", "sys_exit", 2)],
            needs: bounded(REGISTERS),
            precision: ALMOST_BUT_RING,
            ..BOUNDED
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("log_enter_tp", "raw_syscalls", "sys_enter", 0),
                event("log_exit_tp", "raw_syscalls", "sys_exit", 0),
            ],
            needs: RECORDS,
            precision: EXACT_BUT_RING,
            ..LOOPING
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("log_enter_tp_b", "raw_syscalls", "sys_enter", 0),
                event("log_exit_tp_b", "raw_syscalls", "sys_exit", 0),
            ],
            needs: bounded(RECORDS),
            precision: ALMOST_BUT_RING,
            ..BOUNDED
        },
        // Last: a return probe has room for ten tasks or fewer, and many wait in a pipe.
        Alternative {
            kind: Kind::Kprobe,
            links: pairs!(""),
            needs: FILE,
            needs_any: ITERATOR,
            precision: EXACT_BUT_MANY,
            ..LOOPING
        },
        Alternative {
            kind: Kind::Kprobe,
            links: pairs!("b"),
            needs: bounded(FILE),
            needs_any: ITERATOR,
            ..BOUNDED
        },
    ],
    on_demand: None,
    lost: "how long log lines are, how much a line without an end holds, and who reads it is not known",
};
