//! Streams of log lines: which one a write goes to, and what it adds to it.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::abi::{
    event::Kind,
    failure::Failure,
    line::{Medium, Mode, Stream, key},
};

use crate::{
    atomic::{self, Atomics},
    emit::{lose, send},
    file::{Current, Node},
    globals::want_lengths,
    maps::{LOG_EPOCH, SCANS, STREAM_MODES, STREAMS},
    memcg::current_id,
    scan::{Scan, count_line},
};

/// Writes after which a stream's mode is looked up again.
const MODE_AGE: u64 = 64;

/// Which of this CPU's places for a scan a program uses: a fexit program can be preempted by another.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Place {
    Pipe = 0,
    Terminal = 1,
    Socket = 2,
    /// Of the copies of the program for pipes.
    Second = 3,
    Third = 4,
    Fourth = 5,
}

/// How a program does what kernels do differently.
pub trait Kernel {
    type Atomics: Atomics;
    type Current: Current;
    /// What the kernel writes to a pipe from memory of its own is somebody's write: before 5.12 (b964bf53e540) sendfile, which
    /// is counted by itself, wrote so.
    const FROM_KERNEL: bool;
    /// Looks at all of a write.
    fn scan(scan: *mut Scan, place: Place);
}

#[inline(always)]
fn thread_group() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The stream that the current task writes to; made if it is new.
#[inline(always)]
pub fn written<K: Kernel>(node: Node) -> Option<(u64, *mut Stream)> {
    let group = thread_group();
    let mut cgroup = 0;
    if node.medium == Medium::Pty {
        cgroup = current_id::<K::Current>();
    }
    let key = key(node.dev, node.ino, cgroup);
    let stream = match STREAMS.get_ptr_mut(key) {
        Some(stream) => stream,
        // User space says which sockets are.
        None if node.medium == Medium::Socket => return None,
        None => made(key, node)?,
    };
    // SAFETY: a valid map value; who wrote last is for the last writer to say.
    unsafe {
        if (*stream).writer != group {
            (*stream).writer = group;
            (*stream).writer_cgroup = if cgroup == 0 { current_id::<K::Current>() } else { cgroup };
        }
        if (*stream).writes % MODE_AGE == 0
            && let Some(mode) = STREAM_MODES.get(key)
        {
            (*stream).mode = *mode;
        }
        // Two at once may count as one.
        (*stream).writes += 1;
    }
    Some((key, stream))
}

#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value the stream would be on the small stack twice"
)]
fn made(key: u64, node: Node) -> Option<*mut Stream> {
    let new = Stream {
        bytes: 0,
        lines: 0,
        max: 0,
        open: 0,
        max_open: 0,
        unscanned: 0,
        read: 0,
        writer_cgroup: 0,
        reader_cgroup: 0,
        ino: node.ino,
        writer: 0,
        reader: 0,
        dev: node.dev,
        medium: node.medium as u32,
        writes: 0,
        epoch: 0,
        mode: Mode::Scan as u32,
    };
    // BPF_NOEXIST: another CPU may have made it meanwhile.
    let _ = STREAMS.insert(key, &new, 1);
    let found = STREAMS.get_ptr_mut(key);
    if found.is_none() {
        lose(Failure::StreamsFull);
    }
    found
}

/// Whether lines of the stream are counted: not of what a relay passes on, nor of what one container says to itself.
#[inline(always)]
pub fn scans(stream: *mut Stream) -> bool {
    // SAFETY: a valid map value.
    unsafe {
        (*stream).mode == Mode::Scan as u32
            && ((*stream).reader == 0 || (*stream).reader_cgroup != (*stream).writer_cgroup)
    }
}

/// So many bytes went through that nothing can look at.
#[inline(always)]
pub fn unseen(key: u64, stream: *mut Stream, bytes: u64) {
    // SAFETY: a valid map value.
    unsafe {
        atomic::add(&raw mut (*stream).bytes, bytes);
        if (*stream).mode == Mode::Scan as u32 {
            atomic::add(&raw mut (*stream).unscanned, bytes);
        }
    }
    tell(key, stream);
}

/// So many bytes were written that need no look.
#[inline(always)]
pub fn passed(key: u64, stream: *mut Stream, bytes: u64) {
    // SAFETY: a valid map value.
    unsafe { atomic::add(&raw mut (*stream).bytes, bytes) }
    tell(key, stream);
}

/// What a scan found, to its stream, at once: two writers of one stream stay exact.
#[inline(always)]
pub fn commit<A: Atomics>(scan: &Scan, stream: *mut Stream) {
    // SAFETY: a valid map value.
    unsafe {
        atomic::add(&raw mut (*stream).bytes, scan.written);
        if scan.unscanned > 0 {
            atomic::add(&raw mut (*stream).unscanned, scan.unscanned);
        }
        let tail = scan.tail();
        if scan.lines == 0 {
            if tail > 0 {
                let open = A::fetch_add(&raw mut (*stream).open, tail) + tail;
                A::raise(&raw mut (*stream).max_open, open);
            }
        } else {
            // Where nothing was open and nothing is left open there is nothing to exchange: what another writer adds
            // from here on comes after this.
            let open = &raw mut (*stream).open;
            let before = if tail == 0 && open.read_volatile() == 0 { 0 } else { A::swap(open, tail) };
            let length = before + scan.first;
            if tail > 0 {
                A::raise(&raw mut (*stream).max_open, tail);
            }
            A::raise(&raw mut (*stream).max, if length > scan.max { length } else { scan.max });
            atomic::add(&raw mut (*stream).lines, scan.lines);
            if want_lengths() {
                count_line(scan.stream, length);
            }
        }
    }
    tell(scan.stream, stream);
}

/// User space looks at the streams that were written to since it last did, and at no others.
#[inline(always)]
fn tell(key: u64, stream: *mut Stream) {
    let Some(epoch) = LOG_EPOCH.get(0) else { return };
    // SAFETY: a valid map value; told twice is as good as once.
    unsafe {
        if (*stream).epoch != *epoch {
            (*stream).epoch = *epoch;
            send(Kind::StreamWritten, (*stream).writer_cgroup, key, u64::from((*stream).writer));
        }
    }
}

/// The current task took so many bytes from a stream.
#[inline(always)]
pub fn read<K: Kernel>(node: Node, bytes: u64) {
    let key = key(node.dev, node.ino, 0);
    let stream = match STREAMS.get_ptr_mut(key) {
        Some(stream) => stream,
        // A terminal's writers have streams of their own; its reader is noted here.
        None if node.medium == Medium::Pty => match made(key, node) {
            Some(stream) => stream,
            None => return,
        },
        None => return,
    };
    let group = thread_group();
    // SAFETY: a valid map value; who read last is for the last reader to say.
    unsafe {
        if (*stream).reader != group {
            (*stream).reader_cgroup = current_id::<K::Current>();
            (*stream).reader = group;
        }
        atomic::add(&raw mut (*stream).read, bytes);
    }
    tell(key, stream);
}

/// This CPU's place for a scan.
#[inline(always)]
pub fn place(place: Place) -> Option<*mut Scan> {
    SCANS.get_ptr_mut(place as u32)
}
