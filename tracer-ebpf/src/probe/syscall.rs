//! System calls of chosen memory cgroups: how many, how many failed and why, how long they took.
//!
//! Kernel source: `trace_sys_enter` and `trace_sys_exit` (kernel/entry/, arch/x86/entry/). A call counts when it returns:
//! `exit` and `exit_group` never do, and a child's first return, of the `fork` that its parent made, has no beginning.
//! A call that is restarted counts each time it is entered, as strace has it. At its exit nothing is asked of registers,
//! which `execve` and `rt_sigreturn` have changed by then: what was found out at the entry is kept.
//! Cost: see docs/benchmarks.md; a task that is not wanted pays for the look at its cgroup, and for one at `CALL_STARTS`.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{
    call::{Block, Entry, Key, STARTS, Start, Table, WAYS, bucket, code, target_place},
    failure::Failure,
    offsets::Symbol,
    setting::Call,
};

use crate::{
    access::Access,
    emit::lose,
    file::{Current, Typed, Untyped},
    globals::{call_room, every_caller, has, number, syscall},
    maps::{CALL_STARTS, CALL_TARGETS, CALL_TIMES, CALLS},
    memcg::task_id,
};

/// `TS_COMPAT`, arch/x86/include/asm/thread_info.h: the number is one of the 32-bit table.
const COMPAT: u32 = 2;
/// `__X32_SYSCALL_BIT`, which belongs to the system's interface. No table has so many calls.
const X32: u32 = 0x4000_0000;
/// Results that are errors, negated.
const ERRORS: core::ops::RangeInclusive<i64> = 1..=4095;

#[inline(always)]
fn wanted(cgroup: u64) -> bool {
    if every_caller() {
        return cgroup != 0;
    }
    let Some(targets) = CALL_TARGETS.get(target_place(cgroup)) else { return false };
    // All eight in one line of cache, without a branch for each.
    let mut found = false;
    let mut at = 0;
    while at < targets.len() {
        found |= targets[at] == cgroup;
        at += 1;
    }
    found && cgroup != 0
}

/// Both places that a task's call may be kept in.
#[inline(always)]
fn places(tid: u32) -> [u32; 2] {
    [tid & (STARTS - 1), tid.wrapping_mul(0x9e37_79b1) >> 17 & (STARTS - 1)]
}

#[inline(always)]
fn entered<C: Current>(call: u32) {
    let task = C::task();
    let cgroup = task_id::<C::Access>(task);
    if !wanted(cgroup) {
        return;
    }
    // SAFETY: a field of `task_struct`.
    let compat = has(Symbol::TaskThreadStatus)
        && unsafe { C::Access::half(task + u64::from(number(Symbol::TaskThreadStatus))) } & COMPAT != 0;
    let is = |one| call == syscall(one);
    let call = if compat {
        if is(Call::CompatExit) || is(Call::CompatExitGroup) {
            return;
        }
        code(Table::Compat, call)
    } else {
        let (table, number) = if call & X32 != 0 { (Table::X32, call & !X32) } else { (Table::Native, call) };
        if number == syscall(Call::Exit) || number == syscall(Call::ExitGroup) {
            return;
        }
        code(table, number)
    };
    let tid = bpf_get_current_pid_tgid() as u32;
    for place in places(tid) {
        let Some(start) = CALL_STARTS.get_ptr_mut(place) else { return };
        // SAFETY: a valid map value; this task's own while it bears its id.
        unsafe {
            if (*start).tid == 0 || (*start).tid == tid {
                (*start).tid = tid;
                (*start).call = call;
                (*start).cgroup = cgroup;
                (*start).at = bpf_ktime_get_ns();
                return;
            }
        }
    }
    lose(Failure::CallsCrossed);
}

#[inline(always)]
fn exited(result: i64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let [first, second] = places(tid);
    let Some(mut start) = CALL_STARTS.get_ptr_mut(first) else { return };
    // SAFETY: valid map values, this task's own while they bear its id.
    let Start { at, cgroup, call, .. } = unsafe {
        if (*start).tid != tid {
            let Some(other) = CALL_STARTS.get_ptr_mut(second) else { return };
            if (*other).tid != tid {
                return;
            }
            start = other;
        }
        let began = *start;
        (*start).tid = 0;
        began
    };
    // SAFETY: the helper has no preconditions.
    let took = unsafe { bpf_ktime_get_ns() } - at;
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(entry) = entry(cpu, Key { cgroup, call: u64::from(call) }) else {
        return lose(Failure::CallsFull);
    };
    // SAFETY: a value of this CPU's, which no other program changes.
    unsafe {
        (*entry).count += 1;
        (*entry).total += took;
        if (*entry).max < took {
            (*entry).max = took;
        }
    }
    match times(cpu, entry, took, call ^ cgroup as u32) {
        // SAFETY: likewise.
        Some(count) => unsafe { *count += 1 },
        None => lose(Failure::CallTimesFull),
    }
    if ERRORS.contains(&-result) {
        let errno = (-result) as u64;
        match self::entry(cpu, Key { cgroup, call: errno << 32 | u64::from(call) }) {
            // SAFETY: likewise.
            Some(entry) => unsafe { (*entry).count += 1 },
            None => lose(Failure::CallsFull),
        }
    }
}

