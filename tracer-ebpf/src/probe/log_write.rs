//! Lines written to pipes and terminals, and who reads them: at the end of each write, on the bytes really taken.
//!
//! Kernel source: fs/pipe.c (`pipe_write`, since 6.16 `anon_pipe_write`, which FIFOs pass, too), drivers/tty/tty_io.c,
//! fs/splice.c. A system call's arguments still stand in the task's registers at its exit, so no entry is needed, but for
//! a classic tracepoint, which has no registers.
//! Cost: fexit 15 ns and the scan for those who use pipes, nothing for others; at every system call's exit 100-150 ns
//! for all, of which the hook itself is nearly all for calls that are no writes.

use core::marker::PhantomData;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_user},
    macros::{btf_tracepoint, fexit, kprobe, kretprobe, raw_tracepoint, tracepoint},
    maps::ProgramArray,
    programs::{
        BtfTracePointContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext,
        TracePointContext,
    },
};
use tracer_ebpf::abi::{failure::Failure, line::READER_WORDS, line::Stream, offsets::Symbol, setting::Call};

use crate::{
    access::{Access, Direct, Probed},
    atomic::{Fetching, Plain},
    emit::lose,
    file::{Current, Node, Typed, Untyped, node, sockets},
    globals::{has, number, syscall},
    line::{self, Kernel, Place, commit, passed, place, scans, unseen, written},
    maps::{GO_ON_BTF, GO_ON_FEXIT, GO_ON_KPROBE, GO_ON_RAW, GO_ON_TP, LOG_FLIGHT, LOG_READERS, STREAMS},
    scan::Scan,
};

/// 5.17 and later: `bpf_loop`, fetching atomics, the current task as a typed pointer.
struct Looping;
/// Before: bounded loops that go on by tail calls.
struct Bounded;

impl Kernel for Looping {
    type Atomics = Fetching;
    type Current = Typed;
    const RESUMES: bool = false;
    #[inline(always)]
    fn scan(scan: &mut Scan) -> bool {
        scan.run();
        true
    }
}

impl Kernel for Bounded {
    type Atomics = Plain;
    type Current = Untyped;
    const RESUMES: bool = true;
    #[inline(always)]
    fn scan(scan: &mut Scan) -> bool {
        scan.run_bounded()
    }
}

/// What one program is: its context, its place for a scan, and how it goes on.
struct Program<'a, C: EbpfContext> {
    ctx: &'a C,
    place: Place,
    go_on: &'static ProgramArray,
}

impl<C: EbpfContext> Program<'_, C> {
    /// What a program does: goes on with a scan, if that is what it was entered for, else begins one, if `begin` finds
    /// something to look at. Written so that the scan stands in the program once.
    #[inline(always)]
    fn run<K: Kernel>(&self, begin: impl FnOnce() -> Option<Work>) -> i32 {
        let mut scan = None;
        let mut stream = None;
        if K::RESUMES {
            let Some(own) = place(self.place) else { return 0 };
            if own.resumed != 0 {
                own.resumed = 0;
                scan = Some(own);
            }
        }
        if scan.is_none() {
            let Some(work) = begin() else { return 0 };
            let Some(own) = place(self.place) else { return 0 };
            own.begin(work.key, work.bytes);
            match work.bytes_at {
                At::Buffer(at) => {
                    own.at = at;
                    own.in_segment = own.left;
                }
                At::Segments { at, user, skip } => {
                    own.segments = at;
                    own.user_segments = user;
                    own.skip = skip;
                }
            }
            stream = Some(work.stream);
            scan = Some(own);
        }
        let Some(scan) = scan else { return 0 };
        if !K::scan(scan) {
            scan.resumed = 1;
            // SAFETY: nothing is held; the array has programs of this kind only. It returns only where it failed.
            unsafe { self.go_on.tail_call(self.ctx, self.place as u32) }
            scan.resumed = 0;
        }
        scan.end();
        // A program that was entered again has lost its pointer.
        let stream = if K::RESUMES { STREAMS.get_ptr_mut(scan.stream) } else { stream };
        if let Some(stream) = stream {
            commit::<K::Atomics>(scan, stream);
        }
        0
    }
}

/// A write to look at.
struct Work {
    key: u64,
    stream: *mut Stream,
    bytes: u64,
    bytes_at: At,
}

/// Where written bytes are.
enum At {
    /// Address of the first.
    Buffer(u64),
    /// Address of `struct iovec`s, whether that is the task's, and bytes of the first segment that are an earlier write's.
    Segments { at: u64, user: u64, skip: u64 },
}

