//! Pages of files that become dirty, by the memory cgroup that they are charged to, process and file.
//!
//! Kernel source: mm/page-writeback.c `folio_account_dirtied` (`account_page_dirtied` up to 5.15), which has the tracepoint
//! `writeback_dirty_folio` (`_page` up to 5.17): once a folio, when it was clean before. tmpfs does not come by.
//! Cost: one look-up, and no probed read where the pages are charged to the writer's own cgroup; 150 ns a folio on 6.18, the clock of the
//! statistics included; 500 for the first of a file.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, fentry, kprobe, raw_tracepoint, tracepoint},
    maps::HashMap,
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{
    dirty::{DirtyCount, FileCount, FileKey, NO_DEVICE},
    failure::Failure,
    offsets::Symbol,
};

use super::charge_site::comm;
use crate::{
    access::{Access, Direct, Probed},
    atomic,
    emit::lose,
    file::{Typed, Untyped},
    folio,
    globals::{has, number},
    maps::{DIRTY_BEYOND, DIRTY_CGROUPS, DIRTY_FILES, DIRTY_NEW},
    memcg::{current_id, id_by_current, memcg_id},
};

/// `BPF_NOEXIST`: another CPU may have made the entry meanwhile, and its counts must stay.
const NOT_THERE: u64 = 1;
/// `BPF_RB_NO_WAKEUP`: user space looks by itself.
const WAKE_NOBODY: u64 = 1;

/// This CPU's counts of the memory cgroup `id`.
#[inline(always)]
pub(super) fn counts(id: u64) -> Option<*mut DirtyCount> {
    if id == 0 {
        return None;
    }
    if let Some(found) = DIRTY_CGROUPS.get_ptr_mut(id) {
        return Some(found);
    }
    let zero = DirtyCount { beyond: 0, written: 0, started: 0, undirtied: 0, cleaned: 0, throttled_ms: 0 };
    let _ = DIRTY_CGROUPS.insert(id, zero, NOT_THERE);
    let found = DIRTY_CGROUPS.get_ptr_mut(id);
    if found.is_none() {
        lose(Failure::DirtyLost);
    }
    found
}

/// A map's count of `key`, made if need be; and whether it was.
#[inline(always)]
fn entry(map: &HashMap<FileKey, FileCount>, key: &FileKey) -> (Option<*mut FileCount>, bool) {
    let found = map.get_ptr_mut(key);
    if found.is_some() {
        return (found, false);
    }
    let first = FileCount { pages: 0, comm: comm() };
    let _ = map.insert(key, first, NOT_THERE);
    (map.get_ptr_mut(key), true)
}

/// So many pages of that file became dirty.
#[inline(always)]
fn add(key: FileKey, pages: u64) {
    let (found, new) = entry(&DIRTY_FILES, &key);
    if let Some(count) = found {
        if new {
            let _ = DIRTY_NEW.output::<FileKey>(&key, WAKE_NOBODY);
        }
        // SAFETY: a valid map value, shared between CPUs: added to atomically.
        unsafe { atomic::add(&raw mut (*count).pages, pages) }
        return;
    }
    lose(Failure::DirtyFilesFull);
    let (found, _) = entry(&DIRTY_BEYOND, &FileKey { ino: 0, dev: NO_DEVICE, ..key });
    if let Some(count) = found {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*count).pages, pages) }
    } else if let Some(counts) = counts(key.cgroup) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).beyond += pages }
    }
}

#[inline(always)]
fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// `mapping` must have been compared with null by the caller, in the very form that is passed.
#[inline(always)]
fn dirtied<A: Access>(folio: u64, mapping: u64, id_of: fn(u64) -> u64) {
    let memcg = folio::memcg::<A>(folio);
    if memcg == 0 {
        return;
    }
    let (dev, ino) = folio::file::<A>(mapping);
    add(FileKey { cgroup: id_of(memcg), ino, pid: process(), dev }, folio::pages::<A>(folio));
}

/// By a typed pointer to the current task where there is a helper for it: the folio's is mostly the task's own.
#[inline(always)]
fn id_typed(memcg: u64) -> u64 {
    if has(Symbol::HelperTaskBtf) { id_by_current::<Typed>(memcg) } else { memcg_id::<Probed>(memcg) }
}

/// `(struct folio *, struct address_space *)`, a `struct page *` up to 5.17.
#[btf_tracepoint(function = "writeback_dirty_folio")]
pub fn dirty_btf(ctx: BtfTracePointContext) -> i32 {
    let mapping: u64 = ctx.arg(1);
    // Since 6.12 the verifier wants to see this before anything is added to it.
    if mapping != 0 {
        dirtied::<Direct>(ctx.arg(0), mapping, id_typed);
    }
    0
}
#[raw_tracepoint(tracepoint = "writeback_dirty_folio")]
pub fn dirty_raw(ctx: RawTracePointContext) -> i32 {
    let mapping: u64 = ctx.arg(1);
    if mapping != 0 {
        dirtied::<Probed>(ctx.arg(0), mapping, memcg_id::<Probed>);
    }
    0
}

/// `void __folio_mark_dirty(folio, mapping, int warn)`, `void account_page_dirtied(page, mapping)`: nothing is accounted of
/// a folio that was truncated meanwhile.
#[fentry]
pub fn dirty_fentry(ctx: FEntryContext) -> i32 {
    let mapping: u64 = ctx.arg(1);
    if mapping != 0 && folio::is_file(ctx.arg(0)) {
        dirtied::<Direct>(ctx.arg(0), mapping, id_typed);
    }
    0
}
#[kprobe]
pub fn dirty_kprobe(ctx: ProbeContext) -> u32 {
    let (folio, mapping) = (ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    if mapping != 0 && folio::is_file(folio) {
        dirtied::<Probed>(folio, mapping, memcg_id::<Probed>);
    }
    0
}

/// The record has neither the folio nor the file system: whoever writes is taken to be charged, for one page.
#[tracepoint]
pub fn dirty_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's own format.
    if let Ok(ino) = unsafe { ctx.read_at(number(Symbol::TpDirtyIno) as usize) } {
        add(FileKey { cgroup: current_id::<Untyped>(), ino, pid: process(), dev: NO_DEVICE }, 1);
    }
    0
}
