//! Lengths of lines, in the groups and buckets of their stream.

use tracer_ebpf::abi::{
    failure::Failure,
    line::{LengthKey, SLOTS, bucket},
};

use super::{SMALL, Scan};
use crate::{
    atomic,
    emit::lose,
    globals::want_lengths,
    maps::{LENGTHS, NO_LENGTHS},
};

impl Scan {
    /// A line of a length.
    #[inline(always)]
    pub(super) fn record<const WIDE: bool>(&mut self, length: u64) {
        if !want_lengths() {
            return;
        }
        let (group, slot) = bucket(length);
        if self.run == 0 || group == self.run_group && slot == self.run_slot {
            self.run_group = group;
            self.run_slot = slot;
            self.run += 1;
        } else if WIDE {
            self.flush();
            self.run_group = group;
            self.run_slot = slot;
            self.run = 1;
        } else {
            self.next_group = group;
            self.next_slot = slot;
            self.next = 1;
        }
    }

    #[inline(always)]
    pub(super) fn flush(&mut self) {
        if self.run > 0 {
            self.length = LengthKey { stream: self.stream, group: self.run_group, padding: 0 };
            if let Some(counts) = counts(&self.length) {
                // SAFETY: a valid map value; the slot is below SLOTS.
                unsafe { atomic::add(counts.add(self.run_slot as usize & (SLOTS - 1)), self.run) }
            }
            self.run = 0;
        }
    }

    /// Lines within windows: all of the first group, where each length has its bucket.
    #[inline(always)]
    pub(super) fn flush_small(&mut self) {
        if self.any_small == 0 {
            return;
        }
        self.any_small = 0;
        self.length = LengthKey { stream: self.stream, group: 0, padding: 0 };
        let counts = if want_lengths() { counts(&self.length) } else { None };
        for length in 0..SMALL {
            let lines = self.small[length];
            if lines > 0 {
                self.small[length] = 0;
                if length as u64 > self.max {
                    self.max = length as u64;
                }
                if let Some(counts) = counts {
                    // SAFETY: a valid map value; SMALL is below SLOTS.
                    unsafe { atomic::add(counts.add(length), lines) }
                }
            }
        }
    }
}

/// Counts one line.
#[inline(always)]
pub fn count_line(stream: u64, length: u64) {
    let (group, slot) = bucket(length);
    if let Some(counts) = counts(&LengthKey { stream, group, padding: 0 }) {
        // SAFETY: a valid map value; the slot is below SLOTS.
        unsafe { atomic::add(counts.add(slot as usize & (SLOTS - 1)), 1) }
    }
}

/// A stream's counts of a group of lengths.
#[inline(always)]
fn counts(key: &LengthKey) -> Option<*mut u64> {
    let mut found = LENGTHS.get_ptr_mut(key);
    if found.is_none()
        && let Some(none) = NO_LENGTHS.get(0)
    {
        // BPF_NOEXIST: another CPU may have made it meanwhile.
        let _ = LENGTHS.insert(key, none, 1);
        found = LENGTHS.get_ptr_mut(key);
    }
    if found.is_none() {
        lose(Failure::LengthsFull);
    }
    found.map(|counts| counts.cast())
}
