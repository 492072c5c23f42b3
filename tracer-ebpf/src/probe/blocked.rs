//! Uninterruptible sleep: when a task goes to sleep in it, and when it runs again.
//!
//! Kernel source: kernel/sched/core.c `trace_sched_switch` in `__schedule`, with `prev` as current. It is the hottest hook
//! there is: an ordinary switch costs a test of the state and one load from 16 KiB, by the next task's number or, where that
//! would have to be read by a helper, its address. Only the tasks put in are looked up. The wait for a processor after the
//! wake-up belongs to a sleep: until then it did nothing.
//!
//! With `preempt` the state says what the task was about to do, not that it sleeps. `prev_state` is an argument since 5.18
//! (fa2c3254d7cf): the task's own word may be another by then.

use aya_ebpf::{
    helpers::{bpf_get_current_task, bpf_ktime_get_ns},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{
    blocked::{
        BEFORE, Blocked, BlockedCount, DurationKey, FOUND, FROZEN, IN_IO, SLOTS, STEPS, WAKEKILL, bucket,
        is_blocked, place,
    },
    failure::Failure,
    offsets::{ABSENT, Symbol},
};

use crate::{
    access::{Access, Direct, Probed},
    atomic,
    emit::lose,
    globals::{has, number},
    maps::{BLOCKED, BLOCKED_SLOTS, BLOCKED_TIMES, DURATIONS, NO_DURATIONS},
    memcg::task_id,
};

/// `PF_FROZEN` of kernels whose freezer has no state of its own (up to 6.0, f5d39b020809): a macro, which BTF does not show.
const PF_FROZEN: u32 = 0x10000;
const FRESH: u64 = 1;

/// Of a classic record: `TASK_UNINTERRUPTIBLE` alone, which idle threads and preempted tasks do not show as.
const REPORTED: u64 = 2;

#[inline(always)]
fn at<A: Access>(task: u64, symbol: Symbol) -> u32 {
    // SAFETY: a field of `task_struct`; see `Access`.
    unsafe { A::half(task + u64::from(number(symbol))) }
}

#[inline(always)]
fn slot(place: u32) -> Option<*mut u32> {
    let slots = BLOCKED_SLOTS.get_ptr_mut(0)?;
    // SAFETY: the place is below SLOTS.
    Some(unsafe { slots.cast::<u32>().add(place as usize & (SLOTS - 1)) })
}

/// Whether any task of that place is in.
#[inline(always)]
fn any(place: u32) -> bool {
    // SAFETY: a valid map value. The task's own CPU counted it before it slept.
    slot(place).is_some_and(|slot| unsafe { slot.read_volatile() } != 0)
}

/// In both places of a task.
#[inline(always)]
fn add(tid: u32, place: u32, by: u32) {
    for place in [tid, place] {
        if let Some(slot) = slot(place) {
            // SAFETY: a valid map value.
            unsafe { atomic::add_half(slot, by) }
        }
    }
}

/// Puts a task in.
#[inline(always)]
fn put(tid: u32, blocked: &Blocked) {
    if BLOCKED.insert(tid, blocked, FRESH).is_ok() {
        return add(tid, blocked.place, 1);
    }
    let Some(before) = BLOCKED.get_ptr_mut(tid) else { return lose(Failure::BlockedFull) };
    // Its end was missed; the number may be another task's by now.
    // SAFETY: a valid map value.
    let place = unsafe { (*before).place };
    if BLOCKED.insert(tid, blocked, 0).is_ok() && place != blocked.place {
        add(tid, place, u32::MAX);
        add(tid, blocked.place, 1);
    }
}

#[inline(always)]
fn io(task: u64) -> u32 {
    if !has(Symbol::TaskInIowait) {
        return 0;
    }
    let bit = number(Symbol::TaskInIowait);
    // SAFETY: a probed read of the word that a bit field is in.
    let word = unsafe { Probed::half(task + u64::from(bit / 32 * 4)) };
    if word >> (bit % 32) & 1 != 0 { IN_IO } else { 0 }
}

#[inline(always)]
fn frozen(task: u64) -> u32 {
    if has(Symbol::TaskStateLong)
        && has(Symbol::TaskFlags)
        && at::<Probed>(task, Symbol::TaskFlags) & PF_FROZEN != 0
    {
        FROZEN
    } else {
        0
    }
}

#[inline(always)]
fn enter<A: Access>(task: u64, state: u32) {
    let blocked = Blocked {
        // SAFETY: the helper has no preconditions.
        since: unsafe { bpf_ktime_get_ns() },
        cgroup: task_id::<A>(task),
        tgid: at::<A>(task, Symbol::TaskTgid),
        state,
        flags: io(task) | frozen(task),
        owner: 0,
        // SAFETY: the helper has no preconditions. With a typed pointer to the same the verifier allows no arithmetic.
        place: place(unsafe { bpf_get_current_task() }),
        padding: 0,
    };
    put(at::<A>(task, Symbol::TaskPid), &blocked);
}

#[inline(always)]
fn leave(tid: u32) {
    // SAFETY: the value is copied at once.
    let Some(blocked) = unsafe { BLOCKED.get(tid) }.copied() else { return };
    if BLOCKED.remove(tid).is_ok() {
        add(tid, blocked.place, u32::MAX);
    }
    if blocked.flags & (BEFORE | FOUND | FROZEN) == 0 && blocked.cgroup != 0 {
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        count(&blocked, now - blocked.since);
    }
}

#[inline(always)]
fn count(blocked: &Blocked, time: u64) {
    let cgroup = blocked.cgroup;
    if BLOCKED_TIMES.get_ptr_mut(cgroup).is_none() {
        // BPF_NOEXIST: another task on this CPU may have made it meanwhile.
        let _ = BLOCKED_TIMES.insert(cgroup, BlockedCount::default(), FRESH);
    }
    let Some(counts) = BLOCKED_TIMES.get_ptr_mut(cgroup) else { return lose(Failure::CountersFull) };
    // SAFETY: this CPU's value; switches are not interrupted by others.
    unsafe {
        (*counts).count += 1;
        (*counts).time += time;
        if (*counts).max < time {
            (*counts).max = time;
        }
        if blocked.flags & IN_IO != 0 {
            (*counts).io_count += 1;
            (*counts).io_time += time;
        } else if blocked.state & WAKEKILL != 0 {
            (*counts).killable_count += 1;
            (*counts).killable_time += time;
        }
    }
    let (octave, mut step) = bucket(time / 1000);
    // SAFETY: no instruction. Hides what is known of the step, so that its bound is made where the verifier sees it.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) step) }
    let key = DurationKey { cgroup, octave, padding: 0 };
    let mut found = DURATIONS.get_ptr_mut(key);
    if found.is_none()
        && let Some(none) = NO_DURATIONS.get(0)
    {
        let _ = DURATIONS.insert(key, none, FRESH);
        found = DURATIONS.get_ptr_mut(key);
    }
    match found {
        // SAFETY: a valid map value; the step is below STEPS.
        Some(steps) => unsafe { atomic::add(steps.cast::<u64>().add(step as usize & (STEPS - 1)), 1) },
        None => lose(Failure::DurationsFull),
    }
}

/// Whether the tracepoint passes the state.
#[inline(always)]
fn passes_state() -> bool {
    number(Symbol::SwitchArgs) != ABSENT && number(Symbol::SwitchArgs) >= 4
}

#[btf_tracepoint(function = "sched_switch")]
pub fn blocked_btf(ctx: BtfTracePointContext) -> i32 {
    let prev: u64 = ctx.arg(1);
    let state: u64 =
        if passes_state() { ctx.arg(3) } else { u64::from(at::<Direct>(prev, Symbol::TaskState)) };
    let preempt: u64 = ctx.arg(0);
    if is_blocked(state as u32) && preempt as u8 == 0 {
        enter::<Direct>(prev, state as u32);
    }
    let next = at::<Direct>(ctx.arg(2), Symbol::TaskPid);
    if any(next) {
        leave(next);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn blocked_raw(ctx: RawTracePointContext) -> i32 {
    let prev: u64 = ctx.arg(1);
    let state: u64 =
        if passes_state() { ctx.arg(3) } else { u64::from(at::<Probed>(prev, Symbol::TaskState)) };
    let preempt: u64 = ctx.arg(0);
    if is_blocked(state as u32) && preempt as u8 == 0 {
        enter::<Probed>(prev, state as u32);
    }
    let next: u64 = ctx.arg(2);
    // Its number would have to be read by a helper.
    if any(place(next)) {
        leave(at::<Probed>(next, Symbol::TaskPid));
    }
    0
}

#[tracepoint]
pub fn blocked_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the tracepoint's own format.
    let (state, next) = unsafe {
        (
            ctx.read_at::<u64>(number(Symbol::TpSwitchState) as usize).unwrap_or(0),
            ctx.read_at::<u32>(number(Symbol::TpSwitchNext) as usize).unwrap_or(0),
        )
    };
    if state & 0xff == REPORTED {
        // SAFETY: the helper has no preconditions.
        let task = unsafe { bpf_get_current_task() };
        // What the record does not show, if it is still there.
        let full = at::<Probed>(task, Symbol::TaskState);
        enter::<Probed>(task, if is_blocked(full) { full } else { state as u32 });
    }
    if any(next) {
        leave(next);
    }
    0
}

/// Since when a task sleeps, as far as the kernel keeps it: when it last got a processor, by a clock of its own, which the
/// running task's number leads over to ours.
#[inline(always)]
fn before(task: u64) -> (u64, u32) {
    // SAFETY: the helpers have no preconditions.
    let (now, current) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_task()) };
    if !has(Symbol::TaskLastArrival) {
        return (now, FOUND);
    }
    let offset = u64::from(number(Symbol::TaskLastArrival));
    // SAFETY: probed reads.
    let (own, other) = unsafe { (Probed::word(current + offset), Probed::word(task + offset)) };
    if own <= other || other == 0 || own - other > now {
        return (now, FOUND);
    }
    (now - (own - other), BEFORE)
}

