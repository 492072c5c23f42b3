//! Newlines in words of eight bytes, without a loop over the bytes.

use core::arch::asm;

use tracer_ebpf::abi::line::octave_of_power;

const NEWLINES: u64 = 0x0a0a_0a0a_0a0a_0a0a;
const ONES: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks zero bytes of a word with their highest bit; above the lowest of them it may mark others, too.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

/// Marks zero bytes of a word, and no others, with their highest bit.
#[inline(always)]
fn exact_zeros(word: u64) -> u64 {
    !((word & !HIGHS).wrapping_add(!HIGHS) | word | !HIGHS)
}

/// Place of the lowest bit.
#[inline(always)]
pub(super) fn lowest(bits: u64) -> u64 {
    u64::from(octave_of_power(bits & bits.wrapping_neg()))
}

/// A word wherever it stands: the compiler would put it together from bytes.
#[inline(always)]
unsafe fn load<const OFFSET: i32>(base: u64) -> u64 {
    let word: u64;
    // SAFETY: the caller vouches for the memory.
    unsafe {
        asm!("{word} = *(u64 *)({base} + {offset})", base = in(reg) base, offset = const OFFSET, word = out(reg) word,
             options(pure, readonly, nostack));
    }
    word
}

/// Marks of 64 bytes, to be masked with `HIGHS`.
#[inline(always)]
pub(super) unsafe fn window<const AT: i32>(base: u64) -> u64 {
    let base = base + AT as u64;
    // SAFETY: as the caller's.
    unsafe {
        zeros(load::<0>(base) ^ NEWLINES)
            | zeros(load::<8>(base) ^ NEWLINES)
            | zeros(load::<16>(base) ^ NEWLINES)
            | zeros(load::<24>(base) ^ NEWLINES)
            | zeros(load::<32>(base) ^ NEWLINES)
            | zeros(load::<40>(base) ^ NEWLINES)
            | zeros(load::<48>(base) ^ NEWLINES)
            | zeros(load::<56>(base) ^ NEWLINES)
    }
}

/// The same, and wipes them.
#[inline(always)]
pub(super) unsafe fn taken<const AT: i32>(base: u64) -> u64 {
    macro_rules! wipe {
        ($($word:literal)+) => {
            // SAFETY: as the caller's.
            unsafe { $(((base + AT as u64 + 8 * $word) as *mut u64).write_volatile(0);)+ }
        };
    }
    // SAFETY: as the caller's.
    let found = unsafe { window::<AT>(base) };
    wipe!(0 1 2 3 4 5 6 7);
    found
}

/// A bit for each newline of 64 bytes. Without a branch: the verifier would follow each way.
#[inline(always)]
pub(super) unsafe fn newlines(base: u64) -> u64 {
    // Gathers the highest bits of eight bytes into one.
    const GATHER: u64 = 0x0002_0408_1020_4081;
    macro_rules! bits {
        ($($word:literal)+) => {
            $(
                // SAFETY: as the caller's.
                ((exact_zeros(unsafe { load::<{ 8 * $word }>(base) } ^ NEWLINES) >> 7).wrapping_mul(GATHER << 7) >> 56) << (8 * $word)
            )|+
        };
    }
    bits!(0 1 2 3 4 5 6 7)
}
