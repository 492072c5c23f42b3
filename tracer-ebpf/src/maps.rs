//! Every map, in one place. User space sets the number of entries before loading and shrinks what a command
//! does not use to one.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_ebpf::abi::{
    blocked::{self, Blocked, BlockedCount, DurationKey, Durations},
    call::{Block, Bucket, Start, TARGET_PLACES, Targets},
    counter::CgroupCount,
    dead::{Dead, Sum, Walk},
    dirty::{DirtyCount, FileCount, FileKey},
    failure::Failure,
    line::{Counts, LengthKey, READER_WORDS, SLOTS, Stream},
    oom::ReclaimCount,
    signal::{SignalCount, SignalKey},
    site::{Frames, SiteCount, SiteKey},
    work::{LifeCount, LifeKey, Listener},
};

use crate::scan::Scan;

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

/// Pages made dirty, by file, process and memory cgroup.
#[map]
pub static DIRTY_FILES: HashMap<FileKey, FileCount> = HashMap::with_max_entries(1, 0);

/// The same without the file, for which there was no room.
#[map]
pub static DIRTY_BEYOND: HashMap<FileKey, FileCount> = HashMap::with_max_entries(1, 0);

/// Keys new in `DIRTY_FILES`, so that a process can be asked for the file's path while it lives. Wakes nobody; one that
/// finds no room is found in the map, later.
#[map]
pub static DIRTY_NEW: RingBuf = RingBuf::with_byte_size(16 * 1024, 0);

/// What else is counted of write-back, by kernfs id of the memory cgroup.
#[map]
pub static DIRTY_CGROUPS: PerCpuHashMap<u64, DirtyCount> = PerCpuHashMap::with_max_entries(1, 0);
/// What the OOM killer is at, by the task that it works for: memory cgroup at its limit, usage, limit.
#[map]
pub static OOM_LIMITS: HashMap<u64, [u64; 3]> = HashMap::with_max_entries(256, 0);

/// Direct reclaim by kernfs id of the memory cgroup of the task in it.
#[map]
pub static RECLAIMS: PerCpuHashMap<u64, ReclaimCount> = PerCpuHashMap::with_max_entries(1, 0);

/// Tasks in direct reclaim: since when, and in which of its kinds.
#[map]
pub static RECLAIMING: HashMap<u64, [u64; 2]> = HashMap::with_max_entries(4096, 0);

/// Signals that end a process.
#[map]
pub static SIGNALS: HashMap<SignalKey, SignalCount> = HashMap::with_max_entries(1, 0);

/// What a new entry of it is made of: too large for the stack.
#[map]
pub static SIGNAL_NEW: PerCpuArray<SignalCount> = PerCpuArray::with_max_entries(1, 0);
/// Connections that arrived, by listening port.
#[map]
pub static ARRIVALS: HashMap<Listener, u64> = HashMap::with_max_entries(1, 0);

/// How long processes lived that ended.
#[map]
pub static LIVES: HashMap<LifeKey, LifeCount> = HashMap::with_max_entries(1, 0);

/// Where the walk over memory cgroups stands.
#[map]
pub static DEAD_WALK: Array<Walk> = Array::with_max_entries(1, 0);

/// The dead ones it found, as far as there is room.
#[map]
pub static DEAD: Array<Dead> = Array::with_max_entries(1, 0);

/// All of them together, by the kernfs id of the living cgroup around them.
#[map]
pub static DEAD_SUMS: HashMap<u64, Sum> = HashMap::with_max_entries(1, 0);

/// Streams of log lines by key.
#[map]
pub static STREAMS: HashMap<u64, Stream> = HashMap::with_max_entries(1, 0);

/// Streams that are not to be scanned, by key: a `Mode`.
#[map]
pub static STREAM_MODES: HashMap<u64, u32> = HashMap::with_max_entries(1, 0);

/// Lengths of lines.
#[map]
pub static LENGTHS: HashMap<LengthKey, Counts> = HashMap::with_max_entries(1, 0);

/// What a new entry of `LENGTHS` is made from: too large for the stack.
#[map]
pub static NO_LENGTHS: Array<[u64; SLOTS]> = Array::with_max_entries(1, 0);

/// Counts the looks of user space.
#[map]
pub static LOG_EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// Thread groups whose reads matter, a bit each by the lowest bits of their id, where every read of the host comes by.
#[map]
pub static LOG_READERS: Array<[u64; READER_WORDS]> = Array::with_max_entries(1, 0);

/// How many sockets are streams: without any, none is looked at.
#[map]
pub static LOG_SOCKETS: Array<u32> = Array::with_max_entries(1, 0);

/// Writes being looked at, by `Place`.
#[map]
pub static SCANS: PerCpuArray<Scan> = PerCpuArray::with_max_entries(6, 0);

/// Tasks whose write was seen by one of the copies of a program, by the lowest bits of their id.
#[map]
pub static SEEN: Array<u32> = Array::with_max_entries(1, 0);

/// Writes and reads between a function's entry and its return: what the program's handler keeps.
#[map]
pub static LOG_FLIGHT: HashMap<u64, [u64; 4]> = HashMap::with_max_entries(1, 0);

/// `BPF_F_MMAPABLE` (5.5), of `enum` in linux/bpf.h, which is the system's interface.
const MAPPED: u32 = 1 << 10;

/// Memory cgroups whose system calls are counted.
#[map]
pub static CALL_TARGETS: Array<Targets> = Array::with_max_entries(TARGET_PLACES, MAPPED);

/// System calls under way.
#[map]
pub static CALL_STARTS: Array<Start> = Array::with_max_entries(1, 0);

/// System calls that returned; each CPU has its own stretch.
#[map]
pub static CALLS: Array<Bucket> = Array::with_max_entries(1, MAPPED);

/// How long they took; likewise.
#[map]
pub static CALL_TIMES: Array<Block> = Array::with_max_entries(1, MAPPED);

/// Tasks that are in uninterruptible sleep, by their number.
#[map]
pub static BLOCKED: HashMap<u32, Blocked> = HashMap::with_max_entries(1, 0);

/// How many of them there are, by the lowest bits of their number.
#[map]
pub static BLOCKED_SLOTS: Array<[u32; blocked::SLOTS]> = Array::with_max_entries(1, 0);

/// Those that left it, by kernfs id of the memory cgroup.
#[map]
pub static BLOCKED_TIMES: PerCpuHashMap<u64, BlockedCount> = PerCpuHashMap::with_max_entries(1, 0);

/// How long each was.
#[map]
pub static DURATIONS: HashMap<DurationKey, Durations> = HashMap::with_max_entries(1, 0);

/// What a new entry of `DURATIONS` is made from: too large for the stack.
#[map]
pub static NO_DURATIONS: Array<Durations> = Array::with_max_entries(1, 0);
