//! Pairing of a function's entry with its return, where only kprobes exist.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id};
use tracer_ebpf::abi::failure::Failure;

use crate::{emit::lose, maps::IN_FLIGHT};

/// The task, or for the idle task (which charges in softirq) its CPU.
#[inline(always)]
fn key() -> u64 {
    let task = bpf_get_current_pid_tgid();
    // SAFETY: the helper has no preconditions.
    if task != 0 { task } else { (1 << 63) | u64::from(unsafe { bpf_get_smp_processor_id() }) }
}

/// Keeps what the return will need; without it, it is lost as `failure` says.
#[inline(always)]
pub fn enter(what: [u64; 3], failure: Failure) {
    if IN_FLIGHT.insert(key(), what, 0).is_err() {
        lose(failure);
    }
}

/// What the entry kept, if it did.
#[inline(always)]
pub fn leave() -> Option<[u64; 3]> {
    let key = key();
    // SAFETY: the value is copied at once; only this task's own return removes it.
    let found = unsafe { IN_FLIGHT.get(key) }.copied()?;
    let _ = IN_FLIGHT.remove(key);
    Some(found)
}
