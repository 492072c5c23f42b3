//! The ways out of the kernel: a count, an event, a loss.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes};
use tracer_ebpf::abi::{
    counter::CgroupCount,
    event::{Header, Kind, PATH_LEN, PathEvent},
    failure::Failure,
};

use crate::maps::{CGROUPS, EVENTS, FAILURES};

/// Counts a loss.
#[inline(always)]
pub fn lose(failure: Failure) {
    if let Some(count) = FAILURES.get_ptr_mut(failure as u32) {
        // SAFETY: this CPU's value; a nested program on it may lose one count of a loss.
        unsafe { *count += 1 }
    }
}

/// This CPU's counts of the memory cgroup `id`.
#[inline(always)]
pub fn count(id: u64) -> Option<*mut CgroupCount> {
    if id == 0 {
        return None;
    }
    if let Some(found) = CGROUPS.get_ptr_mut(id) {
        return Some(found);
    }
    let zero = CgroupCount { charged: 0, uncharged: 0, execs: 0, exits: 0 };
    // BPF_NOEXIST: another CPU may have made it meanwhile, and its counts must stay.
    let _ = CGROUPS.insert(id, zero, 1);
    let found = CGROUPS.get_ptr_mut(id);
    if found.is_none() {
        lose(Failure::CountersFull);
    }
    found
}

#[inline(always)]
fn header(kind: Kind, cgroup: u64, a: u64, b: u64) -> Header {
    // SAFETY: the helper has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    Header { kind: kind as u32, path_len: 0, at, cgroup, a, b }
}

/// Sends an event without a path.
#[inline(always)]
pub fn send(kind: Kind, cgroup: u64, a: u64, b: u64) {
    let Some(mut entry) = EVENTS.reserve::<Header>(0) else { return lose(Failure::RingFull) };
    entry.write(header(kind, cgroup, a, b));
    entry.submit(0);
}

/// Sends an event with the NUL-terminated path at the kernel address `path`.
#[inline(always)]
pub fn send_path(kind: Kind, cgroup: u64, path: u64) {
    let Some(mut entry) = EVENTS.reserve::<PathEvent>(0) else { return lose(Failure::RingFull) };
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved record is as large as the event; both parts are written before it is submitted,
    // and user space reads only `path_len` bytes of the path.
    let len = unsafe {
        (&raw mut (*event).header).write(header(kind, cgroup, 0, 0));
        let room = core::slice::from_raw_parts_mut((&raw mut (*event).path).cast::<u8>(), PATH_LEN);
        let len = bpf_probe_read_kernel_str_bytes(path as *const u8, room).map_or(0, <[u8]>::len);
        (*event).header.path_len = len as u32;
        len
    };
    if len >= PATH_LEN - 1 {
        lose(Failure::PathTruncated);
    }
    entry.submit(0);
}
