//! From a `struct folio` (a `struct page` where there are none) to its size, its memory cgroup and its file.

use tracer_ebpf::abi::offsets::Symbol;

use crate::{
    access::{Access, Probed},
    globals::{has, number},
};

/// Of `memcg_data`: a vector of object cgroups, kernel memory, and one that is still free (`enum page_memcg_data_flags`).
const FLAGS: u64 = 7;
/// Slab: the vector is no memory cgroup.
const VECTOR: u64 = 1;
/// Kernel memory: an object cgroup.
const KERNEL: u64 = 2;
/// Of `mapping`: anonymous memory, or a driver's own (`FOLIO_MAPPING_FLAGS`).
const NO_FILE: u64 = 3;

#[inline(always)]
fn at(folio: u64, symbol: Symbol) -> u64 {
    folio + u64::from(number(symbol))
}

/// How many pages it has.
#[inline(always)]
pub fn pages<A: Access>(folio: u64) -> u64 {
    if !has(Symbol::FolioNrPages) || !has(Symbol::PageHead) {
        return 1;
    }
    // SAFETY: fields of the folio; see `Access`.
    unsafe {
        if A::word(at(folio, Symbol::FolioFlags)) & (1 << number(Symbol::PageHead)) == 0 {
            return 1;
        }
        u64::from(A::half(at(folio, Symbol::FolioNrPages)))
    }
}

/// The `struct mem_cgroup` that it is charged to, as a mere address; 0 if none is.
#[inline(always)]
pub fn memcg<A: Access>(folio: u64) -> u64 {
    // SAFETY: fields of the folio, and a probed read of an object cgroup that the folio holds.
    unsafe {
        if !has(Symbol::FolioMemcg) {
            // A typed pointer to the verifier, which the comparisons below are not for: probed.
            return Probed::word(at(folio, Symbol::PageMemcg));
        }
        let word = A::word(at(folio, Symbol::FolioMemcg));
        if word & VECTOR != 0 {
            return 0;
        }
        let owner = word & !FLAGS;
        // 7.2 charges all folios to object cgroups; then the gather has one as well.
        if owner != 0 && (word & KERNEL != 0 || has(Symbol::UnchargeObjcg)) {
            return Probed::word(at(owner, Symbol::ObjcgMemcg));
        }
        owner
    }
}

/// Whether it is a page of a file, not of a swapped process.
#[inline(always)]
pub fn is_file(folio: u64) -> bool {
    // Probed: to the verifier it is a typed pointer, whose bits may not be looked at.
    // SAFETY: a field of the folio.
    let mapping = unsafe { Probed::word(at(folio, Symbol::FolioMapping)) };
    mapping != 0 && mapping & NO_FILE == 0
}

/// Device and inode of a `struct address_space`, which must not be null.
#[inline(always)]
pub fn file<A: Access>(mapping: u64) -> (u32, u64) {
    // SAFETY: fields of `address_space`, `inode` and `super_block`; see `Access`.
    unsafe {
        let inode = A::word(at(mapping, Symbol::AddressSpaceHost));
        let ino = A::word(at(inode, Symbol::InodeIno));
        let sb = A::word(at(inode, Symbol::InodeSb));
        (A::half(at(sb, Symbol::SbDev)), ino)
    }
}
