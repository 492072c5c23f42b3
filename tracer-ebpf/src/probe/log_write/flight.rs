//! Between a function's entry and its return, or a system call's.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_ebpf::abi::failure::Failure;

use crate::{emit::lose, maps::LOG_FLIGHT};

/// What is under way: one of each can be in one task at a time.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Flight {
    Call = 0,
    Pipe = 1,
    Terminal = 2,
    Read = 3,
    Splice = 4,
    Socket = 5,
}

#[inline(always)]
fn flight_key(flight: Flight) -> u64 {
    // Thread group ids have 22 bits.
    bpf_get_current_pid_tgid() | (flight as u64) << 60
}

#[inline(always)]
pub(super) fn enter(flight: Flight, kept: [u64; 4]) {
    if LOG_FLIGHT.insert(flight_key(flight), kept, 0).is_err() {
        lose(Failure::WriteUnpaired);
    }
}

#[inline(always)]
pub(super) fn leave(flight: Flight) -> Option<[u64; 4]> {
    let key = flight_key(flight);
    // SAFETY: the value is copied at once; only this task's own return removes it.
    let found = unsafe { LOG_FLIGHT.get(key) }.copied()?;
    let _ = LOG_FLIGHT.remove(key);
    Some(found)
}
