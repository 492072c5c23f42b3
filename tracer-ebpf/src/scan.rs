//! Looks for newlines in what a task has written: lengths and counts, kept in a map value of this CPU, because the
//! verifier does not track those and so takes a loop over them for any other. What was looked at is wiped out of it.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel, bpf_probe_read_user};
use tracer_ebpf::abi::{
    failure::Failure,
    line::{LengthKey, SLOTS, bucket},
};

use crate::{atomic, emit::lose, globals::want_lengths, maps::LENGTHS, maps::NO_LENGTHS};

/// Bytes that are copied at a time.
pub const CHUNK: usize = 4096;
/// Bytes that one step looks at.
const WINDOW: usize = 256;
/// Most of one write that is looked at: about a millisecond with preemption off.
pub const MOST: u64 = 4 << 20;
/// Steps for one write: enough for a mebibyte of the shortest lines.
const STEPS: u32 = (1 << 20) + (1 << 16);
/// The same without `bpf_loop`, until a tail call.
const STEPS_PLAIN: u32 = 64;

/// One write being looked at.
#[repr(C)]
pub struct Scan {
    /// Key of the stream.
    pub stream: u64,
    /// The segments not yet begun: address of a `struct iovec`, 0 if there is none.
    pub segments: u64,
    /// Whether that address is the task's.
    pub user_segments: u64,
    /// Address of the next byte, and how many follow there.
    pub at: u64,
    pub in_segment: u64,
    /// Bytes of the segment's beginning that belong to an earlier write.
    pub skip: u64,
    /// Bytes of the write not yet copied.
    pub left: u64,
    /// All of the write, and what of it was not to be looked at from the start.
    pub written: u64,
    /// Bytes in the buffer, and how many of them are done.
    filled: u64,
    place: u64,
    /// Bytes of the write before the buffer.
    before: u64,
    /// Where in the write the current line begins.
    start: u64,
    pub lines: u64,
    /// Length up to the first newline.
    pub first: u64,
    /// Longest of the lines after that.
    pub max: u64,
    pub unscanned: u64,
    /// Lines of the same bucket that have not been counted yet.
    run: u64,
    run_group: u32,
    run_slot: u32,
    /// Most that the buffer held.
    used: u64,
    /// The program was entered again by a tail call.
    pub resumed: u64,
    buffer: [u64; (CHUNK + WINDOW) / 8],
}

const NEWLINES: u64 = 0x0a0a_0a0a_0a0a_0a0a;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks zero bytes of a word with their highest bit; above the lowest of them it may mark others, too.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
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

impl Scan {
    /// Begins with a write of so many bytes to a stream; where they are is for the caller to say.
    #[inline(always)]
    pub fn begin(&mut self, stream: u64, written: u64) {
        self.stream = stream;
        self.segments = 0;
        self.user_segments = 0;
        self.at = 0;
        self.in_segment = 0;
        self.skip = 0;
        self.written = written;
        self.left = if written > MOST { MOST } else { written };
        self.unscanned = written - self.left;
        self.filled = 0;
        self.place = 0;
        self.before = 0;
        self.start = 0;
        self.lines = 0;
        self.first = 0;
        self.max = 0;
        self.run = 0;
        self.used = 0;
    }

    /// Bytes after the last newline, or all that were looked at.
    #[inline(always)]
    pub fn tail(&self) -> u64 {
        self.before + self.place - self.start
    }

    /// What is left when there is no time for more.
    #[inline(always)]
    pub fn end(&mut self) {
        self.unscanned += self.left + (self.filled - self.place);
        self.flush();
        let used = self.used;
        if used > 0 && used <= CHUNK as u64 {
            // A read that fails clears its buffer: what was written does not stay here.
            // SAFETY: the buffer is as large as a chunk.
            unsafe {
                bpf_probe_read_kernel((&raw mut self.buffer).cast(), used as u32, core::ptr::null());
            }
        }
    }

    /// Looks at all of it.
    #[inline(always)]
    pub fn run(&mut self) {
        // The verifier wants a pointer to the stack: there stands the address.
        let mut scan = core::ptr::from_mut(self);
        // SAFETY: the callback takes what is passed; both live through the call.
        unsafe {
            bpf_loop(STEPS, callback as *mut c_void, (&raw mut scan).cast(), 0);
        }
    }

    /// The same without the helper; `false` if there is more to do.
    #[inline(always)]
    pub fn run_plain(&mut self) -> bool {
        for _ in 0..STEPS_PLAIN {
            if self.step() {
                return true;
            }
        }
        false
    }

