//! Every map, in one place. User space sets the number of entries before loading and shrinks what a command
//! does not use to one.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_ebpf::abi::{
    counter::CgroupCount,
    failure::Failure,
    site::{Frames, SiteCount, SiteKey},
};

/// Rare transitions.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Counts by kernfs id of the memory cgroup.
#[map]
pub static CGROUPS: PerCpuHashMap<u64, CgroupCount> = PerCpuHashMap::with_max_entries(1, 0);

/// Losses by `Failure`.
#[map]
pub static FAILURES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Failure::COUNT, 0);

/// Charges between a function's entry and its return, where only kprobes exist: (what is charged, pages, stack).
#[map]
pub static IN_FLIGHT: HashMap<u64, [u64; 3]> = HashMap::with_max_entries(1, 0);

/// Memory cgroups whose charges are followed to their sites, and the pages that a CPU has not yet told of.
#[map]
pub static SITE_TARGETS: PerCpuHashMap<u64, u64> = PerCpuHashMap::with_max_entries(1, 0);

/// What each site charged.
#[map]
pub static SITES: HashMap<SiteKey, SiteCount> = HashMap::with_max_entries(1, 0);

/// Kernel stacks by a hash of 64 bits. Not a stack trace map: that has one place for each remainder of its own hash, so
/// that of a hundred stacks in two thousand places some find theirs taken.
#[map]
pub static STACKS: HashMap<u64, Frames> = HashMap::with_max_entries(1, 0);

/// The kernel's `memory_cgrp_subsys`, learned from the first task seen: tells a memory counter from others.
#[map]
pub static MEMORY_SUBSYS: Array<u64> = Array::with_max_entries(1, 0);
