//! Direct reclaim: how often and for how long the tasks of a memory cgroup look for pages themselves, instead of doing
//! what they are for.
//!
//! Kernel source: mm/vmscan.c `trace_mm_vmscan_{direct,memcg,memcg_softlimit}_reclaim_{begin,end}`, in the task that
//! waits. One kind may lie in another (a soft limit's in direct reclaim): the outermost counts. Whose memory is looked
//! through is not asked: held up is the task's own cgroup. Cost: two map updates a pass, which takes ten times as long.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{failure::Failure, offsets::Symbol, oom::ReclaimCount};

use crate::{
    emit::lose,
    file::Untyped,
    globals::number,
    maps::{RECLAIMING, RECLAIMS},
    memcg::current_id,
};

const DIRECT: u64 = 1;
const MEMCG: u64 = 2;
const SOFT: u64 = 3;

/// A pass that began so long ago, ns, has lost its end.
const LOST: u64 = 120_000_000_000;

#[inline(always)]
fn begin(kind: u64) -> i32 {
    let task = bpf_get_current_pid_tgid();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(outer) = RECLAIMING.get_ptr_mut(task) {
        // SAFETY: a valid map value, which only this task uses.
        let [since, of] = unsafe { *outer };
        if of != kind && now - since < LOST {
            return 0;
        }
        lose(Failure::ReclaimLost);
    }
    if RECLAIMING.insert(task, [now, kind], 0).is_err() {
        lose(Failure::ReclaimLost);
    }
    0
}

/// One that began before attach has no beginning, and is none that was missed.
#[inline(always)]
fn end(kind: u64, pages: u64) -> i32 {
    let task = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once; only this task removes it.
    let Some([since, of]) = unsafe { RECLAIMING.get(task) }.copied() else { return 0 };
    if of != kind {
        return 0;
    }
    let _ = RECLAIMING.remove(task);
    let id = current_id::<Untyped>();
    if id == 0 {
        return 0;
    }
    if RECLAIMS.get_ptr_mut(id).is_none() {
        // BPF_NOEXIST: another task on this CPU may have made it meanwhile.
        let _ = RECLAIMS.insert(id, ReclaimCount { passes: 0, time: 0, pages: 0 }, 1);
    }
    let Some(counts) = RECLAIMS.get_ptr_mut(id) else {
        lose(Failure::CountersFull);
        return 0;
    };
    // SAFETY: the helper has no preconditions; the value is this CPU's.
    unsafe {
        (*counts).passes += 1;
        (*counts).time += bpf_ktime_get_ns() - since;
        (*counts).pages += pages;
    }
    0
}

#[inline(always)]
fn reclaimed(ctx: &TracePointContext) -> u64 {
    // The three ends are of one event class, which has one format.
    // SAFETY: the offset comes from the tracepoint's own format.
    unsafe { ctx.read_at(number(Symbol::TpReclaimed) as usize) }.unwrap_or(0)
}

macro_rules! entries {
    ($($kind:ident $begin:literal $end:literal: $bb:ident $eb:ident $br:ident $er:ident $bt:ident $et:ident;)+) => {
        $(
            #[btf_tracepoint(function = $begin)]
            pub fn $bb(_: BtfTracePointContext) -> i32 { begin($kind) }
            #[btf_tracepoint(function = $end)]
            pub fn $eb(ctx: BtfTracePointContext) -> i32 { end($kind, ctx.arg(0)) }
            #[raw_tracepoint(tracepoint = $begin)]
            pub fn $br(_: RawTracePointContext) -> i32 { begin($kind) }
            #[raw_tracepoint(tracepoint = $end)]
            pub fn $er(ctx: RawTracePointContext) -> i32 { end($kind, ctx.arg(0)) }
            #[tracepoint]
            pub fn $bt(_: TracePointContext) -> u32 { begin($kind) as u32 }
            #[tracepoint]
            pub fn $et(ctx: TracePointContext) -> u32 { end($kind, reclaimed(&ctx)) as u32 }
        )+
    };
}

entries! {
    DIRECT "mm_vmscan_direct_reclaim_begin" "mm_vmscan_direct_reclaim_end":
        rc_direct_b_btf rc_direct_e_btf rc_direct_b_raw rc_direct_e_raw rc_direct_b_tp rc_direct_e_tp;
    MEMCG "mm_vmscan_memcg_reclaim_begin" "mm_vmscan_memcg_reclaim_end":
        rc_memcg_b_btf rc_memcg_e_btf rc_memcg_b_raw rc_memcg_e_raw rc_memcg_b_tp rc_memcg_e_tp;
    SOFT "mm_vmscan_memcg_softlimit_reclaim_begin" "mm_vmscan_memcg_softlimit_reclaim_end":
        rc_soft_b_btf rc_soft_e_btf rc_soft_b_raw rc_soft_e_raw rc_soft_b_tp rc_soft_e_tp;
}
