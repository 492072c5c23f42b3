//! Programs started and tasks ended, per memory cgroup: a crash loop shows here long before it shows in bytes.
//!
//! Kernel source: `trace_sched_process_exec` (fs/exec.c), `trace_sched_process_exit` (kernel/exit.c), both
//! with the task itself as current and still in its cgroup. Cost: five probed reads, about 0.2 us each time; where it
//! is wanted how long processes live, one more and a look-up for each that ends.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};

use tracer_ebpf::abi::{
    failure::Failure,
    offsets::Symbol,
    work::{LifeCount, LifeKey, bucket},
};

use crate::{
    access::{Access, Probed},
    atomic,
    emit::{count, lose},
    file::{Current, Untyped},
    globals::{has, number, want_lives},
    maps::LIVES,
    memcg::current_id,
};

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
    let id = current_id::<Untyped>();
    if let Some(counts) = count(id) {
        // SAFETY: this CPU's value.
        unsafe { (*counts).exits += 1 }
        if want_lives() && has(Symbol::TaskStartTime) {
            lived(id);
        }
    }
    0
}

/// Of a process, not of each of its threads: by its leader.
#[inline(always)]
fn lived(cgroup: u64) {
    let task = bpf_get_current_pid_tgid();
    if (task >> 32) as u32 != task as u32 {
        return;
    }
    // SAFETY: a field of the task; the helper has no preconditions.
    let (born, now) = unsafe {
        (Probed::word(Untyped::task() + u64::from(number(Symbol::TaskStartTime))), bpf_ktime_get_ns())
    };
    let time = now.saturating_sub(born);
    let comm = bpf_get_current_comm().unwrap_or([0; 16]);
    let key = LifeKey { cgroup, comm, bucket: bucket(time) };
    if LIVES.get_ptr_mut(key).is_none() {
        // BPF_NOEXIST: another CPU may have made the entry meanwhile, and its counts must stay.
        let _ = LIVES.insert(key, LifeCount { count: 0, total: 0, max: 0 }, 1);
    }
    let Some(life) = LIVES.get_ptr_mut(key) else { return lose(Failure::LivesFull) };
    // SAFETY: a valid map value, shared between CPUs: added to atomically. Of two that raise the maximum of a bucket at the
    // same time one may be lost, which is a quarter at most.
    unsafe {
        atomic::add(&raw mut (*life).count, 1);
        atomic::add(&raw mut (*life).total, time);
        if (*life).max < time {
            (*life).max = time;
        }
    }
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
