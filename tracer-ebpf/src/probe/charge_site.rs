//! Where in the kernel, and by which process, pages are charged to chosen memory cgroups: a kernel stack a batch.
//!
//! Kernel source: as `charge`. Where the hook fires once a batch of 32 or 64 pages, its stack stands for the batch;
//! where it fires once a page, for the pages that this CPU charged to the cgroup since the stack before.
//! Cost: a map look-up (20 ns) for charges of other cgroups, about 1 us for a stack.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel,
        bpf_probe_read_kernel_buf, generated::bpf_get_stack,
    },
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, raw_tracepoint, tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RawTracePointContext,
        RetProbeContext, TracePointContext,
    },
};
use tracer_ebpf::abi::{
    failure::Failure,
    offsets::Symbol,
    site::{BATCH, FRAMES, Frames, NO_STACK, SiteCount, SiteKey},
};

use super::charge::{lruvec_item, lruvec_record, state_item, state_record};
use crate::{
    access::{Direct, Probed},
    atomic,
    emit::lose,
    flight::{enter, leave},
    globals::{has, number},
    maps::{SITE_TARGETS, SITES, STACKS},
    memcg::{memcg_id, memcg_of_counter},
};

/// Keeps the kernel stack of now, and gives its key.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value the frames would be on the small stack twice"
)]
fn stack_of(ctx: &impl EbpfContext) -> u64 {
    let mut frames: Frames = [0; FRAMES];
    // SAFETY: the buffer is as large as said.
    let taken =
        unsafe { bpf_get_stack(ctx.as_ptr(), (&raw mut frames).cast(), size_of::<Frames>() as u32, 0) };
    if taken <= 0 {
        lose(Failure::StackLost);
        return NO_STACK;
    }
    // FNV-1a by words: no two of the few thousand stacks of a kernel share 64 bits of it.
    let mut key = 0xcbf2_9ce4_8422_2325_u64;
    for frame in &frames {
        key = (key ^ frame).wrapping_mul(0x0100_0000_01b3);
    }
    if STACKS.get_ptr(key).is_none() && STACKS.insert(key, &frames, 0).is_err() {
        lose(Failure::StackLost);
        return NO_STACK;
    }
    key
}

/// `comm` of the group leader; without BTF, of the task.
#[inline(always)]
pub(super) fn comm() -> [u8; 16] {
    let mut comm = [0; 16];
    if has(Symbol::TaskGroupLeader) && has(Symbol::TaskComm) {
        // SAFETY: probed reads of the current task, which cannot go away.
        unsafe {
            let task = bpf_get_current_task() + u64::from(number(Symbol::TaskGroupLeader));
            let leader = bpf_probe_read_kernel(task as *const u64).unwrap_or(0);
            let at = leader + u64::from(number(Symbol::TaskComm));
            let _ = bpf_probe_read_kernel_buf(at as *const u8, &mut comm);
        }
    } else if let Ok(own) = bpf_get_current_comm() {
        comm = own;
    }
    comm
}

/// So many pages were charged there.
#[inline(always)]
fn charged(cgroup: u64, pages: u64, stack: u64) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = SiteKey { cgroup, stack, pid, padding: 0 };
    let mut found = SITES.get_ptr_mut(key);
    if found.is_none() {
        let first = SiteCount { pages: 0, samples: 0, comm: [0; 16] };
        // BPF_NOEXIST: another CPU may have made it meanwhile.
        let _ = SITES.insert(key, first, 1);
        found = SITES.get_ptr_mut(key);
    }
    let Some(count) = found else { return lose(Failure::SitesFull) };
    // SAFETY: a valid map value, shared between CPUs: added to atomically. `comm` may be
    // written by several, each time with a name that the process bears or bore.
    unsafe {
        atomic::add(&raw mut (*count).pages, pages);
        atomic::add(&raw mut (*count).samples, 1);
        (*count).comm = comm();
    }
}

// Once a batch: page counters.

