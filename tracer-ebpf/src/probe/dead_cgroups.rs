//! The walk over all memory cgroups by the kernel's own lists, which hold the removed ones too, until the last page is
//! given back. It runs when user space wants it: by an iterator over tasks that is read, or by a tracepoint that memtrace
//! itself sets off (it renames its thread). A run takes a dozen steps; the next one goes on.
//!
//! Kernel source: `css.children` and `css.sibling` (kernel/cgroup/cgroup.c, `css_release_work_fn` takes out of the list),
//! freed a grace period after that, and every run is within one RCU section. What a run keeps for the next is looked at
//! before it is believed: the number that no other css ever bears, and that the list still leads to it.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_buf, bpf_probe_read_kernel_str_bytes, generated},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{
    dead::{LISTS, Phase, Sum, Walk},
    failure::Failure,
    offsets::Symbol,
};

use crate::{
    access::{Access as _, Probed},
    emit::lose,
    file::Untyped,
    globals::{has, number},
    maps::{DEAD, DEAD_SUMS, DEAD_WALK},
    memcg::current_css,
};

/// Steps of a run, taken without a pause. The verifier follows each, and that of 6.1 does not come to an end with 48.
const STEPS: u32 = 12;
/// As many as a kernel has.
const ZONES: usize = 6;
/// Which list of a zone (`enum lru_list`).
const UNEVICTABLE: usize = 4;

#[inline(always)]
fn word(base: u64, symbol: Symbol) -> u64 {
    // SAFETY: a probed read, which fails on a bad address.
    unsafe { Probed::word(base + u64::from(number(symbol))) }
}

/// Of a page counter in a memory cgroup; 0 where it has none.
#[inline(always)]
fn counter(css: u64, symbol: Symbol) -> u64 {
    if !has(symbol) {
        return 0;
    }
    let memcg = css - u64::from(number(Symbol::MemcgCss));
    let pages = word(memcg + u64::from(number(symbol)), Symbol::PageCounterUsage);
    // Charged and uncharged at the same time, it may be below nothing for a moment.
    if pages as i64 > 0 { pages } else { 0 }
}

#[inline(always)]
fn node_of(css: u64) -> u64 {
    word(word(css, Symbol::CssCgroup), Symbol::CgroupKn)
}

/// Whether its directory was removed.
#[inline(always)]
fn removed(kn: u64) -> bool {
    let place = kn + u64::from(number(Symbol::KernfsNodeLinked));
    // SAFETY: a probed read.
    unsafe { Probed::word(place) == place }
}

/// Cgroups of the hierarchy, and of them the dead, as the kernel counts them; 0 where it does not.
#[inline(always)]
fn census(css: u64) -> u64 {
    if !has(Symbol::CgroupDescendants) || !has(Symbol::CgroupDying) {
        return 0;
    }
    let cgroup = word(css, Symbol::CssCgroup);
    // SAFETY: probed reads of two `int`.
    unsafe {
        u64::from(Probed::half(cgroup + u64::from(number(Symbol::CgroupDescendants)))) << 32
            | u64::from(Probed::half(cgroup + u64::from(number(Symbol::CgroupDying))))
    }
}

/// Counts a dead one and writes it down.
#[inline(always)]
fn found(walk: &mut Walk, css: u64, parent: u64, kn: u64) {
    let above = node_of(parent);
    let above_id = word(above, Symbol::KernfsNodeId);
    let pages = counter(css, Symbol::MemcgMemory);
    let swap = counter(css, Symbol::MemcgSwapCounter);
    let kmem = counter(css, Symbol::MemcgKmemCounter);
    walk.dead += 1;
    // The root has no parent, and no directory that could be removed.
    let outermost = word(parent, Symbol::CssParent) == 0 || !removed(above);
    if outermost {
        walk.living = above_id;
        walk.pages += pages;
        walk.swap += swap;
        walk.kmem += kmem;
    }
    let living = walk.living;
    add(living, if outermost { (pages, swap, kmem) } else { (0, 0, 0) });
    walk.node = 0;
    let Some(entry) = DEAD.get_ptr_mut(walk.written) else { return };
    walk.written += 1;
    // SAFETY: a valid map value, which nobody else writes to while a walk is under way.
    unsafe {
        (*entry).id = word(kn, Symbol::KernfsNodeId);
        (*entry).above = above_id;
        (*entry).living = living;
        (*entry).pages = pages;
        (*entry).swap = swap;
        (*entry).kmem = kmem;
        (*entry).listed = 0;
        let name = word(kn, Symbol::KernfsNodeName);
        let len = bpf_probe_read_kernel_str_bytes(name as *const u8, &mut (*entry).name);
        (*entry).name_len = len.map_or(0, <[u8]>::len) as u32;
    }
}

