//! Pages of files whose write-back ended, and dirty ones that were dropped unwritten, by memory cgroup.
//!
//! Kernel source: mm/page-writeback.c `__folio_end_writeback` (`test_clear_page_writeback` up to 5.15) and
//! `folio_account_cleaned` (`account_page_cleaned`), called by truncation; else the statistics that they keep,
//! `trace_mod_memcg_lruvec_state` (once a page or folio; since 6.13), which have no folio: swapped pages count there, too.
//! A folio that becomes dirty again while it is written is counted by both probes once more, each time it is written.
//! Cost: a few loads a folio written; by statistics 65 ns for each of the three or four of a page fault.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, kprobe, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::offsets::Symbol;

use super::dirty::counts;
use crate::{
    access::{Access, Direct, Probed},
    folio,
    globals::number,
    memcg::memcg_id,
};

/// The count to add to of a file's folio, and its pages. In an interrupt: the current task says nothing.
#[inline(always)]
fn ended<A: Access>(folio: u64) {
    let memcg = folio::memcg::<A>(folio);
    if memcg == 0 || !folio::is_file(folio) {
        return;
    }
    if let Some(counts) = counts(memcg_id::<Probed>(memcg)) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).written += folio::pages::<A>(folio) }
    }
}

#[inline(always)]
fn cleaned<A: Access>(folio: u64) {
    let memcg = folio::memcg::<A>(folio);
    if memcg == 0 {
        return;
    }
    if let Some(counts) = counts(memcg_id::<Probed>(memcg)) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).cleaned += folio::pages::<A>(folio) }
    }
}

/// `bool __folio_end_writeback(folio)`, `int test_clear_page_writeback(page)`
#[fentry]
pub fn wb_end_fentry(ctx: FEntryContext) -> i32 {
    ended::<Direct>(ctx.arg(0));
    0
}
#[kprobe]
pub fn wb_end_kprobe(ctx: ProbeContext) -> u32 {
    ended::<Probed>(ctx.arg(0).unwrap_or(0));
    0
}
/// `void folio_account_cleaned(folio, wb)`, `void account_page_cleaned(page, mapping, wb)`
#[fentry]
pub fn wb_clean_fentry(ctx: FEntryContext) -> i32 {
    cleaned::<Direct>(ctx.arg(0));
    0
}
#[kprobe]
pub fn wb_clean_kprobe(ctx: ProbeContext) -> u32 {
    cleaned::<Probed>(ctx.arg(0).unwrap_or(0));
    0
}

#[inline(always)]
fn item_is_ours(item: u32) -> bool {
    item == number(Symbol::NrFileDirty) || item == number(Symbol::NrWriteback)
}

/// A statistic moved by so many pages.
#[inline(always)]
fn moved(id: u64, item: u32, pages: i32) {
    let Some(counts) = counts(id) else { return };
    let amount = u64::from(pages.unsigned_abs());
    // SAFETY: this CPU's value.
    unsafe {
        if item == number(Symbol::NrFileDirty) {
            if pages < 0 {
                (*counts).undirtied += amount;
            }
        } else if pages < 0 {
            (*counts).written += amount;
        } else {
            (*counts).started += amount;
        }
    }
}

/// `(memcg, int item, int|long val)`: page deltas fit an `int` on every kernel.
#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn wb_stat_btf(ctx: BtfTracePointContext) -> i32 {
    let item = ctx.arg::<u64>(1) as u32;
    if item_is_ours(item) {
        moved(memcg_id::<Direct>(ctx.arg(0)), item, ctx.arg::<u64>(2) as i32);
    }
    0
}
#[raw_tracepoint(tracepoint = "mod_memcg_lruvec_state")]
pub fn wb_stat_raw(ctx: RawTracePointContext) -> i32 {
    let item = ctx.arg::<u64>(1) as u32;
    if item_is_ours(item) {
        moved(memcg_id::<Probed>(ctx.arg(0)), item, ctx.arg::<u64>(2) as i32);
    }
    0
}
#[tracepoint]
pub fn wb_stat_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the tracepoint's own format.
    let record = unsafe {
        let Ok(item) = ctx.read_at::<u32>(number(Symbol::TpLruvecItem) as usize) else { return 0 };
        if !item_is_ours(item) {
            return 0;
        }
        (
            ctx.read_at(number(Symbol::TpLruvecId) as usize),
            item,
            ctx.read_at(number(Symbol::TpLruvecVal) as usize),
        )
    };
    if let (Ok(id), item, Ok(pages)) = record {
        moved(id, item, pages);
    }
    0
}
