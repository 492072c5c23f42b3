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
        let inode = A::beginning(A::word(at(file, Symbol::FileInode)));
        let mode = A::quarter_of(&inode, number(Symbol::InodeMode)) & FORMAT;
        if mode == FIFO {
            return Some(of::<A>(&inode, Medium::Pipe));
        }
        if mode == SOCKET && !masters && sockets() {
            return Some(of::<A>(&inode, Medium::Socket));
        }
        if mode != CHARACTER {
            return None;
        }
        let device = A::half_of(&inode, number(Symbol::InodeRdev));
        if PTS.contains(&(device >> MINOR_BITS)) {
            return (!masters).then(|| of::<A>(&inode, Medium::Pty));
        }
        if masters && device == PTMX {
            let private = Probed::word(at(file, Symbol::FilePrivate));
            let tty = Probed::word(at(private, Symbol::TtyFileTty));
            let slave = Probed::word(at(tty, Symbol::TtyLink));
            let dentry = Probed::word(at(slave, Symbol::TtyDriverData));
            let inode = Probed::word(at(dentry, Symbol::DentryInode));
            return (inode != 0).then(|| of::<Probed>(&Probed::beginning(inode), Medium::Pty));
        }
    }
    None
}

/// # Safety
/// `inode` must be what `A` asks for.
#[inline(always)]
unsafe fn of<A: Access>(inode: &A::Beginning, medium: Medium) -> Node {
    // SAFETY: fields of `inode` and `super_block`.
    unsafe {
        let sb = A::word_of(inode, number(Symbol::InodeSb));
        Node { dev: A::half(at(sb, Symbol::SbDev)), ino: A::word_of(inode, number(Symbol::InodeIno)), medium }
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
            // typed pointer at a constant offset: no read through a helper is needed.
            if descriptor < EMBEDDED && Direct::word(at(table, Symbol::FdtFd)) == first {
                let file = slot(first, descriptor);
                return if file == 0 { None } else { node::<Direct>(file, masters) };
            }
            node::<Probed>(entry::<Direct>(table, descriptor)?, masters)
        }
    }
}

/// `NR_OPEN_DEFAULT` of 64-bit kernels, or less.
const EMBEDDED: u64 = 64;

/// A load of its own for each constant: merged into one, its offset would be no constant any more.
#[inline(always)]
unsafe fn slot(first: u64, descriptor: u64) -> u64 {
    let file: u64;
    macro_rules! slots {
        ($($number:literal)+) => {
            match descriptor {
                $(
                    // SAFETY: a load through a typed pointer.
                    $number => unsafe {
                        core::arch::asm!("{file} = *(u64 *)({first} + {offset})", first = in(reg) first,
                                         offset = const 8 * $number, file = out(reg) file);
                    }
                )+
                _ => return 0,
            }
        };
    }
    slots!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
           32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
    file
}

#[inline(always)]
fn entry<A: Access>(table: u64, descriptor: u64) -> Option<u64> {
    // SAFETY: fields of `fdtable`; the array behind it is probed.
    unsafe {
        let table = A::beginning(table);
        if descriptor >= u64::from(A::half_of(&table, number(Symbol::FdtMax))) {
            return None;
        }
        let file = Probed::word(A::word_of(&table, number(Symbol::FdtFd)) + 8 * descriptor);
        (file != 0).then_some(file)
    }
}