#[inline(always)]
fn target_of(counter: u64) -> u64 {
    let memcg = memcg_of_counter(counter);
    let id = if memcg != 0 { memcg_id::<Probed>(memcg) } else { 0 };
    if id != 0 && SITE_TARGETS.get_ptr_mut(id).is_some() { id } else { 0 }
}

#[inline(always)]
fn batch(ctx: &impl EbpfContext, counter: u64, pages: u64) {
    let id = target_of(counter);
    if id != 0 {
        charged(id, pages, stack_of(ctx));
    }
}

/// `bool page_counter_try_charge(counter, nr_pages, fail)`: the slot after the last argument is the result.
#[fexit]
pub fn site_try_fexit(ctx: FExitContext) -> i32 {
    if ctx.arg::<u64>(3) & 0xff != 0 {
        batch(&ctx, ctx.arg(0), ctx.arg(1));
    }
    0
}
/// `void page_counter_charge(counter, nr_pages)`: forced, past the limit.
#[fentry]
pub fn site_chg_fentry(ctx: FEntryContext) -> i32 {
    batch(&ctx, ctx.arg(0), ctx.arg(1));
    0
}

/// The stack is taken at the entry: 5.10 cannot unwind from a return probe. A return without an entry is of a cgroup
/// that is not followed.
#[kprobe]
pub fn site_try_kprobe(ctx: ProbeContext) -> u32 {
    let id = target_of(ctx.arg(0).unwrap_or(0));
    if id != 0 {
        enter([id, ctx.arg(1).unwrap_or(0), stack_of(&ctx)], Failure::SitesFull);
    }
    0
}
#[kretprobe]
pub fn site_try_kret(ctx: RetProbeContext) -> u32 {
    if let Some([id, pages, stack]) = leave()
        && ctx.ret::<u64>() & 0xff != 0
    {
        charged(id, pages, stack);
    }
    0
}
#[kprobe]
pub fn site_chg_kprobe(ctx: ProbeContext) -> u32 {
    batch(&ctx, ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0));
    0
}

// Once a page: statistics.

#[inline(always)]
fn page(ctx: &impl EbpfContext, id: u64, pages: i32) {
    if pages <= 0 {
        return;
    }
    let Some(debt) = SITE_TARGETS.get_ptr_mut(id) else { return };
    // SAFETY: this CPU's value.
    let due = unsafe {
        *debt += pages as u64;
        *debt
    };
    if due >= BATCH {
        // SAFETY: this CPU's value.
        unsafe { *debt = 0 }
        charged(id, due, stack_of(ctx));
    }
}

/// `(memcg, int item, int|long val)`
#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn site_lruvec_btf(ctx: BtfTracePointContext) -> i32 {
    if lruvec_item(ctx.arg::<u64>(1) as u32) {
        page(&ctx, memcg_id::<Direct>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[btf_tracepoint(function = "mod_memcg_state")]
pub fn site_state_btf(ctx: BtfTracePointContext) -> i32 {
    if state_item(ctx.arg::<u64>(1) as u32) {
        page(&ctx, memcg_id::<Direct>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[raw_tracepoint(tracepoint = "mod_memcg_lruvec_state")]
pub fn site_lruvec_raw(ctx: RawTracePointContext) -> i32 {
    if lruvec_item(ctx.arg::<u64>(1) as u32) {
        page(&ctx, memcg_id::<Probed>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}
#[raw_tracepoint(tracepoint = "mod_memcg_state")]
pub fn site_state_raw(ctx: RawTracePointContext) -> i32 {
    if state_item(ctx.arg::<u64>(1) as u32) {
        page(&ctx, memcg_id::<Probed>(ctx.arg(0)), ctx.arg::<u64>(2) as i32);
    }
    0
}

#[tracepoint]
pub fn site_lruvec_tp(ctx: TracePointContext) -> u32 {
    if let Some((id, pages)) = lruvec_record(&ctx) {
        page(&ctx, id, pages);
    }
    0
}
#[tracepoint]
pub fn site_state_tp(ctx: TracePointContext) -> u32 {
    if let Some((id, pages)) = state_record(&ctx) {
        page(&ctx, id, pages);
    }
    0
}
