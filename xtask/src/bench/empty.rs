//! The floor: a program that does nothing, on a raw tracepoint. bpftrace cannot make one of that kind.

use std::{
    ffi::CStr,
    io,
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

/// Numbers of `enum bpf_cmd` and `enum bpf_prog_type`, which are the system's interface.
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit`
const PROGRAM: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// The beginning of `union bpf_attr` for a program.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    version: u32,
    flags: u32,
}

/// and for opening a raw tracepoint.
#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    padding: u32,
}

/// Detached when dropped: a `tp_btf` program is attached by the same call and run by the same function.
pub(super) struct Empty {
    _attached: OwnedFd,
}

impl Empty {
    pub(super) fn attach(tracepoint: &CStr) -> Result<Self> {
        let load = Load {
            kind: RAW_TRACEPOINT,
            count: PROGRAM.len() as u32,
            instructions: PROGRAM.as_ptr() as u64,
            license: c"MIT".as_ptr() as u64,
            log: [0; 4],
            version: 0,
            flags: 0,
        };
        let program = bpf(PROG_LOAD, &load).context("cannot load an empty program")?;
        let open = Open { name: tracepoint.as_ptr() as u64, program: program.as_raw_fd() as u32, padding: 0 };
        let attached = bpf(RAW_TRACEPOINT_OPEN, &open).context("cannot attach an empty program")?;
        Ok(Self { _attached: attached })
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: both commands read as many bytes as said, and write none; what the addresses in them point to lives on.
    let made =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(made as i32) })
}
