//! Looks for newlines in what a task has written: lengths and counts, kept in a map value of this CPU, because the
//! verifier does not track those and so takes a loop over them for any other. What was looked at is wiped out of it.

mod back;
mod bounded;
mod length;
mod newline;

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel, bpf_probe_read_user};
use tracer_ebpf::abi::line::LengthKey;

use self::newline::{HIGHS, lowest, newlines, taken, window};
pub use self::{back::back, bounded::run_bounded, length::count_line};

/// Bytes that are copied at a time.
pub const CHUNK: usize = 4096;
/// Bytes that one step looks at.
const WINDOW: usize = 256;
/// Most of one write that is looked at: about a millisecond with preemption off.
pub const MOST: u64 = 4 << 20;
/// Steps for one write: enough for a mebibyte of the shortest lines, and for `MOST` of ordinary ones.
const STEPS: u32 = 200_000;
/// Lengths of lines that lie within 64 bytes.
const SMALL: usize = 64;
/// Longest write that is first taken for one line.
const SHORT: u64 = 256;

/// One write being looked at.
#[repr(C)]
pub struct Scan {
    /// Key of the stream, and of a group of its lengths. Here and not on the stack, like all that a step uses: the
    /// verifier tells states apart by who wrote what on the stack.
    pub stream: u64,
    length: LengthKey,
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
    /// Lines of the same bucket that have not been counted yet,
    run: u64,
    run_group: u32,
    run_slot: u32,
    /// and the first line of another that has to wait for that.
    next: u64,
    next_group: u32,
    next_slot: u32,
    /// Lines within a window, by length, and whether there are any.
    small: [u64; SMALL],
    any_small: u64,
    /// Most that the buffer held.
    used: u64,
    /// A `struct iovec`.
    segment: [u64; 2],
    buffer: [u64; (CHUNK + WINDOW) / 8],
}

/// The compiler makes of assignments side by side a call of `memset`, which goes byte by byte.
#[inline(always)]
fn clear(value: &mut u64) {
    // SAFETY: a reference.
    unsafe { core::ptr::write_volatile(value, 0) }
}

/// A number that is no greater than the mask already: the verifier may have lost what the compiler knows.
#[inline(always)]
fn masked<const MASK: i32>(mut number: u64) -> u64 {
    // SAFETY: arithmetic.
    unsafe {
        asm!("{number} &= {mask}", number = inout(reg) number, mask = const MASK, options(pure, nomem, nostack))
    }
    number
}

impl Scan {
    /// Begins with a write of so many bytes to a stream; where they are is for the caller to say.
    #[inline(always)]
    pub fn begin(&mut self, stream: u64, written: u64) {
        self.stream = stream;
        self.written = written;
        self.left = if written > MOST { MOST } else { written };
        self.unscanned = written - self.left;
        clear(&mut self.segments);
        clear(&mut self.user_segments);
        clear(&mut self.at);
        clear(&mut self.in_segment);
        clear(&mut self.skip);
        clear(&mut self.filled);
        clear(&mut self.place);
        clear(&mut self.before);
        clear(&mut self.start);
        clear(&mut self.lines);
        clear(&mut self.first);
        clear(&mut self.max);
        clear(&mut self.run);
        clear(&mut self.next);
        clear(&mut self.used);
    }

