//! Lines written to pipes and terminals, and who reads them: at the end of each write, on the bytes really taken.
//!
//! Kernel source: fs/pipe.c (`pipe_write`, since 6.16 `anon_pipe_write`, which FIFOs pass, too), drivers/tty/tty_io.c,
//! fs/splice.c. A system call's arguments still stand in the task's registers at its exit, so no entry is needed, but for
//! a classic tracepoint, which has no registers.
//! Cost: fexit 15 ns and the scan for those who use pipes, nothing for others; at every system call's exit 65-75 ns
//! for all, of which the hook itself is nearly all for calls that are no writes.

mod calls;
mod flight;
mod pairs;
mod returns;

use tracer_ebpf::abi::line::Stream;

use crate::{
    atomic::{Fetching, Plain},
    file::{Node, Typed, Untyped},
    line::{self, Kernel, Place, commit, passed, scans, unseen, written},
    scan::{Scan, back, run_bounded},
};

/// 5.17 and later: `bpf_loop`, fetching atomics, the current task as a typed pointer.
pub(super) struct Looping;
/// Before: bounded loops.
pub(super) struct Bounded;

impl Kernel for Looping {
    type Atomics = Fetching;
    type Current = Typed;
    const FROM_KERNEL: bool = true;
    #[inline(always)]
    fn scan(scan: *mut Scan, _: Place) {
        // SAFETY: the caller's place.
        unsafe { (*scan).run() }
    }
}

impl Kernel for Bounded {
    type Atomics = Plain;
    type Current = Untyped;
    const FROM_KERNEL: bool = false;
    #[inline(always)]
    fn scan(_: *mut Scan, place: Place) {
        run_bounded(place as u32);
    }
}

/// What a program does: looks at what `begin` finds to look at, in its place for a scan. Written so that the scan stands in
/// the program once.
#[inline(always)]
pub(super) fn look<K: Kernel>(place: Place, begin: impl FnOnce() -> Option<Work>) -> i32 {
    let Some(work) = begin() else { return 0 };
    let Some(scan) = line::place(place) else { return 0 };
    let mut whole = false;
    // SAFETY: a valid map value; only one program at a time uses a place: see `Place`.
    unsafe {
        match work.bytes_at {
            At::Buffer(at) => {
                whole = (*scan).short(work.key, work.bytes, at);
                if !whole {
                    (*scan).begin(work.key, work.bytes);
                    (*scan).at = at;
                    (*scan).in_segment = (*scan).left;
                }
            }
            At::Segments { at, user, skip } => {
                (*scan).begin(work.key, work.bytes);
                (*scan).segments = at;
                (*scan).user_segments = user;
                (*scan).skip = skip;
            }
            At::Behind { segment, gone } => {
                (*scan).begin(work.key, work.bytes);
                (*scan).segments = segment;
                (*scan).skip = gone;
                back(place as u32);
            }
        }
        if !whole {
            K::scan(scan, place);
            (*scan).end();
        }
        commit::<K::Atomics>(&*scan, work.stream);
    }
    0
}

/// A write to look at.
pub(super) struct Work {
    key: u64,
    stream: *mut Stream,
    bytes: u64,
    bytes_at: At,
}

/// Where written bytes are.
pub(super) enum At {
    /// Address of the first.
    Buffer(u64),
    /// Address of `struct iovec`s, whether that is the task's, and bytes of the first segment that are an earlier write's.
    Segments { at: u64, user: u64, skip: u64 },
    /// Address of the `struct iovec` in which they end, and bytes of it up to there.
    Behind { segment: u64, gone: u64 },
}

/// The current task wrote so many bytes to a stream; `at` says where they are, if that can be said.
#[inline(always)]
pub(super) fn wrote<K: Kernel>(node: Node, bytes: u64, at: impl FnOnce() -> Option<At>) -> Option<Work> {
    let (key, stream) = written::<K>(node)?;
    if !scans(stream) {
        passed(key, stream, bytes);
        return None;
    }
    let bytes_at = at();
    if bytes_at.is_none() {
        unseen(key, stream, bytes);
    }
    Some(Work { key, stream, bytes, bytes_at: bytes_at? })
}

/// Bytes that were moved without a buffer of the task's.
#[inline(always)]
pub(super) fn moved<K: Kernel>(node: Node, bytes: u64) {
    if let Some((key, stream)) = written::<K>(node) {
        unseen(key, stream, bytes);
    }
}
