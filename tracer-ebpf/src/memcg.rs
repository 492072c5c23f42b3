//! From a kernel structure to the identity of a memory cgroup: the kernfs id, which is the inode number of
//! its directory, on cgroup v1, hybrid and v2 alike.

use tracer_ebpf::abi::{event::UNKNOWN, offsets::Symbol};

use crate::{
    access::{Access, Probed},
    file::{Current, Untyped},
    globals::{has, memory_hierarchy, number},
    maps::MEMORY_SUBSYS,
};

#[inline(always)]
fn at<A: Access>(base: u64, symbol: Symbol) -> u64 {
    // SAFETY: base is a kernel structure that holds the field; see `Access`.
    unsafe { A::word(base + u64::from(number(symbol))) }
}

/// kernfs id of a `struct cgroup`.
#[inline(always)]
pub fn cgroup_id<A: Access>(cgroup: u64) -> u64 {
    at::<A>(at::<A>(cgroup, Symbol::CgroupKn), Symbol::KernfsNodeId)
}

/// kernfs id of a `struct mem_cgroup`.
#[inline(always)]
pub fn memcg_id<A: Access>(memcg: u64) -> u64 {
    // SAFETY: `css` is embedded in the memory cgroup.
    let cgroup = unsafe {
        A::word(memcg + u64::from(number(Symbol::MemcgCss)) + u64::from(number(Symbol::CssCgroup)))
    };
    cgroup_id::<A>(cgroup)
}

/// Whether a `struct cgroup` is of the hierarchy that has the memory controller.
#[inline(always)]
pub fn in_memory_hierarchy<A: Access>(cgroup: u64) -> bool {
    // `hierarchy_id` is an `int`: of the word only the low half is it.
    let root = at::<A>(cgroup, Symbol::CgroupRoot);
    // SAFETY: a field of `cgroup_root`; read as probed since a word there is not one typed field.
    let word = unsafe { Probed::word(root + u64::from(number(Symbol::CgroupRootHierarchyId))) };
    word as u32 == memory_hierarchy()
}

/// Usage and peak of the memory cgroup of a `struct cgroup`, in pages.
#[inline(always)]
pub fn usage_and_peak(cgroup: u64) -> (u64, u64) {
    let slot = u64::from(number(Symbol::CgroupSubsys)) + 8 * u64::from(number(Symbol::MemoryCgrpId));
    // SAFETY: probed reads of `cgroup.subsys[memory]`, which is a `mem_cgroup` (css is its first member).
    let css = unsafe { Probed::word(cgroup + slot) };
    if css == 0 || !has(Symbol::MemcgMemory) {
        return (UNKNOWN, UNKNOWN);
    }
    let counter = css - u64::from(number(Symbol::MemcgCss)) + u64::from(number(Symbol::MemcgMemory));
    (at::<Probed>(counter, Symbol::PageCounterUsage), at::<Probed>(counter, Symbol::PageCounterWatermark))
}

/// A task's `memory` css.
#[inline(always)]
fn css<A: Access>(task: u64) -> u64 {
    let set = at::<A>(task, Symbol::TaskCgroups);
    let slot = u64::from(number(Symbol::CssSetSubsys)) + 8 * u64::from(number(Symbol::MemoryCgrpId));
    // SAFETY: `css_set.subsys[memory]`; see `Access`.
    unsafe { A::word(set + slot) }
}

#[inline(always)]
pub fn current_css<C: Current>() -> u64 {
    css::<C::Access>(C::task())
}

/// kernfs id of a task's memory cgroup.
#[inline(always)]
pub fn task_id<A: Access>(task: u64) -> u64 {
    cgroup_id::<A>(at::<A>(css::<A>(task), Symbol::CssCgroup))
}

/// kernfs id of a `struct mem_cgroup` that is a mere address: through the current task's own, if it is that, which is had
/// without a probed read.
#[inline(always)]
pub fn id_by_current<C: Current>(memcg: u64) -> u64 {
    let css = current_css::<C>();
    let mut own = css;
    // SAFETY: no instruction. Hides that both are equal below: the one is a typed pointer, the other a number.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) own) }
    if own == memcg + u64::from(number(Symbol::MemcgCss)) {
        return cgroup_id::<C::Access>(at::<C::Access>(css, Symbol::CssCgroup));
    }
    memcg_id::<Probed>(memcg)
}

/// kernfs id of the current task's memory cgroup.
#[inline(always)]
pub fn current_id<C: Current>() -> u64 {
    cgroup_id::<C::Access>(at::<C::Access>(current_css::<C>(), Symbol::CssCgroup))
}

/// The memory cgroup whose `memory` counter this `struct page_counter` is, or 0: the same functions serve
/// memsw, kmem, tcp and hugetlb counters, which must not be counted.
#[inline(always)]
pub fn memcg_of_counter(counter: u64) -> u64 {
    let memcg = counter - u64::from(number(Symbol::MemcgMemory));
    // SAFETY: a probed read; for a foreign counter it reads something else, which the comparison tells.
    let ss = unsafe {
        Probed::word(memcg + u64::from(number(Symbol::MemcgCss)) + u64::from(number(Symbol::CssSs)))
    };
    if ss != 0 && ss == memory_subsys() { memcg } else { 0 }
}

#[inline(always)]
fn memory_subsys() -> u64 {
    let Some(known) = MEMORY_SUBSYS.get_ptr_mut(0) else { return 0 };
    // SAFETY: a valid map value; a race writes the same constant twice.
    unsafe {
        if *known == 0 {
            *known = at::<Probed>(current_css::<Untyped>(), Symbol::CssSs);
        }
        *known
    }
}
