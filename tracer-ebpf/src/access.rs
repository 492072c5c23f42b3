//! The two ways of reading a kernel structure: one handler serves both, chosen by the entry's type parameter.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};

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

    /// The beginning of a structure of which several fields are wanted.
    type Beginning;
    /// # Safety
    /// As `word`.
    unsafe fn beginning(address: u64) -> Self::Beginning;
    /// # Safety
    /// As `word`, of the field at that offset.
    unsafe fn word_of(structure: &Self::Beginning, offset: u32) -> u64;
    /// # Safety
    /// As `word_of`.
    unsafe fn half_of(structure: &Self::Beginning, offset: u32) -> u32;
    /// # Safety
    /// As `word_of`.
    unsafe fn quarter_of(structure: &Self::Beginning, offset: u32) -> u16;
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

    type Beginning = u64;
    #[inline(always)]
    unsafe fn beginning(address: u64) -> u64 {
        address
    }
    #[inline(always)]
    unsafe fn word_of(structure: &u64, offset: u32) -> u64 {
        // SAFETY: as above.
        unsafe { Self::word(structure + u64::from(offset)) }
    }
    #[inline(always)]
    unsafe fn half_of(structure: &u64, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { Self::half(structure + u64::from(offset)) }
    }
    #[inline(always)]
    unsafe fn quarter_of(structure: &u64, offset: u32) -> u16 {
        // SAFETY: as above.
        unsafe { Self::quarter(structure + u64::from(offset)) }
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

    type Beginning = Words;
    #[inline(always)]
    unsafe fn beginning(address: u64) -> Words {
        let mut words = MaybeUninit::<[u64; WORDS]>::uninit();
        // SAFETY: as above; where it fails the helper leaves zeros.
        let words = unsafe {
            generated::bpf_probe_read_kernel(
                words.as_mut_ptr().cast(),
                WORDS as u32 * 8,
                address as *const c_void,
            );
            words.assume_init()
        };
        Words { address, words }
    }
    #[inline(always)]
    unsafe fn word_of(structure: &Words, offset: u32) -> u64 {
        if offset as usize >= 8 * WORDS {
            // SAFETY: as above.
            return unsafe { Self::word(structure.address + u64::from(offset)) };
        }
        structure.words[offset as usize / 8 % WORDS]
    }
    #[inline(always)]
    unsafe fn half_of(structure: &Words, offset: u32) -> u32 {
        // SAFETY: as above.
        (unsafe { Self::word_of(structure, offset & !7) } >> (8 * (offset % 8))) as u32
    }
    #[inline(always)]
    unsafe fn quarter_of(structure: &Words, offset: u32) -> u16 {
        // SAFETY: as above.
        (unsafe { Self::word_of(structure, offset & !7) } >> (8 * (offset % 8))) as u16
    }
}

/// Read at a time: of an inode all that is asked of one, in one call of a helper.
const WORDS: usize = 10;

pub struct Words {
    address: u64,
    words: [u64; WORDS],
}