#[inline(always)]
fn add(living: u64, (pages, swap, kmem): (u64, u64, u64)) {
    if DEAD_SUMS.get_ptr_mut(living).is_none() {
        let none = Sum { count: 0, pages: 0, swap: 0, kmem: 0, listed: 0, anon: 0, file: 0 };
        let _ = DEAD_SUMS.insert(living, none, 1);
    }
    match DEAD_SUMS.get_ptr_mut(living) {
        // SAFETY: a valid map value; one walk runs at a time.
        Some(sum) => unsafe {
            (*sum).count += 1;
            (*sum).pages += pages;
            (*sum).swap += swap;
            (*sum).kmem += kmem;
        },
        None => lose(Failure::DeadParentsFull),
    }
}

/// Adds the lists of one memory node to the dead one that was found last; `false` when there are no more nodes.
#[inline(always)]
fn size(walk: &mut Walk, css: u64) -> bool {
    let (zones, lists) = (number(Symbol::Zones) as usize, number(Symbol::Lists) as usize);
    if walk.node >= walk.nodes || lists <= UNEVICTABLE || zones * lists > LISTS {
        return false;
    }
    let memcg = css - u64::from(number(Symbol::MemcgCss));
    let nodes = memcg + u64::from(number(Symbol::MemcgNodes));
    // SAFETY: a probed read of a pointer.
    let node = unsafe { Probed::word(nodes + 8 * u64::from(walk.node)) };
    walk.node += 1;
    let place = node + u64::from(number(Symbol::MemcgNodeLists));
    let bytes = walk.lists.as_mut_ptr().cast::<core::ffi::c_void>();
    // SAFETY: the helper fails on a bad address; the length was compared with that of the array.
    if unsafe { generated::bpf_probe_read_kernel(bytes, (zones * lists * 8) as u32, place as *const _) } != 0
    {
        return true;
    }
    let (mut anon, mut file, mut rest) = (0, 0, 0);
    for zone in 0..ZONES {
        if zone >= zones {
            break;
        }
        let pages = |list: usize| walk.lists[(zone * lists + list) % LISTS];
        // Inactive, active; what cannot be evicted may be of either kind.
        anon += pages(0) + pages(1);
        file += pages(2) + pages(3);
        rest += pages(UNEVICTABLE);
    }
    let listed = anon + file + rest;
    walk.listed += listed;
    if let Some(sum) = DEAD_SUMS.get_ptr_mut(walk.living) {
        // SAFETY: a valid map value; one walk runs at a time.
        unsafe {
            (*sum).listed += listed;
            (*sum).anon += anon;
            (*sum).file += file;
        }
    }
    if let Some(entry) = DEAD.get_ptr_mut(walk.written.wrapping_sub(1)) {
        // SAFETY: likewise. Where there was no room for it, the last one that was written is of another.
        unsafe {
            if (*entry).id == word(node_of(css), Symbol::KernfsNodeId) {
                (*entry).listed += listed;
            }
        }
    }
    true
}