/// The task that has the lock which this one waits for, where the kernel keeps that (6.16, `DETECT_HUNG_TASK_BLOCKER`).
#[inline(always)]
fn owner(task: u64) -> u32 {
    if !has(Symbol::TaskBlocker) {
        return 0;
    }
    // SAFETY: probed reads, which fail on a bad address.
    unsafe {
        let blocker = Probed::word(task + u64::from(number(Symbol::TaskBlocker)));
        let lock = blocker & !3;
        if lock == 0 {
            return 0;
        }
        let owner = match blocker & 3 {
            0 => Probed::word(lock + u64::from(number(Symbol::MutexOwner))),
            1 => 0,
            _ => {
                let owner = Probed::word(lock + u64::from(number(Symbol::RwsemOwner)));
                // Had by readers: who is written there may have let go of it.
                if owner & 1 != 0 { 0 } else { owner }
            }
        } & !7;
        if owner == 0 { 0 } else { at::<Probed>(owner, Symbol::TaskPid) }
    }
}

/// Once for each task there is, and once more: those that were blocked before attach, and who has their locks.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn blocked_iter(ctx: *mut core::ffi::c_void) -> i32 {
    // SAFETY: `struct bpf_iter__task` is two pointers, of which the second is the task.
    let task = unsafe { ctx.cast::<u64>().add(1).read_volatile() };
    if task == 0 {
        return 0;
    }
    let state = at::<Probed>(task, Symbol::TaskState);
    if !is_blocked(state) {
        return 0;
    }
    let tid = at::<Probed>(task, Symbol::TaskPid);
    let owner = owner(task);
    if let Some(known) = BLOCKED.get_ptr_mut(tid) {
        // SAFETY: a valid map value.
        unsafe { (*known).owner = owner }
        return 0;
    }
    let (since, how) = before(task);
    let blocked = Blocked {
        since,
        cgroup: task_id::<Probed>(task),
        tgid: at::<Probed>(task, Symbol::TaskTgid),
        state,
        flags: io(task) | frozen(task) | how,
        owner,
        // A copy of the pointer: with itself the verifier allows no arithmetic.
        // SAFETY: it is on the stack.
        place: place(unsafe { Probed::word(core::ptr::addr_of!(task) as u64) }),
        padding: 0,
    };
    put(tid, &blocked);
    0
}
