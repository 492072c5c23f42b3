//! Programs started and tasks ended, per memory cgroup: a crash loop shows here long before it shows in bytes.
//!
//! Kernel source: `trace_sched_process_exec` (fs/exec.c), `trace_sched_process_exit` (kernel/exit.c), both
//! with the task itself as current and still in its cgroup. Cost: five probed reads, about 0.2 us each time.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};

use crate::{emit::count, file::Untyped, memcg::current_id};

#[inline(always)]
fn exec() -> i32 {
    if let Some(counts) = count(current_id::<Untyped>()) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).execs += 1 }
    }
    0
}

#[inline(always)]
fn exit() -> i32 {
    if let Some(counts) = count(current_id::<Untyped>()) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).exits += 1 }
    }
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_btf(_: BtfTracePointContext) -> i32 {
    exec()
}
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn exec_raw(_: RawTracePointContext) -> i32 {
    exec()
}
#[tracepoint]
pub fn exec_tp(_: TracePointContext) -> u32 {
    exec() as u32
}
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit_btf(_: BtfTracePointContext) -> i32 {
    exit()
}
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exit_raw(_: RawTracePointContext) -> i32 {
    exit()
}
#[tracepoint]
pub fn exit_tp(_: TracePointContext) -> u32 {
    exit() as u32
}
