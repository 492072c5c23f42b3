//! Tasks that the OOM killer marks as victims: who, for whose want, at which limit.
//!
//! Kernel source: mm/oom_kill.c `oom_kill_process` (once a choice; `oom_control.memcg` is the cgroup at its limit, null on
//! a global kill), `mark_oom_victim` with `trace_mark_victim` (once a victim; of a group each member). `current` is the
//! task that asked for memory. A task that dies anyway and asks for more is marked too: user space tells it by the kernel's
//! log. Rare, hence through the ring buffer, and read by probed reads.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
        bpf_probe_read_kernel_buf,
    },
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, raw_tracepoint, tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RawTracePointContext,
        RetProbeContext, TracePointContext,
    },
};
use tracer_ebpf::abi::{
    event::{Header, Kind, UNKNOWN},
    failure::Failure,
    offsets::Symbol,
    oom::{GLOBAL, OomRecord},
};

use crate::{
    access::{Access, Probed},
    emit::lose,
    file::Untyped,
    globals::{has, number},
    maps::{EVENTS, OOM_LIMITS},
    memcg::{current_id, memcg_id, task_id},
};

#[inline(always)]
fn word(base: u64, symbol: Symbol) -> u64 {
    // SAFETY: a probed read.
    unsafe { Probed::word(base + u64::from(number(symbol))) }
}

#[inline(always)]
fn half(base: u64, symbol: Symbol) -> u64 {
    // SAFETY: a probed read.
    u64::from(unsafe { Probed::half(base + u64::from(number(symbol))) })
}

/// `comm` of a task's group leader.
#[inline(always)]
fn leader_comm(task: u64) -> [u8; 16] {
    let mut comm = [0; 16];
    let at = word(task, Symbol::TaskGroupLeader) + u64::from(number(Symbol::TaskComm));
    // SAFETY: a probed read; where it fails the name stays empty.
    let _ = unsafe { bpf_probe_read_kernel_buf(at as *const u8, &mut comm) };
    comm
}

/// What is known of a victim.
struct Victim {
    ids: u64,
    cgroup: u64,
    comm: [u8; 16],
    /// Anonymous, file and shared memory, KiB.
    rss: [u64; 3],
}

#[inline(always)]
fn send(victim: &Victim) -> i32 {
    let trigger = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once; only this task's own return removes it.
    let limit = unsafe { OOM_LIMITS.get(trigger) }.copied().unwrap_or([UNKNOWN; 3]);
    let trigger_comm = if has(Symbol::TaskGroupLeader) && has(Symbol::TaskComm) {
        // SAFETY: the helper has no preconditions.
        leader_comm(unsafe { bpf_get_current_task() })
    } else {
        bpf_get_current_comm().unwrap_or_default()
    };
    let trigger_cgroup = if has(Symbol::TaskCgroups) { current_id::<Untyped>() } else { 0 };
    let Some(mut entry) = EVENTS.reserve::<OomRecord>(0) else {
        lose(Failure::RingFull);
        return 0;
    };
    entry.write(OomRecord {
        header: Header {
            kind: Kind::OomKill as u32,
            path_len: 0,
            // SAFETY: the helper has no preconditions.
            at: unsafe { bpf_ktime_get_ns() },
            cgroup: victim.cgroup,
            a: victim.ids,
            b: trigger,
        },
        trigger_cgroup,
        limit_cgroup: limit[0],
        usage: limit[1],
        limit: limit[2],
        anon_kib: victim.rss[0],
        file_kib: victim.rss[1],
        shmem_kib: victim.rss[2],
        comm: victim.comm,
        trigger_comm,
    });
    entry.submit(0);
    0
}

#[inline(always)]
fn marked(task: u64) -> i32 {
    send(&Victim {
        ids: half(task, Symbol::TaskTgid) << 32 | half(task, Symbol::TaskPid),
        cgroup: task_id::<Probed>(task),
        comm: leader_comm(task),
        rss: [UNKNOWN; 3],
    })
}

/// `void oom_kill_process(struct oom_control *oc, const char *message)`
#[inline(always)]
fn at_limit(control: u64) -> i32 {
    if !has(Symbol::OomControlMemcg) || !has(Symbol::MemcgMemory) || !has(Symbol::PageCounterMax) {
        return 0;
    }
    let memcg = word(control, Symbol::OomControlMemcg);
    let limit = if memcg == 0 {
        [GLOBAL, UNKNOWN, UNKNOWN]
    } else {
        let counter = memcg + u64::from(number(Symbol::MemcgMemory));
        [
            memcg_id::<Probed>(memcg),
            word(counter, Symbol::PageCounterUsage),
            word(counter, Symbol::PageCounterMax),
        ]
    };
    if OOM_LIMITS.insert(bpf_get_current_pid_tgid(), limit, 0).is_err() {
        lose(Failure::PairLost);
    }
    0
}

/// What it is for ends with it: a task marked later is marked for something else.
#[inline(always)]
fn done() -> i32 {
    let _ = OOM_LIMITS.remove(bpf_get_current_pid_tgid());
    0
}

#[btf_tracepoint(function = "mark_victim")]
pub fn oom_mark_btf(ctx: BtfTracePointContext) -> i32 {
    marked(ctx.arg(0))
}
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_mark_raw(ctx: RawTracePointContext) -> i32 {
    marked(ctx.arg(0))
}
#[fentry]
pub fn oom_mark_fe(ctx: FEntryContext) -> i32 {
    marked(ctx.arg(0))
}
#[kprobe]
pub fn oom_mark_kp(ctx: ProbeContext) -> u32 {
    marked(ctx.arg(0).unwrap_or(0)) as u32
}
#[fentry]
pub fn oom_limit_fe(ctx: FEntryContext) -> i32 {
    at_limit(ctx.arg(0))
}
#[fexit]
pub fn oom_done_fx(_: FExitContext) -> i32 {
    done()
}
#[kprobe]
pub fn oom_limit_kp(ctx: ProbeContext) -> u32 {
    at_limit(ctx.arg(0).unwrap_or(0)) as u32
}
#[kretprobe]
pub fn oom_done_kr(_: RetProbeContext) -> u32 {
    done() as u32
}

#[inline(always)]
fn rss(ctx: &TracePointContext, field: Symbol) -> u64 {
    if !has(field) {
        return UNKNOWN;
    }
    // SAFETY: the offset comes from the tracepoint's own format.
    unsafe { ctx.read_at(number(field) as usize) }.unwrap_or(UNKNOWN)
}

/// The record has a thread's id, and of the thread group's leader nothing: user space asks /proc and the kernel's log.
#[tracepoint]
pub fn oom_mark_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's own format.
    let Ok(pid) = (unsafe { ctx.read_at::<u32>(number(Symbol::TpVictimPid) as usize) }) else { return 0 };
    let current = bpf_get_current_pid_tgid();
    let own = current as u32 == pid;
    let mut victim = Victim {
        ids: u64::from(pid),
        cgroup: 0,
        comm: [0; 16],
        rss: [
            rss(&ctx, Symbol::TpVictimAnon),
            rss(&ctx, Symbol::TpVictimFile),
            rss(&ctx, Symbol::TpVictimShmem),
        ],
    };
    if own {
        victim.ids = current;
        if has(Symbol::TaskCgroups) {
            victim.cgroup = current_id::<Untyped>();
        }
    }
    send(&victim) as u32
}