/// The entry of a key on this CPU; the first of its kind takes a free one.
#[inline(always)]
fn entry(cpu: u32, key: Key) -> Option<*mut Entry> {
    let [buckets, _] = call_room();
    let mixed =
        (key.cgroup ^ key.call.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let place = (mixed >> 40) as u32;
    // Two buckets, so that one that is full does not matter before both are.
    for place in [place, place ^ 1] {
        let bucket = CALLS.get_ptr_mut(cpu * buckets + (place & (buckets - 1)))?;
        // SAFETY: a valid map value of this CPU's; user space frees only what belongs to cgroups that are gone.
        unsafe {
            let keys = &raw mut (*bucket).keys;
            for way in 0..WAYS {
                if (*keys)[way].cgroup == key.cgroup && (*keys)[way].call == key.call {
                    return Some(&raw mut (*bucket).entries[way]);
                }
            }
            for way in 0..WAYS {
                if (*keys)[way].cgroup == 0 {
                    // The reader takes it for a key once the cgroup is there.
                    (&raw mut (*keys)[way].call).write_volatile(key.call);
                    (&raw mut (*keys)[way].cgroup).write_volatile(key.cgroup);
                    return Some(&raw mut (*bucket).entries[way]);
                }
            }
        }
    }
    None
}

/// Where a duration is counted.
#[inline(always)]
fn times(cpu: u32, entry: *mut Entry, took: u64, seed: u32) -> Option<*mut u64> {
    let [_, blocks] = call_room();
    let (group, slot) = bucket(took);
    let (mut group, mut slot) = (u64::from(group), u64::from(slot));
    // Masks by hand: the compiler leaves out what it knows to change nothing, and the verifier of 5.10 does not know it.
    // SAFETY: two instructions on registers.
    unsafe { core::arch::asm!("{0} &= 63", "{1} &= 31", inout(reg) group, inout(reg) slot) }
    // SAFETY: a valid map value of this CPU's; the index is masked.
    let known = unsafe { (&raw mut (*entry).blocks).cast::<u16>().add(group as usize) };
    // SAFETY: likewise.
    let number = u32::from(unsafe { *known });
    let block = if number != 0 {
        CALL_TIMES.get_ptr_mut(cpu * blocks + number - 1)?
    } else {
        // SAFETY: likewise.
        unsafe { free(cpu, blocks, (seed + group as u32 * 77_777).wrapping_mul(0x9e37_79b1) >> 12, known)? }
    };
    // SAFETY: likewise.
    Some(unsafe { (&raw mut (*block).counts).cast::<u64>().add(slot as usize) })
}

/// Blocks looked at for a free one.
const TRIES: u32 = 16;

/// # Safety
/// `known` must point into a map value of this CPU's.
#[inline(always)]
unsafe fn free(cpu: u32, blocks: u32, from: u32, known: *mut u16) -> Option<*mut Block> {
    for nth in 0..TRIES {
        let place = from.wrapping_add(nth) & (blocks - 1);
        let block = CALL_TIMES.get_ptr_mut(cpu * blocks + place)?;
        // SAFETY: a valid map value of this CPU's.
        unsafe {
            if (*block).taken == 0 {
                (*block).taken = 1;
                *known = place as u16 + 1;
                return Some(block);
            }
        }
    }
    None
}

/// Only where the helper is there is the task had as a typed pointer.
#[inline(always)]
fn enter(call: u64) -> i32 {
    if has(Symbol::HelperTaskBtf) {
        entered::<Typed>(call as u32)
    } else {
        entered::<Untyped>(call as u32)
    }
    0
}

#[inline(always)]
fn exit(result: i64) -> i32 {
    exited(result);
    0
}

/// `(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
pub fn call_enter_btf(ctx: BtfTracePointContext) -> i32 {
    enter(ctx.arg(1))
}

/// `(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn call_exit_btf(ctx: BtfTracePointContext) -> i32 {
    exit(ctx.arg(1))
}

#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn call_enter_raw(ctx: RawTracePointContext) -> i32 {
    enter(ctx.arg(1))
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn call_exit_raw(ctx: RawTracePointContext) -> i32 {
    exit(ctx.arg(1))
}

#[tracepoint]
pub fn call_enter_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's own format.
    let call = unsafe { ctx.read_at::<i64>(number(Symbol::TpSysEnterId) as usize) };
    call.map_or(0, |call| enter(call as u64) as u32)
}

#[tracepoint]
pub fn call_exit_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's own format.
    let result = unsafe { ctx.read_at::<i64>(number(Symbol::TpSysExitRet) as usize) };
    result.map_or(0, |result| exit(result) as u32)
}
