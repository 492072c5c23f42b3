//! From a descriptor or an open file to the pipe or terminal behind it.

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_get_current_task_btf};
use tracer_ebpf::abi::{line::Medium, offsets::Symbol};

use crate::{
    access::{Access, Direct, Probed},
    globals::number,
    maps::LOG_SOCKETS,
};

/// What a file is, as far as streams are concerned.
#[derive(Clone, Copy)]
pub struct Node {
    pub dev: u32,
    pub ino: u64,
    pub medium: Medium,
}

/// Numbers of `S_IFMT` and devices.txt are the system's interface, not a kernel header's.
const FORMAT: u16 = 0o170_000;
const FIFO: u16 = 0o010_000;
const CHARACTER: u16 = 0o020_000;
const SOCKET: u16 = 0o140_000;
const MINOR_BITS: u32 = 20;
const PTS: core::ops::RangeInclusive<u32> = 136..=143;
const PTMX: u32 = 5 << MINOR_BITS | 2;

/// Whether any socket is a stream.
#[inline(always)]
pub fn sockets() -> bool {
    LOG_SOCKETS.get(0).is_some_and(|count| *count > 0)
}

#[inline(always)]
fn at(base: u64, symbol: Symbol) -> u64 {
    base + u64::from(number(symbol))
}

/// Pipe, FIFO or terminal slave behind a `struct file`; for a terminal's master its slave, if `masters`.
#[inline(always)]
pub fn node<A: Access>(file: u64, masters: bool) -> Option<Node> {
    // SAFETY: fields of `file`, `inode` and `super_block`; see `Access`.
    unsafe {
        let inode = A::word(at(file, Symbol::FileInode));
        let mode = A::quarter(at(inode, Symbol::InodeMode)) & FORMAT;
        if mode == FIFO {
            return Some(of::<A>(inode, Medium::Pipe));
        }
        if mode == SOCKET && !masters && sockets() {
            return Some(of::<A>(inode, Medium::Socket));
        }
        if mode != CHARACTER {
            return None;
        }
        let device = A::half(at(inode, Symbol::InodeRdev));
        if PTS.contains(&(device >> MINOR_BITS)) {
            return (!masters).then(|| of::<A>(inode, Medium::Pty));
        }
        if masters && device == PTMX {
            let private = Probed::word(at(file, Symbol::FilePrivate));
            let tty = Probed::word(at(private, Symbol::TtyFileTty));
            let slave = Probed::word(at(tty, Symbol::TtyLink));
            let dentry = Probed::word(at(slave, Symbol::TtyDriverData));
            let inode = Probed::word(at(dentry, Symbol::DentryInode));
            return (inode != 0).then(|| of::<Probed>(inode, Medium::Pty));
        }
    }
    None
}

/// # Safety
/// `inode` must be what `A` asks for.
#[inline(always)]
unsafe fn of<A: Access>(inode: u64, medium: Medium) -> Node {
    // SAFETY: fields of `inode` and `super_block`.
    unsafe {
        let sb = A::word(at(inode, Symbol::InodeSb));
        Node { dev: A::half(at(sb, Symbol::SbDev)), ino: A::word(at(inode, Symbol::InodeIno)), medium }
    }
}

/// How the current task is had.
pub trait Current {
    type Access: Access;
    fn task() -> u64;
    /// The stream behind the current task's descriptor.
    fn node(descriptor: u64, masters: bool) -> Option<Node>;
}

/// As a typed pointer (5.11, 3ca1032ab7ab).
pub struct Typed;
/// As a mere address.
pub struct Untyped;

impl Current for Untyped {
    type Access = Probed;

    #[inline(always)]
    fn task() -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_current_task() }
    }

    #[inline(always)]
    fn node(descriptor: u64, masters: bool) -> Option<Node> {
        // SAFETY: probed reads.
        let table =
            unsafe { Probed::word(at(Probed::word(at(Self::task(), Symbol::TaskFiles)), Symbol::FilesFdt)) };
        node::<Probed>(entry::<Probed>(table, descriptor)?, masters)
    }
}

impl Current for Typed {
    type Access = Direct;

    #[inline(always)]
    fn task() -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_current_task_btf() as u64 }
    }

    #[inline(always)]
    fn node(descriptor: u64, masters: bool) -> Option<Node> {
        // SAFETY: typed fields of `task_struct`, `files_struct` and `fdtable`.
        unsafe {
            let files = Direct::word(at(Self::task(), Symbol::TaskFiles));
            let table = Direct::word(at(files, Symbol::FilesFdt));
            let first = at(files, Symbol::FilesArray);
            // The first 64 descriptors of a process with no more stand in `files_struct` itself, where each is a
            // typed pointer at a constant offset: for the usual ones no read through a helper is needed.
            if descriptor <= 2 && Direct::word(at(table, Symbol::FdtFd)) == first {
                return match descriptor {
                    1 => node::<Direct>(slot::<8>(first), masters),
                    2 => node::<Direct>(slot::<16>(first), masters),
                    _ => node::<Direct>(slot::<0>(first), masters),
                };
            }
            node::<Probed>(entry::<Direct>(table, descriptor)?, masters)
        }
    }
}

/// A load of its own for each constant: merged into one, its offset would be no constant any more.
#[inline(always)]
unsafe fn slot<const OFFSET: i32>(first: u64) -> u64 {
    let file: u64;
    // SAFETY: a load through a typed pointer.
    unsafe {
        core::arch::asm!("{file} = *(u64 *)({first} + {offset})", first = in(reg) first, offset = const OFFSET, file = out(reg) file);
    }
    file
}

#[inline(always)]
fn entry<A: Access>(table: u64, descriptor: u64) -> Option<u64> {
    // SAFETY: fields of `fdtable`; the array behind it is probed.
    unsafe {
        if descriptor >= u64::from(A::half(at(table, Symbol::FdtMax))) {
            return None;
        }
        let file = Probed::word(A::word(at(table, Symbol::FdtFd)) + 8 * descriptor);
        (file != 0).then_some(file)
    }
}