/// One step; `false` at the end, and where the lists of a dead one are to be added up.
#[inline(always)]
fn step(walk: &mut Walk) -> bool {
    let css = walk.css;
    if css == 0 {
        walk.phase = Phase::Lost as u32;
        return false;
    }
    walk.steps += 1;
    let parent = word(css, Symbol::CssParent);
    if walk.phase == Phase::Climb as u32 {
        if parent == 0 {
            walk.began = census(css);
            walk.phase = Phase::Visit as u32;
        } else {
            walk.css = parent;
        }
        return true;
    }
    let sibling = u64::from(number(Symbol::CssSibling));
    if walk.phase == Phase::Visit as u32 {
        let kn = node_of(css);
        if parent != 0 && removed(kn) {
            found(walk, css, parent, kn);
            if has(Symbol::MemcgUnflushed) {
                // The verifier would follow it in each of the steps.
                walk.phase = Phase::Size as u32;
                walk.serial = word(css, Symbol::CssSerial);
                return false;
            }
        } else {
            walk.live += 1;
        }
        descend(walk, css);
        return true;
    }
    if parent == 0 {
        walk.ended = census(css);
        walk.phase = Phase::Done as u32;
        return false;
    }
    // SAFETY: a probed read of the next entry of the list it is in.
    let next = unsafe { Probed::word(css + sibling) };
    if next == parent + u64::from(number(Symbol::CssChildren)) {
        walk.css = parent;
    } else if next == 0 {
        walk.css = 0;
    } else {
        walk.css = next - sibling;
        walk.phase = Phase::Visit as u32;
    }
    true
}

/// To the first one in it, else to the one beside it.
#[inline(always)]
fn descend(walk: &mut Walk, css: u64) {
    let children = css + u64::from(number(Symbol::CssChildren));
    // SAFETY: a probed read of the list's first entry.
    let first = unsafe { Probed::word(children) };
    if first == children || first == 0 {
        walk.phase = Phase::Next as u32;
    } else {
        walk.css = first - u64::from(number(Symbol::CssSibling));
        walk.phase = Phase::Visit as u32;
    }
}

/// Whether what the last run stood at is still there: freed memory may be anything by now.
#[inline(always)]
fn still_there(walk: &Walk) -> bool {
    if word(walk.css, Symbol::CssSerial) != walk.serial {
        return false;
    }
    if word(walk.css, Symbol::CssParent) == 0 {
        return true;
    }
    let entry = walk.css + u64::from(number(Symbol::CssSibling));
    // SAFETY: probed reads: `entry.prev.next` is the entry while it is in the list, and poison leads nowhere.
    unsafe { Probed::word(Probed::word(entry + 8)) == entry }
}

/// A run. `name` is where the name stands that whoever runs was given.
#[inline(always)]
fn run(name: Option<u64>) -> i32 {
    let Some(walk) = DEAD_WALK.get_ptr_mut(0) else { return 0 };
    // SAFETY: a valid map value; others than who drives the walk are turned away by the token.
    let walk = unsafe { &mut *walk };
    let phase = walk.phase;
    if phase == Phase::Idle as u32 || phase >= Phase::Done as u32 {
        return 0;
    }
    if let Some(name) = name {
        let mut given = [0_u8; 8];
        // SAFETY: the helper fails on a bad address.
        let read = unsafe { bpf_probe_read_kernel_buf(name as *const u8, &mut given) };
        if read.is_err() || u64::from_ne_bytes(given) != walk.token {
            return 0;
        }
    }
    if phase == Phase::Start as u32 {
        walk.css = current_css::<Untyped>();
        walk.phase = Phase::Climb as u32;
    } else if !still_there(walk) {
        walk.phase = Phase::Lost as u32;
        return 0;
    }
    if has(Symbol::MemcgUnflushed) && walk.phase == Phase::Size as u32 {
        walk.steps += 1;
        if size(walk, walk.css) {
            return 0;
        }
        descend(walk, walk.css);
    }
    for _ in 0..STEPS {
        if !step(walk) {
            return 0;
        }
    }
    walk.serial = word(walk.css, Symbol::CssSerial);
    0
}

/// Once for each task there is, and once more.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn dead_iter(_: *mut core::ffi::c_void) -> i32 {
    run(None)
}

#[btf_tracepoint(function = "task_rename")]
pub fn dead_btf(ctx: BtfTracePointContext) -> i32 {
    run(Some(ctx.arg(1)))
}

#[raw_tracepoint(tracepoint = "task_rename")]
pub fn dead_raw(ctx: RawTracePointContext) -> i32 {
    run(Some(ctx.arg(1)))
}

#[tracepoint]
pub fn dead_tp(ctx: TracePointContext) -> u32 {
    run(Some(ctx.as_ptr() as u64 + u64::from(number(Symbol::TpRenameComm)))) as u32
}