    /// The next line, or the next stretch without one; `true` when nothing is left.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let place = self.place;
        if place >= self.filled {
            return self.refill();
        }
        let base = (&raw const self.buffer) as u64 + (place & (CHUNK as u64 - 1));
        let mut found = 0;
        // SAFETY: `base` is within the chunk, and a window follows it.
        unsafe {
            if window::<0>(base) & HIGHS == 0 {
                found += 64;
                if window::<64>(base) & HIGHS == 0 {
                    found += 64;
                    if window::<128>(base) & HIGHS == 0 {
                        found += 64;
                        if window::<192>(base) & HIGHS == 0 {
                            found += 64;
                        }
                    }
                }
            }
        }
        let mut at = place + found;
        if found == WINDOW as u64 || at >= self.filled {
            self.place = if at < self.filled { at } else { self.filled };
            return false;
        }
        let base = (&raw const self.buffer) as u64 + (at & (CHUNK as u64 - 1));
        // SAFETY: as above.
        let (offset, word) = unsafe { first_word(base) };
        at += offset;
        let marks = zeros(word) & HIGHS;
        if word == 0 && self.lines > 0 && self.before + at == self.start && at + 8 <= self.filled {
            // Eight empty lines.
            self.place = at + 8;
            self.start += 8;
            self.lines += 8;
            self.record(0, 8);
            return false;
        }
        at += ((marks.wrapping_sub(1) & ONES).wrapping_mul(ONES) >> 56) - 1;
        if at >= self.filled {
            // What stands there is left from before.
            self.place = self.filled;
            return false;
        }
        let length = self.before + at - self.start;
        self.place = at + 1;
        self.start = self.before + at + 1;
        self.lines += 1;
        if self.lines == 1 {
            // The stream knows what came before it.
            self.first = length;
        } else {
            if length > self.max {
                self.max = length;
            }
            self.record(length, 1);
        }
        false
    }

    #[inline(always)]
    fn refill(&mut self) -> bool {
        self.before += self.filled;
        self.filled = 0;
        self.place = 0;
        if self.left == 0 {
            return true;
        }
        if self.in_segment == 0 {
            return self.next_segment();
        }
        let mut size = self.in_segment;
        if size > CHUNK as u64 {
            size = CHUNK as u64;
        }
        // SAFETY: the buffer has room for a chunk; the address is the task's, and the helper fails on a bad one.
        let failed = unsafe {
            bpf_probe_read_user((&raw mut self.buffer).cast(), size as u32, self.at as *const c_void)
        };
        self.at += size;
        self.in_segment -= size;
        self.left -= size;
        if failed != 0 {
            // It was paged out, or unmapped by another thread.
            self.unscanned += size;
        } else {
            self.filled = size;
            if size > self.used {
                self.used = size;
            }
        }
        false
    }

    #[inline(always)]
    fn next_segment(&mut self) -> bool {
        let mut segment = [0_u64; 2];
        let mut failed = -1;
        if self.segments != 0 {
            let into = (&raw mut segment).cast();
            // SAFETY: the buffer is as large as said; the helpers fail on a bad address.
            failed = unsafe {
                if self.user_segments != 0 {
                    bpf_probe_read_user(into, 16, self.segments as *const c_void)
                } else {
                    bpf_probe_read_kernel(into, 16, self.segments as *const c_void)
                }
            };
        }
        if failed != 0 {
            self.unscanned += self.left;
            self.left = 0;
            return true;
        }
        self.segments += 16;
        let [base, mut length] = segment;
        self.at = base + self.skip;
        length = length.saturating_sub(self.skip);
        self.skip = 0;
        self.in_segment = if length < self.left { length } else { self.left };
        false
    }

    /// So many lines of a length.
    #[inline(always)]
    fn record(&mut self, length: u64, lines: u64) {
        if !want_lengths() {
            return;
        }
        let (group, slot) = bucket(length);
        if group != self.run_group || slot != self.run_slot {
            self.flush();
            self.run_group = group;
            self.run_slot = slot;
        }
        self.run += lines;
    }

    #[inline(always)]
    fn flush(&mut self) {
        if self.run > 0 {
            count_lines(self.stream, self.run_group, self.run_slot, self.run);
            self.run = 0;
        }
    }
}

/// Counts lines of a bucket.
#[inline(always)]
pub fn count_lines(stream: u64, group: u32, slot: u32, lines: u64) {
    let key = LengthKey { stream, group, padding: 0 };
    let mut found = LENGTHS.get_ptr_mut(key);
    if found.is_none()
        && let Some(none) = NO_LENGTHS.get(0)
    {
        // BPF_NOEXIST: another CPU may have made it meanwhile.
        let _ = LENGTHS.insert(&key, none, 1);
        found = LENGTHS.get_ptr_mut(key);
    }
    match found {
        // SAFETY: a valid map value; the slot is below SLOTS.
        Some(counts) => unsafe {
            atomic::add(counts.cast::<u64>().add(slot as usize & (SLOTS - 1)), lines);
        },
        None => lose(Failure::LengthsFull),
    }
}

/// Marks of 64 bytes, to be masked with `HIGHS`.
#[inline(always)]
unsafe fn window<const AT: i32>(base: u64) -> u64 {
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

/// The first of eight words that holds a newline: its offset, and the word with zeros for newlines.
#[inline(always)]
unsafe fn first_word(base: u64) -> (u64, u64) {
    macro_rules! look {
        ($($offset:literal)+) => {
            $(
                // SAFETY: as the caller's.
                let word = unsafe { load::<$offset>(base) } ^ NEWLINES;
                if zeros(word) & HIGHS != 0 {
                    return ($offset, word);
                }
            )+
        };
    }
    look!(0 8 16 24 32 40 48);
    // SAFETY: as the caller's.
    (56, unsafe { load::<56>(base) } ^ NEWLINES)
}

#[inline(never)]
extern "C" fn callback(_: u64, scan: *mut *mut Scan) -> u64 {
    // SAFETY: `Scan::run` passes the address of a map value.
    u64::from(unsafe { (**scan).step() })
}
