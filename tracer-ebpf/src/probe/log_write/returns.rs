//! At the return of the functions that write and read, by fexit.

use core::marker::PhantomData;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use tracer_ebpf::abi::offsets::Symbol;

use super::{At, Bounded, Looping, Work, calls::Saved, look, moved, wrote};
use crate::{
    access::{Access, Direct},
    file::{Current, node, sockets},
    globals::{has, number},
    line::{self, Kernel, Place},
    maps::SEEN,
};

/// Where the bytes are that an iterator has just gone over; `None` if they are not the task's memory.
#[inline(always)]
fn gone_over(iterator: u64, bytes: u64) -> Option<At> {
    // SAFETY: a probed read of `struct iov_iter`, whose fields that matter are words in its first 40 bytes.
    let words = unsafe { bpf_probe_read_kernel(iterator as *const [u64; 5]) }.ok()?;
    let field = |symbol| words[(number(symbol) / 8) as usize % 5];
    let (kind, mask) = if has(Symbol::IterType) {
        (field(Symbol::IterType) >> (8 * (number(Symbol::IterType) % 8)), 0xff)
    } else {
        (field(Symbol::IterTypeWord), 0xfe)
    };
    let kind = (kind & mask) as u32;
    let (offset, pointer) = (field(Symbol::IterOffset), field(Symbol::IterIov));
    if has(Symbol::IterUbuf) && kind == number(Symbol::IterUbuf) {
        return Some(At::Buffer(pointer + offset - bytes));
    }
    if kind != number(Symbol::IterIovec) {
        return None;
    }
    // It stands behind the last byte taken.
    Some(At::Behind { segment: pointer, gone: offset })
}

/// `ssize_t f(struct kiocb *, struct iov_iter *)` has returned.
#[inline(always)]
pub(super) fn file_written<K: Kernel, A: Access>(kiocb: u64, iterator: u64, result: i64) -> Option<Work> {
    if result <= 0 {
        return None;
    }
    // SAFETY: a field of `kiocb`.
    let file = unsafe { A::word(kiocb + u64::from(number(Symbol::KiocbFile))) };
    let bytes = result as u64;
    let at = gone_over(iterator, bytes);
    if at.is_none() && !K::FROM_KERNEL {
        return None;
    }
    wrote::<K>(node::<A>(file, false)?, bytes, || at)
}

/// `int unix_stream_sendmsg(struct socket *, struct msghdr *, size_t)` has returned.
#[inline(always)]
pub(super) fn socket_written<K: Kernel, A: Access>(socket: u64, message: u64, result: i64) -> Option<Work> {
    if result <= 0 || !sockets() {
        return None;
    }
    // SAFETY: a field of `socket`.
    let file = unsafe { A::word(socket + u64::from(number(Symbol::SocketFile))) };
    let bytes = result as u64;
    let iterator = message + u64::from(number(Symbol::MsghdrIter));
    wrote::<K>(node::<A>(file, false)?, bytes, || gone_over(iterator, bytes))
}

#[inline(always)]
pub(super) fn file_read<K: Kernel, A: Access>(kiocb: u64, result: i64) {
    if result > 0 {
        // SAFETY: a field of `kiocb`.
        taken::<K, A>(unsafe { A::word(kiocb + u64::from(number(Symbol::KiocbFile))) }, result);
    }
}

#[inline(always)]
pub(super) fn taken<K: Kernel, A: Access>(file: u64, result: i64) {
    if result > 0
        && let Some(node) = node::<A>(file, true)
    {
        line::read::<K>(node, result as u64);
    }
}

/// Files between which the kernel moved bytes by itself.
#[inline(always)]
pub(super) fn spliced<K: Kernel, A: Access>(from: Option<u64>, to: u64, result: i64) {
    if result <= 0 {
        return;
    }
    if let Some(node) = node::<A>(to, false) {
        moved::<K>(node, result as u64);
    }
    if let Some(from) = from {
        taken::<K, A>(from, result);
    }
}

#[inline(always)]
pub(super) fn descriptor_moved<K: Kernel>(descriptor: u64, result: i64) {
    if result > 0
        && let Some(node) = K::Current::node(u64::from(descriptor as u32), false)
    {
        moved::<K>(node, result as u64);
    }
}

// A kernel that preempts itself can do so in the middle of a program, and skips the program for every task that comes by
// on that CPU until it has ended. Copies stand in for each other: the first that runs takes the write.

/// Room of `SEEN`.
const TASKS: u32 = 1 << 16;

