//! At the exit of a system call.

use core::marker::PhantomData;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{line::READER_WORDS, offsets::Symbol, setting::Call};

use super::{
    At, Bounded, Looping, Work,
    flight::{Flight, enter, leave},
    look, moved, wrote,
};
use crate::{
    access::{Access, Direct, Probed},
    file::{Current, Untyped, sockets},
    globals::{has, number, syscall},
    line::{self, Kernel, Place},
    maps::LOG_READERS,
};

/// Registers of the task.
pub(super) trait Registers {
    fn number(&self) -> u32;
    /// The first three.
    fn arguments(&self) -> [u64; 3];
}

pub(super) struct Saved<A: Access>(pub u64, pub PhantomData<A>);

impl<A: Access> Saved<A> {
    #[inline(always)]
    pub fn at(&self, place: Symbol) -> u64 {
        // SAFETY: a field of `pt_regs`.
        unsafe { A::word(self.0 + u64::from(number(place))) }
    }
}

impl<A: Access> Registers for Saved<A> {
    #[inline(always)]
    fn number(&self) -> u32 {
        self.at(Symbol::SyscallNumber) as u32
    }
    #[inline(always)]
    fn arguments(&self) -> [u64; 3] {
        [self.at(Symbol::SyscallArg0), self.at(Symbol::SyscallArg1), self.at(Symbol::SyscallArg2)]
    }
}

/// What `sys_enter` kept.
struct Kept([u64; 4]);

impl Registers for Kept {
    #[inline(always)]
    fn number(&self) -> u32 {
        self.0[0] as u32
    }
    #[inline(always)]
    fn arguments(&self) -> [u64; 3] {
        [self.0[1], self.0[2], self.0[3]]
    }
}

/// Whether reads of this thread group matter.
#[inline(always)]
fn watched() -> bool {
    let group = (bpf_get_current_pid_tgid() >> 32) as u32;
    let word = (group as usize / 64) & (READER_WORDS - 1);
    LOG_READERS.get(0).is_some_and(|bits| bits[word] >> (group % 64) & 1 != 0)
}

/// `TS_COMPAT`, arch/x86/include/asm/thread_info.h: the number is one of the 32-bit table.
const COMPAT: u32 = 2;

#[inline(always)]
fn compat<C: Current>() -> bool {
    // SAFETY: a field of `task_struct`.
    has(Symbol::TaskThreadStatus)
        && unsafe { C::Access::half(C::task() + u64::from(number(Symbol::TaskThreadStatus))) } & COMPAT != 0
}

#[inline(always)]
fn exited<K: Kernel>(registers: impl Registers, result: i64) -> Option<Work> {
    if result <= 0 {
        return None;
    }
    let bytes = result as u64;
    let call = registers.number();
    let is = |one| call == syscall(one);
    let writes = is(Call::Write)
        || is(Call::Writev)
        || is(Call::Pwritev2)
        || (is(Call::Sendto) || is(Call::Sendmsg)) && sockets();
    let reads = is(Call::Read) || is(Call::Readv) || is(Call::Preadv2);
    let moves = is(Call::Splice) || is(Call::Tee) || is(Call::Sendfile) || is(Call::Vmsplice);
    if !(writes || moves || reads && watched()) || compat::<K::Current>() {
        return None;
    }
    let [first, second, third] = registers.arguments();
    if moves {
        // splice(in, _, out), tee(in, out), sendfile(out, in), vmsplice(out)
        let to = if is(Call::Splice) {
            third
        } else if is(Call::Tee) {
            second
        } else {
            first
        };
        if let Some(node) = Untyped::node(to & DESCRIPTOR, false) {
            moved::<K>(node, bytes);
        }
        if is(Call::Splice)
            && let Some(node) = Untyped::node(first & DESCRIPTOR, true)
        {
            line::read::<K>(node, bytes);
        }
        return None;
    }
    let node = K::Current::node(first & DESCRIPTOR, reads)?;
    if reads {
        line::read::<K>(node, bytes);
        return None;
    }
    wrote::<K>(node, bytes, || {
        if is(Call::Write) || is(Call::Sendto) {
            return Some(At::Buffer(second));
        }
        let mut at = second;
        if is(Call::Sendmsg) {
            // SAFETY: `msg_iov` of the task's `struct msghdr`, whose layout is the system's interface.
            at = unsafe { bpf_probe_read_user((second + MSG_IOV) as *const u64) }.ok()?;
        }
        Some(At::Segments { at, user: 1, skip: 0 })
    })
}

/// Offset of `msg_iov` in the `struct msghdr` of 64-bit tasks.
const MSG_IOV: u64 = 16;

/// A descriptor is an `int`.
const DESCRIPTOR: u64 = 0xffff_ffff;

macro_rules! exits {
    ($($kernel:ident: $btf:ident $raw:ident $enter:ident $exit:ident;)+) => {
        $(
            /// `(struct pt_regs *regs, long ret)`
            #[btf_tracepoint(function = "sys_exit")]
            #[inline(always)]
            pub fn $btf(ctx: BtfTracePointContext) -> i32 {
                look::<$kernel>(Place::Pipe, || exited::<$kernel>(Saved::<Direct>(ctx.arg(0), PhantomData), ctx.arg(1)))
            }
            #[raw_tracepoint(tracepoint = "sys_exit")]
            #[inline(always)]
            pub fn $raw(ctx: RawTracePointContext) -> i32 {
                look::<$kernel>(Place::Pipe, || exited::<$kernel>(Saved::<Probed>(ctx.arg(0), PhantomData), ctx.arg(1)))
            }
            #[tracepoint]
            pub fn $enter(ctx: TracePointContext) -> u32 {
                entered(&ctx);
                0
            }
            #[tracepoint]
            #[inline(always)]
            pub fn $exit(ctx: TracePointContext) -> u32 {
                look::<$kernel>(Place::Pipe, || {
                    let kept = Kept(leave(Flight::Call)?);
                    // SAFETY: the offset comes from the tracepoint's own format.
                    exited::<$kernel>(kept, unsafe { ctx.read_at(number(Symbol::TpSysExitRet) as usize) }.ok()?)
                }) as u32
            }
        )+
    };
}

exits! {
    Looping: log_exit_btf log_exit_raw log_enter_tp log_exit_tp;
    Bounded: log_exit_btf_b log_exit_raw_b log_enter_tp_b log_exit_tp_b;
}

/// Keeps the arguments of calls that may move bytes.
#[inline(always)]
fn entered(ctx: &TracePointContext) {
    // SAFETY: the offsets come from the tracepoint's own format.
    unsafe {
        let Ok(call) = ctx.read_at::<i64>(number(Symbol::TpSysEnterId) as usize) else { return };
        let call = call as u32;
        let is = |one| call == syscall(one);
        let reads = is(Call::Read) || is(Call::Readv) || is(Call::Preadv2);
        let moves = is(Call::Write)
            || is(Call::Writev)
            || is(Call::Pwritev2)
            || (is(Call::Sendto) || is(Call::Sendmsg)) && sockets()
            || is(Call::Splice)
            || is(Call::Tee)
            || is(Call::Sendfile)
            || is(Call::Vmsplice);
        if moves || reads && watched() {
            let argument = |nth: usize| {
                ctx.read_at::<u64>(number(Symbol::TpSysEnterArgs) as usize + 8 * nth).unwrap_or(0)
            };
            enter(Flight::Call, [u64::from(call), argument(0), argument(1), argument(2)]);
        }
    }
}
