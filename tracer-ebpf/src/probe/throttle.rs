//! Time that writers are made to sleep because there are too many dirty pages, by their memory cgroup.
//!
//! Kernel source: mm/page-writeback.c `balance_dirty_pages`: the tracepoint comes just before each sleep and says how long
//! it will be. Its record is in milliseconds, its arguments are in jiffies and differ between kernels: the record is taken.
//! Rare: a task that is throttled sleeps 10-200 ms each time.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use tracer_ebpf::abi::offsets::Symbol;

use super::dirty::counts;
use crate::{file::Untyped, globals::number, memcg::current_id};

#[tracepoint]
pub fn throttle_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's own format.
    let pause: i64 = unsafe { ctx.read_at(number(Symbol::TpBalancePause) as usize) }.unwrap_or(0);
    // Not positive: the task goes on at once.
    if pause > 0
        && let Some(counts) = counts(current_id::<Untyped>())
    {
        // SAFETY: this CPU's value.
        unsafe { (*counts).throttled_ms += pause as u64 }
    }
    0
}