/// Nobody has seen the write that the current task is about to make. In copies, too: while one task is held up in it, the
/// writes of others would pass for seen.
macro_rules! unseen {
    ($($copy:ident)+) => {
        $(
            #[fentry]
            #[inline(always)]
            pub fn $copy(_: FEntryContext) -> i32 {
                let task = bpf_get_current_pid_tgid() as u32;
                if let Some(seen) = SEEN.get_ptr_mut(task % TASKS) {
                    // SAFETY: a valid map value; only this task's programs use it, but for one whose id ends likewise.
                    unsafe { *seen = 0 }
                }
                0
            }
        )+
    };
}

unseen!(lw_pipe_fe1 lw_pipe_fe2);

/// Whether the caller is the first copy to see the write.
#[inline(always)]
fn first_to_see() -> bool {
    let task = bpf_get_current_pid_tgid() as u32;
    let Some(seen) = SEEN.get_ptr_mut(task % TASKS) else { return true };
    // SAFETY: as above.
    unsafe {
        let first = *seen != task;
        *seen = task;
        first
    }
}

macro_rules! copies {
    ($($copy:ident $place:ident;)+) => {
        $(
            #[fexit]
            #[inline(always)]
            pub fn $copy(ctx: FExitContext) -> i32 {
                if !first_to_see() {
                    return 0;
                }
                look::<Looping>(Place::$place, || file_written::<Looping, Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
            }
        )+
    };
}

copies! {
    lw_pipe_fx1 Pipe;
    lw_pipe_fx2 Second;
    lw_pipe_fx3 Third;
    lw_pipe_fx4 Fourth;
}

macro_rules! returns {
    ($($kernel:ident: $pipe:ident $tty:ident $pipe_read:ident $tty_read:ident $tty_read_4:ident $splice:ident $tee:ident $sendfile:ident $vmsplice:ident $socket:ident;)+) => {
        $(
            #[fexit]
            #[inline(always)]
            pub fn $pipe(ctx: FExitContext) -> i32 {
                look::<$kernel>(Place::Pipe, || file_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
            }
            #[fexit]
            #[inline(always)]
            pub fn $tty(ctx: FExitContext) -> i32 {
                look::<$kernel>(Place::Terminal, || file_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
            }
            #[fexit]
            #[inline(always)]
            pub fn $pipe_read(ctx: FExitContext) -> i32 {
                file_read::<$kernel, Direct>(ctx.arg(0), ctx.arg(2));
                0
            }
            #[fexit]
            pub fn $tty_read(ctx: FExitContext) -> i32 {
                file_read::<$kernel, Direct>(ctx.arg(0), ctx.arg(2));
                0
            }
            /// Up to 5.10: `ssize_t tty_read(struct file *, char __user *, size_t, loff_t *)`.
            #[fexit]
            pub fn $tty_read_4(ctx: FExitContext) -> i32 {
                taken::<$kernel, Direct>(ctx.arg(0), ctx.arg(4));
                0
            }
            /// `do_splice(in, off_in, out, off_out, len, flags)`
            #[fexit]
            pub fn $splice(ctx: FExitContext) -> i32 {
                spliced::<$kernel, Direct>(Some(ctx.arg(0)), ctx.arg(2), ctx.arg(6));
                0
            }
            /// `do_tee(in, out, len, flags)`
            #[fexit]
            pub fn $tee(ctx: FExitContext) -> i32 {
                spliced::<$kernel, Direct>(None, ctx.arg(1), ctx.arg(4));
                0
            }
            /// `do_sendfile(out_fd, in_fd, ppos, count, max)`
            #[fexit]
            pub fn $sendfile(ctx: FExitContext) -> i32 {
                descriptor_moved::<$kernel>(ctx.arg(0), ctx.arg(5));
                0
            }
            #[fexit]
            #[inline(always)]
            pub fn $socket(ctx: FExitContext) -> i32 {
                // An `int`: the upper half of the slot says nothing.
                let result = i64::from(ctx.arg::<u64>(3) as i32);
                look::<$kernel>(Place::Socket, || socket_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), result))
            }
            /// The system call itself, of one argument: its registers.
            #[fexit]
            pub fn $vmsplice(ctx: FExitContext) -> i32 {
                let registers = Saved::<Direct>(ctx.arg(0), PhantomData);
                descriptor_moved::<$kernel>(registers.at(Symbol::SyscallArg0), ctx.arg(1));
                0
            }
        )+
    };
}

returns! {
    Looping: lw_pipe_fx lw_tty_fx lr_pipe_fx lr_tty_fx lr_tty4_fx lw_splice_fx lw_tee_fx lw_send_fx lw_vms_fx lw_sock_fx;
    Bounded: lw_pipe_fxb lw_tty_fxb lr_pipe_fxb lr_tty_fxb lr_tty4_fxb lw_splice_fxb lw_tee_fxb lw_send_fxb lw_vms_fxb lw_sock_fxb;
}
