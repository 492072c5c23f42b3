//! Signals that end a process, SIGKILL and SIGTERM: who sends how many to whom, whatever becomes of them.
//!
//! Kernel source: kernel/signal.c `__send_signal_locked` (`__send_signal` up to 5.18), at whose end stands
//! `trace_signal_generate`: also of a signal that is ignored because the group dies anyway, or pending already, as are all
//! retries against a task that cannot die. `current` is the sender. Rare, hence by probed reads; a sender that lives for
//! milliseconds is known by its ancestors, which are looked up at its first signal.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_boot_ns,
        generated::bpf_probe_read_kernel,
    },
    macros::{btf_tracepoint, fentry, kprobe, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{
    failure::Failure,
    offsets::Symbol,
    signal::{CHAIN, KERNEL, SignalCount, SignalKey},
};

use crate::{
    access::Probed,
    atomic,
    emit::lose,
    globals::{has, number},
    maps::{SIGNAL_NEW, SIGNALS},
    memcg::task_id,
};

// Of the kernel's interface to programs, the same everywhere.
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
const SI_KERNEL: u32 = 0x80;
/// `SEND_SIG_PRIV`, in the place of a pointer.
const PRIVATE: u64 = 1;

/// `BPF_NOEXIST`: another CPU may have made the entry meanwhile, and its count must stay.
const NOT_THERE: u64 = 1;

/// Reads without a branch, so that the verifier has one way through all of them; a bad address leaves zeros.
#[inline(always)]
fn read<T: Default>(base: u64, symbol: Symbol) -> T {
    let mut value = T::default();
    let from = (base + u64::from(number(symbol))) as *const c_void;
    // SAFETY: a probed read of as many bytes as the value has.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from) };
    value
}

/// When a task began, where the kernel tells.
#[inline(always)]
fn start(task: u64) -> u64 {
    if has(Symbol::TaskStart) { read(task, Symbol::TaskStart) } else { 0 }
}

/// Puts down the current process and those above it. Above all of them is the idle task, its own parent, with number 0.
///
/// # Safety
/// `new` must be a valid map value that is this program's alone.
#[inline(always)]
unsafe fn chain(new: *mut SignalCount) {
    // SAFETY: the helper has no preconditions.
    let mut task = unsafe { bpf_get_current_task() };
    // Written out: the verifier would follow each turn of a loop by itself.
    macro_rules! kin {
        ($($at:literal)+) => {
            $(
                let leader: u64 = read(task, Symbol::TaskGroupLeader);
                // SAFETY: places in the map value; the helper writes as many bytes as the name has.
                unsafe {
                    let place = &raw mut (*new).chain[$at];
                    (*place).start = start(leader);
                    (*place).pid = read(leader, Symbol::TaskTgid);
                    let comm = leader + u64::from(number(Symbol::TaskComm));
                    bpf_probe_read_kernel((&raw mut (*place).comm).cast(), 16, comm as *const c_void);
                }
                task = read(leader, Symbol::TaskRealParent);
            )+
        };
    }
    kin!(0 1 2 3 4 5);
    const { assert!(CHAIN == 6) };
    let _ = task;
}

#[inline(always)]
fn count(key: SignalKey, cgroup: u64) -> i32 {
    if let Some(found) = SIGNALS.get_ptr_mut(key) {
        // SAFETY: a valid map value, shared between CPUs: added to atomically.
        unsafe { atomic::add(&raw mut (*found).count, 1) }
        return 0;
    }
    let Some(new) = SIGNAL_NEW.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's value: signals are generated with interrupts off. The entry is a copy of it.
    unsafe {
        (*new).count = 0;
        (*new).cgroup = cgroup;
        (*new).first = bpf_ktime_get_boot_ns();
        chain(new);
        let new: &SignalCount = &*new;
        let _ = SIGNALS.insert(key, new, NOT_THERE);
    }
    match SIGNALS.get_ptr_mut(key) {
        // SAFETY: as above.
        Some(found) => unsafe { atomic::add(&raw mut (*found).count, 1) },
        None => lose(Failure::SignalsFull),
    }
    0
}

#[inline(always)]
fn sender(by_kernel: bool) -> u32 {
    if by_kernel { KERNEL } else { (bpf_get_current_pid_tgid() >> 32) as u32 }
}

#[inline(always)]
fn generated(signal: u32, info: u64, task: u64) -> i32 {
    if signal != SIGKILL && signal != SIGTERM {
        return 0;
    }
    // A pointer, or a small number in its place.
    let by_kernel =
        info == PRIVATE || (info > PRIVATE && read::<u32>(info, Symbol::SiginfoCode) == SI_KERNEL);
    let leader: u64 = read(task, Symbol::TaskGroupLeader);
    let key = SignalKey {
        target_start: start(leader),
        target: read(task, Symbol::TaskTgid),
        of_thread: 0,
        sender: sender(by_kernel),
        signal,
    };
    count(key, task_id::<Probed>(task))
}

// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_btf(ctx: BtfTracePointContext) -> i32 {
    generated(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_raw(ctx: RawTracePointContext) -> i32 {
    generated(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}
// `__send_signal_locked(int sig, struct kernel_siginfo *info, struct task_struct *t, enum pid_type type, bool force)`
#[fentry]
pub fn signal_fentry(ctx: FEntryContext) -> i32 {
    generated(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}
#[kprobe]
pub fn signal_kprobe(ctx: ProbeContext) -> u32 {
    let (Some(signal), Some(info), Some(task)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) else { return 0 };
    generated(signal, info, task) as u32
}

/// The record has the target's thread only: user space asks /proc for its group.
#[tracepoint]
pub fn signal_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the tracepoint's own format.
    let field = |symbol| unsafe { ctx.read_at::<u32>(number(symbol) as usize) }.unwrap_or(0);
    let signal = field(Symbol::TpSignal);
    if signal != SIGKILL && signal != SIGTERM {
        return 0;
    }
    let key = SignalKey {
        target_start: 0,
        target: field(Symbol::TpSignalPid),
        of_thread: 1,
        sender: sender(field(Symbol::TpSignalCode) == SI_KERNEL),
        signal,
    };
    count(key, 0) as u32
}
