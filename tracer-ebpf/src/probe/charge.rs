//! Pages charged to and uncharged from each memory cgroup.
//!
//! Kernel source: mm/page_counter.c `page_counter_{try_charge,charge,uncharge}` (once a batch of 32 or 64
//! pages and CPU; with them `memory.current` moves), mm/memcontrol.c `try_charge[_memcg]` and `uncharge_batch`
//! (once a page or folio), `trace_mod_memcg_{lruvec_,}state` (once a page; since 6.13).
//! Cost: batch hooks 4 probed reads for 64 pages; per-page hooks 65-190 ns a fault, hence on demand only.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, raw_tracepoint, tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RawTracePointContext,
        RetProbeContext, TracePointContext,
    },
};
use tracer_ebpf::abi::{failure::Failure, offsets::Symbol};

use crate::{
    access::{Access, Direct, Probed},
    emit::{count, lose},
    flight::{enter, leave},
    globals::{has, number},
    memcg::{memcg_id, memcg_of_counter},
};

#[inline(always)]
fn charged(id: u64, pages: u64) {
    if let Some(counts) = count(id) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).charged += pages }
    }
}

#[inline(always)]
fn uncharged(id: u64, pages: u64) {
    if let Some(counts) = count(id) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).uncharged += pages }
    }
}

// Once a batch: page counters. Only the counter that is charged is counted; its ancestors follow in the kernel.

#[inline(always)]
fn counter_charged(counter: u64, pages: u64) {
    let memcg = memcg_of_counter(counter);
    if memcg != 0 {
        charged(memcg_id::<Probed>(memcg), pages);
    }
}

#[inline(always)]
fn counter_uncharged(counter: u64, pages: u64) {
    let memcg = memcg_of_counter(counter);
    if memcg != 0 {
        uncharged(memcg_id::<Probed>(memcg), pages);
    }
}

/// `bool page_counter_try_charge(counter, nr_pages, fail)`: the slot after the last argument is the result.
#[fexit]
pub fn pc_try_fexit(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff != 0 {
        counter_charged(ctx.arg(0), ctx.arg(1));
    }
    0
}
/// `void page_counter_charge(counter, nr_pages)`: forced, past the limit.
#[fentry]
pub fn pc_charge_fentry(ctx: FEntryContext) -> i32 {
    counter_charged(ctx.arg(0), ctx.arg(1));
    0
}
/// `void page_counter_uncharge(counter, nr_pages)`
#[fentry]
pub fn pc_unch_fentry(ctx: FEntryContext) -> i32 {
    counter_uncharged(ctx.arg(0), ctx.arg(1));
    0
}

/// Every entry keeps something, so a return that finds nothing has lost a charge.
#[inline(always)]
fn left() -> Option<[u64; 3]> {
    let found = leave();
    if found.is_none() {
        lose(Failure::PairLost);
    }
    found
}

#[kprobe]
pub fn pc_try_kprobe(ctx: ProbeContext) -> u32 {
    enter([ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0), 0], Failure::PairLost);
    0
}
#[kretprobe]
pub fn pc_try_kret(ctx: RetProbeContext) -> u32 {
    if let Some([counter, pages, _]) = left()
        && ctx.ret::<u64>() & 0xff != 0
    {
        counter_charged(counter, pages);
    }
    0
}
#[kprobe]
pub fn pc_charge_kprobe(ctx: ProbeContext) -> u32 {
    counter_charged(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    0
}
#[kprobe]
pub fn pc_unch_kprobe(ctx: ProbeContext) -> u32 {
    counter_uncharged(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    0
}

// Once a page or folio: `try_charge[_memcg]` and `uncharge_batch`.

/// `int try_charge[_memcg](memcg, gfp_mask, nr_pages)`
#[fexit]
pub fn try_fexit(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) as i32 == 0 {
        charged(memcg_id::<Direct>(ctx.arg(0)), u64::from(ctx.arg::<u64>(2) as u32));
    }
    0
}
#[kprobe]
pub fn try_kprobe(ctx: ProbeContext) -> u32 {
    enter([ctx.arg(0).unwrap_or(0), u64::from(ctx.arg::<u64>(2).unwrap_or(0) as u32), 0], Failure::PairLost);
    0
}
#[kretprobe]
pub fn try_kret(ctx: RetProbeContext) -> u32 {
    if let Some([memcg, pages, _]) = left()
        && ctx.ret::<u64>() as i32 == 0
    {
        charged(memcg_id::<Probed>(memcg), pages);
    }
    0
}

/// `void uncharge_batch(const struct uncharge_gather *ug)`
#[inline(always)]
fn batch<A: Access>(gather: u64) -> i32 {
    // SAFETY: typed fields of the gather structure; see `Access`.
    let (memcg, pages) = unsafe {
        let memcg = if has(Symbol::UnchargeMemcg) {
            A::word(gather + u64::from(number(Symbol::UnchargeMemcg)))
        } else {
            let objcg = A::word(gather + u64::from(number(Symbol::UnchargeObjcg)));
            // Protected by RCU and not a trusted pointer to the verifier: probed.
            Probed::word(objcg + u64::from(number(Symbol::ObjcgMemcg)))
        };
        (memcg, A::word(gather + u64::from(number(Symbol::UnchargePages))))
    };
    if has(Symbol::UnchargeMemcg) {
        uncharged(memcg_id::<A>(memcg), pages);
    } else {
        uncharged(memcg_id::<Probed>(memcg), pages);
    }
    0
}
#[fentry]
pub fn unch_fentry(ctx: FEntryContext) -> i32 {
    batch::<Direct>(ctx.arg(0))
}
#[kprobe]
pub fn unch_kprobe(ctx: ProbeContext) -> u32 {
    batch::<Probed>(ctx.arg(0).unwrap_or(0)) as u32
}

/// `void obj_cgroup_uncharge_pages(objcg, nr_pages)`: kernel objects, whose pages no gather sees.
#[inline(always)]
fn object(objcg: u64, pages: u64) -> i32 {
    // SAFETY: a probed read; the object cgroup is referenced by its caller.
    let memcg = unsafe { Probed::word(objcg + u64::from(number(Symbol::ObjcgMemcg))) };
    if memcg != 0 {
        uncharged(memcg_id::<Probed>(memcg), u64::from(pages as u32));
    }
    0
}
#[fentry]
pub fn objcg_fentry(ctx: FEntryContext) -> i32 {
    object(ctx.arg(0), ctx.arg(1))
}
#[kprobe]
pub fn objcg_kprobe(ctx: ProbeContext) -> u32 {
    object(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0)) as u32
}

