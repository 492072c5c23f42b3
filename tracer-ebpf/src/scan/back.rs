//! From the end of a write back to the segment that holds its first byte, by functions that the kernel verifies by themselves
//! ("global" ones): in a program the verifier walks each round of the loop, as often as it comes there.

use tracer_ebpf::abi::offsets::Symbol;

use crate::{
    access::{Access, Probed},
    globals::number,
    maps::SCANS,
};

/// Their product is how many segments a write may have (UIO_MAXIOV), and some.
const MANY: u32 = 33;
const FEW: u32 = 32;

/// `segments` and `skip` of a scan say where its write ends, and where it begins after this. If that is not found, none of it
/// can be looked at.
#[inline(always)]
pub fn back(place: u32) {
    for _ in 0..MANY {
        if segments_back(place) != 0 {
            return;
        }
    }
    if let Some(scan) = SCANS.get_ptr_mut(place) {
        // SAFETY: a valid map value; the caller is the one program that uses the place.
        unsafe { (*scan).segments = 0 }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn segments_back(place: u32) -> u32 {
    let Some(scan) = SCANS.get_ptr_mut(place) else { return 1 };
    for _ in 0..FEW {
        // SAFETY: as above; a probed read of `struct iovec`.
        unsafe {
            if (*scan).skip >= (*scan).written {
                (*scan).skip -= (*scan).written;
                return 1;
            }
            (*scan).segments -= 16;
            (*scan).skip += Probed::word((*scan).segments + u64::from(number(Symbol::IovecLen)));
        }
    }
    0
}
