//! The two ways of reading a kernel structure: one handler serves both, chosen by the entry's type parameter.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// Reads a number at an address, as wide as the field there: a direct load may not span two fields.
pub trait Access {
    /// # Safety
    /// `address` must be what [`Direct`] or [`Probed`] ask for.
    unsafe fn word(address: u64) -> u64;
    /// # Safety
    /// As `word`.
    unsafe fn half(address: u64) -> u32;
    /// # Safety
    /// As `word`.
    unsafe fn quarter(address: u64) -> u16;
}

/// A load through a BTF-typed pointer (tp_btf, fentry, fexit): checked by the verifier, nearly free. A stale
/// or null pointer reads 0.
pub struct Direct;

impl Access for Direct {
    #[inline(always)]
    unsafe fn word(address: u64) -> u64 {
        // SAFETY: the verifier accepts this only for a typed field of a trusted pointer.
        unsafe { core::ptr::read_volatile(address as *const u64) }
    }
    #[inline(always)]
    unsafe fn half(address: u64) -> u32 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(address as *const u32) }
    }
    #[inline(always)]
    unsafe fn quarter(address: u64) -> u16 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(address as *const u16) }
    }
}

/// `bpf_probe_read_kernel`: for any address, 35-45 ns. A bad address reads 0.
pub struct Probed;

impl Access for Probed {
    #[inline(always)]
    unsafe fn word(address: u64) -> u64 {
        // SAFETY: the helper takes any address and fails on a bad one.
        unsafe { bpf_probe_read_kernel(address as *const u64) }.unwrap_or(0)
    }
    #[inline(always)]
    unsafe fn half(address: u64) -> u32 {
        // SAFETY: as above.
        unsafe { bpf_probe_read_kernel(address as *const u32) }.unwrap_or(0)
    }
    #[inline(always)]
    unsafe fn quarter(address: u64) -> u16 {
        // SAFETY: as above.
        unsafe { bpf_probe_read_kernel(address as *const u16) }.unwrap_or(0)
    }
}
