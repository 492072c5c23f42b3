//! Arithmetic on map values that all CPUs share. By hand, since `core` gives this target no atomics: addition is the plain
//! form, which every kernel has; what fetches is a choice, because 5.10 refuses it even in dead code.

use core::arch::asm;

/// # Safety
/// `value` must point into a map value.
#[inline(always)]
pub unsafe fn add(value: *mut u64, by: u64) {
    // SAFETY: one instruction (BPF_STX | BPF_ATOMIC, BPF_ADD) on memory that the caller vouches for.
    unsafe { asm!("lock *(u64 *)({value} + 0) += {by}", value = in(reg) value, by = in(reg) by) }
}

/// The same of half a word.
///
/// # Safety
/// `value` must point into a map value.
#[inline(always)]
pub unsafe fn add_half(value: *mut u32, by: u32) {
    // SAFETY: as `add`.
    unsafe { asm!("lock *(u32 *)({value} + 0) += {by}", value = in(reg) value, by = in(reg) u64::from(by)) }
}

/// What needs the value that was there before.
pub trait Atomics {
    /// # Safety
    /// `value` must point into a map value.
    unsafe fn fetch_add(value: *mut u64, by: u64) -> u64;
    /// # Safety
    /// `value` must point into a map value.
    unsafe fn swap(value: *mut u64, new: u64) -> u64;
    /// Makes it at least `least`.
    /// # Safety
    /// `value` must point into a map value.
    unsafe fn raise(value: *mut u64, least: u64);
}

/// Exact under concurrent writers; since 5.12 (37086bfdc737).
pub struct Fetching;

/// Whoever raises a maximum at the same time succeeds at last after so many tries.
const TRIES: u32 = 8;

impl Atomics for Fetching {
    #[inline(always)]
    unsafe fn fetch_add(value: *mut u64, by: u64) -> u64 {
        let mut old = by;
        // SAFETY: one instruction (BPF_ADD | BPF_FETCH), as in `add`.
        unsafe {
            asm!("{old} = atomic_fetch_add((u64 *)({value} + 0), {old})", value = in(reg) value, old = inout(reg) old);
        }
        old
    }

    #[inline(always)]
    unsafe fn swap(value: *mut u64, new: u64) -> u64 {
        let mut old = new;
        // SAFETY: one instruction (BPF_XCHG), as in `add`.
        unsafe {
            asm!("{old} = xchg_64({value} + 0, {old})", value = in(reg) value, old = inout(reg) old);
        }
        old
    }

    #[inline(always)]
    unsafe fn raise(value: *mut u64, least: u64) {
        for _ in 0..TRIES {
            // SAFETY: a valid map value.
            let seen = unsafe { value.read_volatile() };
            if seen >= least {
                return;
            }
            let mut found = seen;
            // SAFETY: one instruction (BPF_CMPXCHG, which compares with r0), as in `add`.
            unsafe {
                asm!("r0 = cmpxchg_64({value} + 0, r0, {least})", value = in(reg) value, least = in(reg) least, inout("r0") found);
            }
            if found == seen {
                return;
            }
        }
    }
}

/// Off by one write when two writers of a stream meet.
pub struct Plain;

impl Atomics for Plain {
    #[inline(always)]
    unsafe fn fetch_add(value: *mut u64, by: u64) -> u64 {
        // SAFETY: a valid map value.
        unsafe {
            let old = value.read_volatile();
            add(value, by);
            old
        }
    }

    #[inline(always)]
    unsafe fn swap(value: *mut u64, new: u64) -> u64 {
        // SAFETY: a valid map value.
        unsafe {
            let old = value.read_volatile();
            value.write_volatile(new);
            old
        }
    }

    #[inline(always)]
    unsafe fn raise(value: *mut u64, least: u64) {
        // SAFETY: a valid map value.
        unsafe {
            if value.read_volatile() < least {
                value.write_volatile(least);
            }
        }
    }
}
