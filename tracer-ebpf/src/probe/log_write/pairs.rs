//! The same where only kprobes exist: what the return needs is kept at the entry.

use core::marker::PhantomData;

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::abi::offsets::Symbol;

use super::{
    Bounded, Looping,
    calls::Saved,
    flight::{Flight, enter, leave},
    look,
    returns::{descriptor_moved, file_read, file_written, socket_written, spliced},
};
use crate::{access::Probed, line::Place};

macro_rules! probes {
    ($($kernel:ident: $pipe_k:ident $pipe_r:ident $tty_k:ident $tty_r:ident $read_k:ident $read_r:ident $tread_k:ident $tread_r:ident $splice_k:ident $splice_r:ident $tee_k:ident $tee_r:ident $send_k:ident $send_r:ident $vms_k:ident $vms_r:ident $sock_k:ident $sock_r:ident;)+) => {
        $(
            #[kprobe]
            pub fn $pipe_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Pipe, [ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), 0, 0]);
                0
            }
            #[kretprobe]
            #[inline(always)]
            pub fn $pipe_r(ctx: RetProbeContext) -> u32 {
                look::<$kernel>(Place::Pipe, || {
                    let [kiocb, iterator, ..] = leave(Flight::Pipe)?;
                    file_written::<$kernel, Probed>(kiocb, iterator, ctx.ret())
                }) as u32
            }
            #[kprobe]
            pub fn $tty_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Terminal, [ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), 0, 0]);
                0
            }
            #[kretprobe]
            #[inline(always)]
            pub fn $tty_r(ctx: RetProbeContext) -> u32 {
                look::<$kernel>(Place::Terminal, || {
                    let [kiocb, iterator, ..] = leave(Flight::Terminal)?;
                    file_written::<$kernel, Probed>(kiocb, iterator, ctx.ret())
                }) as u32
            }
            #[kprobe]
            pub fn $read_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Read, [ctx.arg(0).unwrap_or(0), 0, 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $read_r(ctx: RetProbeContext) -> u32 {
                if let Some([kiocb, ..]) = leave(Flight::Read) {
                    file_read::<$kernel, Probed>(kiocb, ctx.ret());
                }
                0
            }
            #[kprobe]
            pub fn $tread_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Read, [ctx.arg(0).unwrap_or(0), 0, 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $tread_r(ctx: RetProbeContext) -> u32 {
                if let Some([kiocb, ..]) = leave(Flight::Read) {
                    file_read::<$kernel, Probed>(kiocb, ctx.ret());
                }
                0
            }
            #[kprobe]
            pub fn $splice_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Splice, [ctx.arg(0).unwrap_or(0), ctx.arg(2).unwrap_or(0), 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $splice_r(ctx: RetProbeContext) -> u32 {
                if let Some([from, to, ..]) = leave(Flight::Splice) {
                    spliced::<$kernel, Probed>(Some(from), to, ctx.ret());
                }
                0
            }
            #[kprobe]
            pub fn $tee_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Splice, [ctx.arg(1).unwrap_or(0), 0, 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $tee_r(ctx: RetProbeContext) -> u32 {
                if let Some([to, ..]) = leave(Flight::Splice) {
                    spliced::<$kernel, Probed>(None, to, ctx.ret());
                }
                0
            }
            #[kprobe]
            pub fn $sock_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Socket, [ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), 0, 0]);
                0
            }
            #[kretprobe]
            #[inline(always)]
            pub fn $sock_r(ctx: RetProbeContext) -> u32 {
                look::<$kernel>(Place::Socket, || {
                    let [socket, message, ..] = leave(Flight::Socket)?;
                    socket_written::<$kernel, Probed>(socket, message, i64::from(ctx.ret::<u64>() as i32))
                }) as u32
            }
            #[kprobe]
            pub fn $vms_k(ctx: ProbeContext) -> u32 {
                let registers = Saved::<Probed>(ctx.arg(0).unwrap_or(0), PhantomData);
                enter(Flight::Splice, [registers.at(Symbol::SyscallArg0), 0, 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $vms_r(ctx: RetProbeContext) -> u32 {
                if let Some([descriptor, ..]) = leave(Flight::Splice) {
                    descriptor_moved::<$kernel>(descriptor, ctx.ret());
                }
                0
            }
            /// `do_sendfile(out_fd, ...)`
            #[kprobe]
            pub fn $send_k(ctx: ProbeContext) -> u32 {
                enter(Flight::Splice, [ctx.arg(0).unwrap_or(0), 0, 0, 0]);
                0
            }
            #[kretprobe]
            pub fn $send_r(ctx: RetProbeContext) -> u32 {
                if let Some([descriptor, ..]) = leave(Flight::Splice) {
                    descriptor_moved::<$kernel>(descriptor, ctx.ret());
                }
                0
            }
        )+
    };
}

probes! {
    Looping: lw_pipe_kp lw_pipe_kr lw_tty_kp lw_tty_kr lr_pipe_kp lr_pipe_kr lr_tty_kp lr_tty_kr lw_splice_kp lw_splice_kr lw_tee_kp lw_tee_kr lw_send_kp lw_send_kr lw_vms_kp lw_vms_kr lw_sock_kp lw_sock_kr;
    Bounded: lw_pipe_kpb lw_pipe_krb lw_tty_kpb lw_tty_krb lr_pipe_kpb lr_pipe_krb lr_tty_kpb lr_tty_krb lw_splice_kpb lw_splice_krb lw_tee_kpb lw_tee_krb lw_send_kpb lw_send_krb lw_vms_kpb lw_vms_krb lw_sock_kpb lw_sock_krb;
}