/// The current task wrote so many bytes to a stream; `at` says where they are, if that can be said.
#[inline(always)]
fn wrote<K: Kernel>(node: Node, bytes: u64, at: impl FnOnce() -> Option<At>) -> Option<Work> {
    let (key, stream) = written::<K>(node)?;
    if !scans(stream) {
        passed(key, stream, bytes);
        return None;
    }
    let bytes_at = at();
    if bytes_at.is_none() {
        unseen(key, stream, bytes);
    }
    Some(Work { key, stream, bytes, bytes_at: bytes_at? })
}

/// Bytes that were moved without a buffer of the task's.
#[inline(always)]
fn moved<K: Kernel>(node: Node, bytes: u64) {
    if let Some((key, stream)) = written::<K>(node) {
        unseen(key, stream, bytes);
    }
}

// At the exit of a system call.

/// Registers of the task.
trait Registers {
    fn number(&self) -> u32;
    /// The first three.
    fn arguments(&self) -> [u64; 3];
}

struct Saved<A: Access>(u64, PhantomData<A>);

impl<A: Access> Saved<A> {
    #[inline(always)]
    fn at(&self, place: Symbol) -> u64 {
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
    let word = group as usize / 64 & (READER_WORDS - 1);
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
    if writes {
        let node = K::Current::node(first & DESCRIPTOR, false)?;
        return wrote::<K>(node, bytes, || {
            if is(Call::Write) || is(Call::Sendto) {
                return Some(At::Buffer(second));
            }
            let mut at = second;
            if is(Call::Sendmsg) {
                // SAFETY: `msg_iov` of the task's `struct msghdr`, whose layout is the system's interface.
                at = unsafe { bpf_probe_read_user((second + MSG_IOV) as *const u64) }.ok()?;
            }
            Some(At::Segments { at, user: 1, skip: 0 })
        });
    }
    if reads {
        if let Some(node) = K::Current::node(first & DESCRIPTOR, true) {
            line::read::<K>(node, bytes);
        }
    } else {
        // splice(in, _, out), tee(in, out), sendfile(out, in), vmsplice(out)
        let to = if is(Call::Splice) {
            third
        } else if is(Call::Tee) {
            second
        } else {
            first
        };
        if let Some(node) = K::Current::node(to & DESCRIPTOR, false) {
            moved::<K>(node, bytes);
        }
        if is(Call::Splice)
            && let Some(node) = K::Current::node(first & DESCRIPTOR, true)
        {
            line::read::<K>(node, bytes);
        }
    }
    None
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
                let program = Program { ctx: &ctx, place: Place::Pipe, go_on: &GO_ON_BTF };
                program.run::<$kernel>(|| exited::<$kernel>(Saved::<Direct>(ctx.arg(0), PhantomData), ctx.arg(1)))
            }
            #[raw_tracepoint(tracepoint = "sys_exit")]
            #[inline(always)]
            pub fn $raw(ctx: RawTracePointContext) -> i32 {
                let program = Program { ctx: &ctx, place: Place::Pipe, go_on: &GO_ON_RAW };
                program.run::<$kernel>(|| exited::<$kernel>(Saved::<Probed>(ctx.arg(0), PhantomData), ctx.arg(1)))
            }
            #[tracepoint]
            pub fn $enter(ctx: TracePointContext) -> u32 {
                entered(&ctx);
                0
            }
            #[tracepoint]
            #[inline(always)]
            pub fn $exit(ctx: TracePointContext) -> u32 {
                let program = Program { ctx: &ctx, place: Place::Pipe, go_on: &GO_ON_TP };
                program.run::<$kernel>(|| {
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

// Between a function's entry and its return.

/// What is under way: one of each can be in one task at a time.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Flight {
    Call = 0,
    Pipe = 1,
    Terminal = 2,
    Read = 3,
    Splice = 4,
    Socket = 5,
}

#[inline(always)]
fn flight_key(flight: Flight) -> u64 {
    // Thread group ids have 22 bits.
    bpf_get_current_pid_tgid() | (flight as u64) << 60
}

#[inline(always)]
fn enter(flight: Flight, kept: [u64; 4]) {
    if LOG_FLIGHT.insert(&flight_key(flight), &kept, 0).is_err() {
        lose(Failure::WriteUnpaired);
    }
}

#[inline(always)]
fn leave(flight: Flight) -> Option<[u64; 4]> {
    let key = flight_key(flight);
    // SAFETY: the value is copied at once; only this task's own return removes it.
    let found = unsafe { LOG_FLIGHT.get(key) }.copied()?;
    let _ = LOG_FLIGHT.remove(key);
    Some(found)
}

// At the return of the functions that write and read.

/// Segments of one write (UIO_MAXIOV).
const SEGMENTS: u32 = 1024;

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
    // It stands behind the last byte taken: back to the segment that holds the first.
    let mut segment = pointer;
    let mut gone = offset;
    for _ in 0..SEGMENTS {
        if gone >= bytes {
            break;
        }
        segment -= 16;
        // SAFETY: a probed read of `struct iovec`.
        gone += unsafe { Probed::word(segment + u64::from(number(Symbol::IovecLen))) };
    }
    (gone >= bytes).then(|| At::Segments { at: segment, user: 0, skip: gone - bytes })
}

/// `ssize_t f(struct kiocb *, struct iov_iter *)` has returned.
#[inline(always)]
fn file_written<K: Kernel, A: Access>(kiocb: u64, iterator: u64, result: i64) -> Option<Work> {
    if result <= 0 {
        return None;
    }
    // SAFETY: a field of `kiocb`.
    let file = unsafe { A::word(kiocb + u64::from(number(Symbol::KiocbFile))) };
    let bytes = result as u64;
    wrote::<K>(node::<A>(file, false)?, bytes, || gone_over(iterator, bytes))
}

/// `int unix_stream_sendmsg(struct socket *, struct msghdr *, size_t)` has returned.
#[inline(always)]
fn socket_written<K: Kernel, A: Access>(socket: u64, message: u64, result: i64) -> Option<Work> {
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
fn file_read<K: Kernel, A: Access>(kiocb: u64, result: i64) {
    if result > 0 {
        // SAFETY: a field of `kiocb`.
        taken::<K, A>(unsafe { A::word(kiocb + u64::from(number(Symbol::KiocbFile))) }, result);
    }
}

#[inline(always)]
fn taken<K: Kernel, A: Access>(file: u64, result: i64) {
    if result > 0
        && let Some(node) = node::<A>(file, true)
    {
        line::read::<K>(node, result as u64);
    }
}

/// Files between which the kernel moved bytes by itself.
#[inline(always)]
fn spliced<K: Kernel, A: Access>(from: Option<u64>, to: u64, result: i64) {
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
fn descriptor_moved<K: Kernel>(descriptor: u64, result: i64) {
    if result > 0
        && let Some(node) = K::Current::node(u64::from(descriptor as u32), false)
    {
        moved::<K>(node, result as u64);
    }
}

macro_rules! returns {
    ($($kernel:ident: $pipe:ident $tty:ident $pipe_read:ident $tty_read:ident $tty_read_4:ident $splice:ident $tee:ident $sendfile:ident $vmsplice:ident $socket:ident;)+) => {
        $(
            #[fexit]
            #[inline(always)]
            pub fn $pipe(ctx: FExitContext) -> i32 {
                let program = Program { ctx: &ctx, place: Place::Pipe, go_on: &GO_ON_FEXIT };
                program.run::<$kernel>(|| file_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
            }
            #[fexit]
            #[inline(always)]
            pub fn $tty(ctx: FExitContext) -> i32 {
                let program = Program { ctx: &ctx, place: Place::Terminal, go_on: &GO_ON_FEXIT };
                program.run::<$kernel>(|| file_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), ctx.arg(2)))
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
                let program = Program { ctx: &ctx, place: Place::Socket, go_on: &GO_ON_FEXIT };
                // An `int`: the upper half of the slot says nothing.
                let result = i64::from(ctx.arg::<u64>(3) as i32);
                program.run::<$kernel>(|| socket_written::<$kernel, Direct>(ctx.arg(0), ctx.arg(1), result))
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
    Looping: lw_pipe_fx lw_tty_fx lr_pipe_fx lr_tty_fx lr_tty4_fx lw_splice_fx lw_tee_fx lw_sendfile_fx lw_vmsplice_fx lw_sock_fx;
    Bounded: lw_pipe_fxb lw_tty_fxb lr_pipe_fxb lr_tty_fxb lr_tty4_fxb lw_splice_fxb lw_tee_fxb lw_sendfil_fxb lw_vmsplic_fxb lw_sock_fxb;
}

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
                let program = Program { ctx: &ctx, place: Place::Pipe, go_on: &GO_ON_KPROBE };
                program.run::<$kernel>(|| {
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
                let program = Program { ctx: &ctx, place: Place::Terminal, go_on: &GO_ON_KPROBE };
                program.run::<$kernel>(|| {
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
                let program = Program { ctx: &ctx, place: Place::Socket, go_on: &GO_ON_KPROBE };
                program.run::<$kernel>(|| {
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
