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

use aya_ebpf::{EbpfContext, maps::ProgramArray};
use tracer_ebpf::abi::line::Stream;

use crate::{
    atomic::{Fetching, Plain},
    file::{Node, Typed, Untyped},
    line::{Kernel, Place, commit, passed, place, scans, unseen, written},
    maps::STREAMS,
    scan::Scan,
};

/// 5.17 and later: `bpf_loop`, fetching atomics, the current task as a typed pointer.
pub(super) struct Looping;
/// Before: bounded loops that go on by tail calls.
pub(super) struct Bounded;

impl Kernel for Looping {
    type Atomics = Fetching;
    type Current = Typed;
    const RESUMES: bool = false;
    const FROM_KERNEL: bool = true;
    #[inline(always)]
    fn scan(scan: &mut Scan) -> bool {
        scan.run();
        true
    }
}

impl Kernel for Bounded {
    type Atomics = Plain;
    type Current = Untyped;
    const RESUMES: bool = true;
    const FROM_KERNEL: bool = false;
    #[inline(always)]
    fn scan(scan: &mut Scan) -> bool {
        scan.run_bounded()
    }
}

/// What one program is: its context, its place for a scan, and how it goes on.
pub(super) struct Program<'a, C: EbpfContext> {
    pub ctx: &'a C,
    pub place: Place,
    pub go_on: &'static ProgramArray,
}

impl<C: EbpfContext> Program<'_, C> {
    /// What a program does: goes on with a scan, if that is what it was entered for, else begins one, if `begin` finds
    /// something to look at. Written so that the scan stands in the program once.
    #[inline(always)]
    pub fn run<K: Kernel>(&self, begin: impl FnOnce() -> Option<Work>) -> i32 {
        let mut scan = None;
        // Null, not an option: the verifier would not know that where there is one there is a pointer.
        let mut stream = core::ptr::null_mut();
        let mut whole = false;
        if K::RESUMES {
            let Some(own) = place(self.place) else { return 0 };
            if own.resumed != 0 {
                own.resumed = 0;
                scan = Some(own);
            }
        }
        if scan.is_none() {
            let Some(work) = begin() else { return 0 };
            let Some(own) = place(self.place) else { return 0 };
            match work.bytes_at {
                At::Buffer(at) => {
                    whole = own.short(work.key, work.bytes, at);
                    if !whole {
                        own.begin(work.key, work.bytes);
                        own.at = at;
                        own.in_segment = own.left;
                    }
                }
                At::Segments { at, user, skip } => {
                    own.begin(work.key, work.bytes);
                    own.segments = at;
                    own.user_segments = user;
                    own.skip = skip;
                }
            }
            stream = work.stream;
            scan = Some(own);
        }
        let Some(scan) = scan else { return 0 };
        if !whole {
            if !K::scan(scan) {
                scan.resumed = 1;
                // SAFETY: nothing is held; the array has programs of this kind only. It returns only where it failed.
                unsafe { self.go_on.tail_call(self.ctx, self.place as u32) }
                scan.resumed = 0;
            }
            scan.end();
        }
        if K::RESUMES && stream.is_null() {
            // A program that was entered again has lost its pointer.
            stream = STREAMS.get_ptr_mut(scan.stream).unwrap_or_else(core::ptr::null_mut);
        }
        if !stream.is_null() {
            commit::<K::Atomics>(scan, stream);
        }
        0
    }
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