// Once a page: statistics. Of the items only those that are exact in pages: anonymous, page cache, and (by
// `mod_memcg_state`) kernel and socket pages.

#[inline(always)]
pub(super) fn lruvec_item(item: u32) -> bool {
    item == number(Symbol::NrAnonMapped) || item == number(Symbol::NrFilePages)
}

#[inline(always)]
pub(super) fn state_item(item: u32) -> bool {
    item == number(Symbol::MemcgKmem) || item == number(Symbol::MemcgSock)
}

#[inline(always)]
fn moved(id: u64, pages: i32) {
    if pages > 0 {
        charged(id, pages as u64);
    } else if pages < 0 {
        uncharged(id, u64::from(pages.unsigned_abs()));
    }
}

/// `(memcg, int item, int|long val)`: page deltas fit an `int` on every kernel.
#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn lruvec_btf(ctx: BtfTracePointContext) -> i32 {
    if lruvec_item(ctx.arg::<u64>(1) as u32) {
        moved(memcg_id::<Direct>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[btf_tracepoint(function = "mod_memcg_state")]
pub fn state_btf(ctx: BtfTracePointContext) -> i32 {
    if state_item(ctx.arg::<u64>(1) as u32) {
        moved(memcg_id::<Direct>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[raw_tracepoint(tracepoint = "mod_memcg_lruvec_state")]
pub fn lruvec_raw(ctx: RawTracePointContext) -> i32 {
    if lruvec_item(ctx.arg::<u64>(1) as u32) {
        moved(memcg_id::<Probed>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[raw_tracepoint(tracepoint = "mod_memcg_state")]
pub fn state_raw(ctx: RawTracePointContext) -> i32 {
    if state_item(ctx.arg::<u64>(1) as u32) {
        moved(memcg_id::<Probed>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}

/// (memory cgroup, pages) of a record whose item is wanted.
#[inline(always)]
fn record(
    ctx: &TracePointContext,
    item: Symbol,
    id: Symbol,
    val: Symbol,
    wanted: fn(u32) -> bool,
) -> Option<(u64, i32)> {
    // Read through the helper: the verifier allows only literal offsets on the record itself.
    // SAFETY: the offsets come from the tracepoint's own format.
    unsafe {
        if !ctx.read_at(number(item) as usize).is_ok_and(wanted) {
            return None;
        }
        Some((ctx.read_at(number(id) as usize).ok()?, ctx.read_at(number(val) as usize).ok()?))
    }
}
/// Of `mod_memcg_lruvec_state`.
#[inline(always)]
pub(super) fn lruvec_record(ctx: &TracePointContext) -> Option<(u64, i32)> {
    record(ctx, Symbol::TpLruvecItem, Symbol::TpLruvecId, Symbol::TpLruvecVal, lruvec_item)
}
/// Of `mod_memcg_state`.
#[inline(always)]
pub(super) fn state_record(ctx: &TracePointContext) -> Option<(u64, i32)> {
    record(ctx, Symbol::TpStateItem, Symbol::TpStateId, Symbol::TpStateVal, state_item)
}
#[tracepoint]
pub fn lruvec_tp(ctx: TracePointContext) -> u32 {
    if let Some((id, pages)) = lruvec_record(&ctx) {
        moved(id, pages);
    }
    0
}
#[tracepoint]
pub fn state_tp(ctx: TracePointContext) -> u32 {
    if let Some((id, pages)) = state_record(&ctx) {
        moved(id, pages);
    }
    0
}
