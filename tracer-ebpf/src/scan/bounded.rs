//! The loop over a write where there is no `bpf_loop`: by functions that the kernel verifies by themselves, once each ("global"
//! ones). The verifier walks every round of a loop, but not what such a function does.

use crate::maps::SCANS;

/// Their product is how many steps one write gets, about `STEPS`. The verifier walks the rounds of each loop, for itself.
const ROUNDS: u32 = 96;
const MANY: u32 = 128;
const FEW: u32 = 16;

/// Looks at all of the write in a place.
#[inline(always)]
pub fn run_bounded(place: u32) {
    for _ in 0..ROUNDS {
        if scan_many(place) != 0 {
            return;
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_many(place: u32) -> u32 {
    for _ in 0..MANY {
        if scan_few(place) != 0 {
            return 1;
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_few(place: u32) -> u32 {
    let Some(scan) = SCANS.get_ptr_mut(place) else { return 1 };
    for _ in 0..FEW {
        // SAFETY: a valid map value; the caller is the one program that uses the place.
        if unsafe { (*scan).step::<false>() } {
            return 1;
        }
    }
    0
}
