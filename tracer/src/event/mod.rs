//! BYTES. Every source of data turns what it reads into an [`Event`]; nothing downstream can tell which source
//! it was. Sources: the ring buffer and counters of the probes, cgroupfs, /proc.

pub mod blocked;
pub mod bpf_costs;
pub mod calls;
pub mod cgroupfs;
pub mod counters;
pub mod dead;
pub mod decode;
pub mod descriptors;
pub mod dirty;
pub mod kmsg;
mod mapped;
pub mod oom;
pub mod procfs;
pub mod reclaims;
pub mod signals;
pub mod sites;
pub mod streams;
pub mod survey;
pub mod sweep;
pub mod unix_sockets;
pub mod work;

use tracer_ebpf::abi::{
    counter::CgroupCount,
    dirty::{DirtyCount, FileKey},
    line::{Counts, Stream},
    oom::ReclaimCount,
};

/// The kernel's page size that counters are in.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Something that was seen. Sizes are bytes; `None` is "not known".
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A memory cgroup was made or renamed. `path` is missing where it was too long for an event.
    CgroupMade {
        id: u64,
        path: Option<String>,
    },
    CgroupRenamed {
        id: u64,
        path: Option<String>,
    },
    CgroupRemoved {
        id: u64,
        usage: Option<u64>,
        peak: Option<u64>,
    },
    /// The kernel let go of a removed cgroup.
    CgroupReleased {
        id: u64,
    },
    TaskMoved {
        id: u64,
        pid: u32,
    },
    /// A stream was written to or read, for the first time since its totals were read. `id`: the writer's memory cgroup.
    StreamWritten {
        id: u64,
        key: u64,
        pid: u32,
    },
    /// Totals of one stream since it was first written to.
    Stream {
        key: u64,
        stream: Box<Stream>,
    },
    /// Lines of a group of lengths of one stream, likewise.
    Lengths {
        key: u64,
        group: u32,
        counts: Box<Counts>,
    },
    /// Totals since attach of one memory cgroup, summed over CPUs.
    Counted {
        id: u64,
        count: CgroupCount,
    },
    /// More of a file became dirty since the last look, by this process when it was first seen.
    Dirtied {
        key: FileKey,
        comm: String,
        bytes: u64,
    },
    /// What else came since the last look: pages of a memory cgroup that were written back, and the like.
    WrittenBack {
        id: u64,
        more: DirtyCount,
    },
    /// The kernel marked a task to be killed for want of memory.
    OomMarked(Box<oom::Mark>),
    /// Totals since attach of the direct reclaim of one memory cgroup's tasks, summed over CPUs.
    Reclaimed {
        id: u64,
        count: ReclaimCount,
    },
    /// Totals since it is followed: what a process charged to a memory cgroup through one kernel stack (`None`: the
    /// stack could not be kept).
    Charged {
        id: u64,
        pid: u32,
        comm: String,
        stack: Option<u64>,
        bytes: u64,
        samples: u64,
    },
    /// What cgroupfs says of one memory cgroup, with all below it.
    Sampled {
        id: u64,
        usage: Option<u64>,
        /// Only when it was read this time.
        stat: Option<Box<Stat>>,
    },
    Host(HostMemory),
    /// Totals since attach.
    Lost {
        what: &'static str,
        count: u64,
    },
}

/// One memory cgroup with all below it, from its files. Its fields mean what `Memory` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stat {
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub dirty: Option<u64>,
    pub writeback: Option<u64>,
    pub slab: Option<u64>,
    pub kernel: Option<u64>,
    /// `kernel` was derived from the others: this cgroup version does not say.
    pub kernel_inferred: bool,
    pub sock: Option<u64>,
    pub swap: Option<u64>,
    pub percpu: Option<u64>,
    pub vmalloc: Option<u64>,
    pub page_tables: Option<u64>,
    pub kernel_stack: Option<u64>,
    pub faults: Faults,
    /// Only when it was read this time, which is less often than the rest.
    pub more: Option<More>,
}

/// Counts of `memory.stat`, in pages, since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub pgmajfault: Option<u64>,
    pub refault_anon: Option<u64>,
    pub refault_file: Option<u64>,
    pub pswpin: Option<u64>,
    pub pswpout: Option<u64>,
}

/// Totals of `memory.pressure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stalls {
    pub some_us: u64,
    pub full_us: u64,
}

/// Files beside `memory.stat`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct More {
    /// The cgroup's own limit; unlimited is `None`.
    pub limit: Option<u64>,
    /// Of what is swapped out, likewise.
    pub swap_limit: Option<u64>,
    pub tasks: Option<u64>,
    /// Since the cgroup was made.
    pub oom_kills: Option<u64>,
    /// On v1 those of the cgroup alone, on v2 with all below it.
    pub kills_are_local: bool,
    /// CPU periods and throttled periods since the cgroup was made; `None` without a quota.
    pub throttled: Option<(u64, u64)>,
    /// v2 only, and where the kernel keeps it.
    pub stalls: Option<Stalls>,
}

/// One thread group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Its leader's.
    pub comm: String,
    /// `RssAnon`.
    pub anon: Option<u64>,
    /// `wchar` of `/proc/PID/io`: bytes that its system calls wrote to anything, but by sendmsg and splice.
    pub written: Option<u64>,
    /// Free bytes of the file system that it appends to files of; only when it was asked this time.
    pub disk_free: Option<u64>,
}

/// `/proc/meminfo`, and how many memory cgroups the kernel has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostMemory {
    pub total: Option<u64>,
    pub free: Option<u64>,
    pub available: Option<u64>,
    pub anon: Option<u64>,
    /// Page cache with buffers and tmpfs.
    pub cached: Option<u64>,
    /// Of that tmpfs and shared memory.
    pub shmem: Option<u64>,
    pub slab: Option<u64>,
    pub percpu: Option<u64>,
    /// Without kernel stacks, which are vmalloc'ed and counted apart.
    pub vmalloc: Option<u64>,
    pub page_tables: Option<u64>,
    pub kernel_stack: Option<u64>,
    pub hugetlb: Option<u64>,
    pub swap_free: Option<u64>,
    pub dead_cgroups: Option<DeadCgroups>,
}

/// Removed memory cgroups that the kernel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadCgroups {
    /// The kernel counts them.
    Measured(u64),
    /// A difference of two counts, or a count that other controllers share.
    Inferred(u64),
}
