//! Read-only globals that user space sets before loading. The verifier knows their values, so a branch on
//! an absent field costs nothing and needs nothing.

use core::ptr::{addr_of, read_volatile};

use tracer_ebpf::abi::{
    offsets::{ABSENT, Symbol},
    setting::Call,
};

#[unsafe(no_mangle)]
static OFFSETS: [u32; Symbol::COUNT] = [ABSENT; Symbol::COUNT];

#[unsafe(no_mangle)]
static MEMORY_HIERARCHY: u32 = 0;

#[unsafe(no_mangle)]
static SYSCALLS: [u32; Call::COUNT] = [ABSENT; Call::COUNT];

#[unsafe(no_mangle)]
static WANT_LENGTHS: u32 = 0;

#[unsafe(no_mangle)]
static EVERY_CALLER: u32 = 0;

#[unsafe(no_mangle)]
static CALL_ROOM: [u32; 2] = [1; 2];

#[unsafe(no_mangle)]
static WANT_LIVES: u32 = 0;

/// The number user space found for `symbol`, or `ABSENT`.
#[inline(always)]
pub fn number(symbol: Symbol) -> u32 {
    // SAFETY: the index is below COUNT by construction; volatile, because user space sets it after compilation.
    unsafe { read_volatile(addr_of!(OFFSETS).cast::<u32>().add(symbol as usize)) }
}

#[inline(always)]
pub fn has(symbol: Symbol) -> bool {
    number(symbol) != ABSENT
}

/// Hierarchy id of the memory controller.
#[inline(always)]
pub fn memory_hierarchy() -> u32 {
    // SAFETY: a static; volatile, because user space sets it after compilation.
    unsafe { read_volatile(addr_of!(MEMORY_HIERARCHY)) }
}

/// The number of a system call.
#[inline(always)]
pub fn syscall(call: Call) -> u32 {
    // SAFETY: as `number`.
    unsafe { read_volatile(addr_of!(SYSCALLS).cast::<u32>().add(call as usize)) }
}

/// Whether lengths of lines are wanted, not only their number.
#[inline(always)]
pub fn want_lengths() -> bool {
    // SAFETY: as `memory_hierarchy`.
    unsafe { read_volatile(addr_of!(WANT_LENGTHS)) != 0 }
}

/// Whether system calls of every memory cgroup are counted.
#[inline(always)]
pub fn every_caller() -> bool {
    // SAFETY: as `memory_hierarchy`.
    unsafe { read_volatile(addr_of!(EVERY_CALLER)) != 0 }
}

/// Buckets and blocks of system calls that a CPU has.
#[inline(always)]
pub fn call_room() -> [u32; 2] {
    // SAFETY: as `memory_hierarchy`.
    unsafe { read_volatile(addr_of!(CALL_ROOM)) }
}

/// Whether times of life of processes are wanted.
#[inline(always)]
pub fn want_lives() -> bool {
    // SAFETY: as `memory_hierarchy`.
    unsafe { read_volatile(addr_of!(WANT_LIVES)) != 0 }
}
