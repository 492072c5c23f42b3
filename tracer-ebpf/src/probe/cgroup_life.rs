//! Memory cgroups made, renamed, removed and released, and tasks moved into them: rows appear and end with
//! them, and a container that lives shorter than a tick still has its name and its peak.
//!
//! Kernel source: `TRACE_CGROUP_PATH(mkdir, ...)` and its siblings in kernel/cgroup/cgroup.c (the path is in a
//! buffer under a spinlock, hence read here), `cgroup_attach_task`. Rare: a few per container.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use tracer_ebpf::abi::{
    event::{Kind, UNKNOWN},
    offsets::Symbol,
};

use crate::{
    access::Probed,
    emit::{send, send_path},
    globals::{memory_hierarchy, number},
    memcg::{cgroup_id, in_memory_hierarchy, usage_and_peak},
};

#[inline(always)]
fn with_path<C: EbpfContext>(ctx: &C, kind: Kind, cgroup: u64, path: u64) -> i32 {
    if in_memory_hierarchy::<Probed>(cgroup) {
        debug!(ctx, "cgroup {} made or renamed", cgroup_id::<Probed>(cgroup));
        send_path(kind, cgroup_id::<Probed>(cgroup), path);
    }
    0
}

#[inline(always)]
fn removed<C: EbpfContext>(ctx: &C, cgroup: u64) -> i32 {
    if in_memory_hierarchy::<Probed>(cgroup) {
        let (usage, peak) = usage_and_peak(cgroup);
        debug!(ctx, "cgroup {} removed with {} pages", cgroup_id::<Probed>(cgroup), usage);
        send(Kind::CgroupRemoved, cgroup_id::<Probed>(cgroup), usage, peak);
    }
    0
}

#[inline(always)]
fn released(cgroup: u64) -> i32 {
    if in_memory_hierarchy::<Probed>(cgroup) {
        send(Kind::CgroupReleased, cgroup_id::<Probed>(cgroup), 0, 0);
    }
    0
}

#[inline(always)]
fn moved(cgroup: u64, task: u64) -> i32 {
    if in_memory_hierarchy::<Probed>(cgroup) {
        // SAFETY: a probed read of an `int`; of the word only the low half is it.
        let tgid =
            unsafe { <Probed as crate::access::Access>::word(task + u64::from(number(Symbol::TaskTgid))) };
        send(Kind::TaskMoved, cgroup_id::<Probed>(cgroup), u64::from(tgid as u32), 0);
    }
    0
}

macro_rules! entries {
    ($($tracepoint:literal => $btf:ident $raw:ident: |$ctx:ident| $call:expr;)+) => {
        $(
            #[btf_tracepoint(function = $tracepoint)]
            pub fn $btf($ctx: BtfTracePointContext) -> i32 { $call }
            #[raw_tracepoint(tracepoint = $tracepoint)]
            pub fn $raw($ctx: RawTracePointContext) -> i32 { $call }
        )+
    };
}

entries! {
    "cgroup_mkdir" => mkdir_btf mkdir_raw: |ctx| with_path(&ctx, Kind::CgroupMade, ctx.arg(0), ctx.arg(1));
    "cgroup_rename" => rename_btf rename_raw: |ctx| with_path(&ctx, Kind::CgroupRenamed, ctx.arg(0), ctx.arg(1));
    "cgroup_rmdir" => rmdir_btf rmdir_raw: |ctx| removed(&ctx, ctx.arg(0));
    "cgroup_release" => release_btf release_raw: |ctx| released(ctx.arg(0));
    "cgroup_attach_task" => attach_btf attach_raw: |ctx| moved(ctx.arg(0), ctx.arg(2));
}

/// The id in a classic record of the `cgroup` event class (all but attach share its layout), if it is of the
/// memory hierarchy.
#[inline(always)]
fn classic_id(ctx: &TracePointContext, root: Symbol, id: Symbol) -> Option<u64> {
    // SAFETY: the offsets come from the tracepoint's own format.
    let hierarchy: i32 = unsafe { ctx.read_at(number(root) as usize) }.ok()?;
    if hierarchy as u32 != memory_hierarchy() {
        return None;
    }
    // SAFETY: as above.
    unsafe { ctx.read_at(number(id) as usize) }.ok()
}

#[inline(always)]
fn classic_path(ctx: &TracePointContext, kind: Kind) -> u32 {
    let Some(id) = classic_id(ctx, Symbol::TpMkdirRoot, Symbol::TpMkdirId) else { return 0 };
    // SAFETY: a `__data_loc` word: offset in the low half, length in the high one.
    let Ok(location) = (unsafe { ctx.read_at::<u32>(number(Symbol::TpMkdirPath) as usize) }) else {
        return 0;
    };
    send_path(kind, id, ctx.as_ptr() as u64 + u64::from(location & 0xffff));
    0
}

#[inline(always)]
fn classic_end(ctx: &TracePointContext, kind: Kind) -> u32 {
    if let Some(id) = classic_id(ctx, Symbol::TpMkdirRoot, Symbol::TpMkdirId) {
        // The record holds no pointer to the cgroup: what it held is not known.
        send(kind, id, UNKNOWN, UNKNOWN);
    }
    0
}

#[tracepoint]
pub fn mkdir_tp(ctx: TracePointContext) -> u32 {
    classic_path(&ctx, Kind::CgroupMade)
}
#[tracepoint]
pub fn rename_tp(ctx: TracePointContext) -> u32 {
    classic_path(&ctx, Kind::CgroupRenamed)
}
#[tracepoint]
pub fn rmdir_tp(ctx: TracePointContext) -> u32 {
    classic_end(&ctx, Kind::CgroupRemoved)
}
#[tracepoint]
pub fn release_tp(ctx: TracePointContext) -> u32 {
    classic_end(&ctx, Kind::CgroupReleased)
}
#[tracepoint]
pub fn attach_tp(ctx: TracePointContext) -> u32 {
    if let Some(id) = classic_id(&ctx, Symbol::TpAttachRoot, Symbol::TpAttachId) {
        // SAFETY: the offset comes from the tracepoint's own format.
        let pid: i32 = unsafe { ctx.read_at(number(Symbol::TpAttachPid) as usize) }.unwrap_or(0);
        send(Kind::TaskMoved, id, u64::from(pid as u32), 0);
    }
    0
}