    /// Begins and ends with a write without a newline but at its end, as that of most programs that log: no loop, no
    /// helper but the one that copies. `false` if it is another, and nothing has happened.
    #[inline(always)]
    pub fn short(&mut self, stream: u64, written: u64, at: u64) -> bool {
        if written == 0 || written > SHORT {
            return false;
        }
        let buffer = &raw mut self.buffer;
        let mut size = written;
        // Changes nothing: the verifier may have lost what it knew of the number.
        // SAFETY: arithmetic.
        unsafe {
            asm!("{size} &= {mask}", size = inout(reg) size, mask = const 2 * SHORT - 1, options(pure, nomem))
        }
        // SAFETY: the buffer has room for all of it; the address is the task's, and the helper fails on a bad one.
        let failed = unsafe { bpf_probe_read_user(buffer.cast(), size as u32, at as *const c_void) };
        // What a failed read left is zeros.
        if failed != 0 {
            return false;
        }
        // SAFETY: within the buffer.
        let (last, base) = unsafe {
            let last = buffer.cast::<u8>().add(masked::<{ SHORT as i32 - 1 }>(written - 1) as usize);
            let byte = last.read_volatile();
            last.write_volatile(0);
            (byte, buffer as u64)
        };
        // Behind what was copied are zeros, which each look leaves behind it.
        // SAFETY: `SHORT` bytes are four windows.
        let found = unsafe {
            let mut found = taken::<0>(base);
            if written > 64 {
                found |= taken::<64>(base);
            }
            if written > 128 {
                found |= taken::<128>(base);
                found |= taken::<192>(base);
            }
            found
        };
        if found & HIGHS != 0 {
            return false;
        }
        let ended = last == b'\n';
        self.stream = stream;
        self.written = written;
        self.unscanned = 0;
        self.before = 0;
        self.start = 0;
        self.place = if ended { 0 } else { written };
        self.lines = u64::from(ended);
        self.first = written - 1;
        self.max = 0;
        true
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
        self.run = self.next;
        self.run_group = self.next_group;
        self.run_slot = self.next_slot;
        self.flush();
        self.flush_small();
        let mut used = self.used;
        if used > CHUNK as u64 {
            used = CHUNK as u64;
        }
        // A read that fails clears its buffer: what was written does not stay here.
        // SAFETY: the buffer is as large as a chunk.
        unsafe {
            bpf_probe_read_kernel((&raw mut self.buffer).cast(), used as u32, core::ptr::null());
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

    /// The lines that end in the next word with a newline, or the next stretch without one; `true` when nothing is left.
    /// No constant is compared, and what a step does not have to do at once waits for a step of its own: the verifier
    /// follows each way of a step to its end, and each step of a bounded loop.
    #[inline(always)]
    fn step<const WIDE: bool>(&mut self) -> bool {
        if !WIDE && self.next > 0 {
            self.flush();
            self.run = self.next;
            self.run_group = self.next_group;
            self.run_slot = self.next_slot;
            self.next = 0;
            return false;
        }
        let mut at = self.place;
        if at >= self.filled {
            return self.refill();
        }
        let base = (&raw const self.buffer) as u64 + (at & (CHUNK as u64 - 1));
        if WIDE {
            // SAFETY: `base` is within the chunk, and a window follows it.
            unsafe {
                if window::<0>(base) & HIGHS == 0 {
                    at += 64;
                    if window::<64>(base) & HIGHS == 0 {
                        at += 64;
                        if window::<128>(base) & HIGHS == 0 {
                            at += 64;
                            if window::<192>(base) & HIGHS == 0 {
                                return self.none_until(at + 64);
                            }
                        }
                    }
                }
            }
            if at >= self.filled {
                return self.none_until(at);
            }
        }
        let base = (&raw const self.buffer) as u64 + (at & (CHUNK as u64 - 1));
        // SAFETY: as above.
        let mut newlines = unsafe { newlines(base) };
        let valid = self.filled - at;
        if valid < 64 {
            // What stands behind is left from before.
            newlines &= (1 << valid) - 1;
        }
        if newlines == 0 {
            return self.none_until(at + 64);
        }
        let mut last = lowest(newlines);
        newlines &= newlines - 1;
        let length = self.before + at + last - self.start;
        let mut lines = 1;
        macro_rules! more {
            () => {};
            (@rest $bits:ident) => {};
            (@rest $bits:ident $($rest:tt)+) => { $bits &= $bits - 1; };
            ($one:tt $($rest:tt)*) => {
                if newlines != 0 {
                    let place = lowest(newlines);
                    more!(@rest newlines $($rest)*);
                    self.small[(place - last - 1) as usize & (SMALL - 1)] += 1;
                    self.any_small = 1;
                    last = place;
                    lines += 1;
                    more!($($rest)*);
                }
            };
        }
        more!(1 2 3 4 5 6 7 8);
        self.place = at + last + 1;
        self.start = self.before + at + last + 1;
        if self.lines == 0 {
            // The stream knows what came before it.
            self.first = length;
        } else {
            if length > self.max {
                self.max = length;
            }
            self.record::<WIDE>(length);
        }
        self.lines += lines;
        false
    }

    /// No newline stands before that place.
    #[inline(always)]
    fn none_until(&mut self, at: u64) -> bool {
        self.place = if at < self.filled { at } else { self.filled };
        false
    }

    #[inline(always)]
    fn refill(&mut self) -> bool {
        self.before += self.filled;
        clear(&mut self.filled);
        clear(&mut self.place);
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
        let mut failed = -1;
        if self.segments != 0 {
            // Not on the stack: of that the verifier tells states apart by who wrote where.
            let into = (&raw mut self.segment).cast();
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
        let [base, mut length] = self.segment;
        self.at = base + self.skip;
        length = length.saturating_sub(self.skip);
        self.skip = 0;
        self.in_segment = if length < self.left { length } else { self.left };
        false
    }
}

#[inline(never)]
extern "C" fn callback(_: u64, scan: *mut *mut Scan) -> u64 {
    // SAFETY: `Scan::run` passes the address of a map value.
    u64::from(unsafe { (**scan).step::<true>() })
}
