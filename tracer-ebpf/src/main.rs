//! The programs in the kernel. A file of `probe/` holds one probe: its handler once, then an entry of a line
//! per way of attaching it. What they share with user space stands in `lib.rs`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod access;
mod atomic;
mod emit;
mod file;
mod flight;
mod folio;
mod globals;
mod line;
mod maps;
mod memcg;
mod probe;
mod scan;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// `bpf_probe_read_kernel` and the ring buffer are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
