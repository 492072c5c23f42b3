//! Addition to a map value that all CPUs share. By hand, since `core` gives this target no `fetch_add`: the plain form,
//! which every kernel has, and not the fetching one, which 5.10 refuses.

use core::arch::asm;

/// # Safety
/// `value` must point into a map value.
#[inline(always)]
pub unsafe fn add(value: *mut u64, by: u64) {
    // SAFETY: one instruction (BPF_STX | BPF_ATOMIC, BPF_ADD) on memory that the caller vouches for.
    unsafe { asm!("lock *(u64 *)({value} + 0) += {by}", value = in(reg) value, by = in(reg) by) }
}
