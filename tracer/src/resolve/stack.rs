//! Names of kernel stacks, and what kind of charge a stack is.
//!
//! A stack is read from the charge outwards: the first function that decides names the kind, so that a node of the
//! page-cache tree is slab, not page cache, and a fault on a buffer that is being written is a read.

use std::{collections::HashMap, io, sync::Arc};

use serde::Serialize;

use crate::kernel::kallsyms::Kallsyms;

/// What pages were charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    AnonFault,
    SwapIn,
    FileRead,
    FileWrite,
    Shmem,
    Slab,
    Sock,
    PageTables,
    KernelStack,
    Pipe,
    Percpu,
    Vmalloc,
    /// None of these, or the stack is not known.
    Other,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::AnonFault,
        Kind::SwapIn,
        Kind::FileRead,
        Kind::FileWrite,
        Kind::Shmem,
        Kind::Slab,
        Kind::Sock,
        Kind::PageTables,
        Kind::KernelStack,
        Kind::Pipe,
        Kind::Percpu,
        Kind::Vmalloc,
        Kind::Other,
    ];

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Kind::AnonFault => "anonymous fault",
            Kind::SwapIn => "swap-in",
            Kind::FileRead => "page-cache read",
            Kind::FileWrite => "page-cache write",
            Kind::Shmem => "shmem",
            Kind::Slab => "slab",
            Kind::Sock => "socket",
            Kind::PageTables => "page tables",
            Kind::KernelStack => "kernel stack",
            Kind::Pipe => "pipe",
            Kind::Percpu => "percpu",
            Kind::Vmalloc => "vmalloc",
            Kind::Other => "other",
        }
    }
}

/// Functions that decide. A `*` ends a prefix. mm/, fs/ and net/ of 5.10 to 7.2.
const RULES: &[(Kind, &[&str])] = &[
    (Kind::Sock, &["mem_cgroup_charge_skmem", "mem_cgroup_sk_charge", "__sk_mem_raise_allocated"]),
    (
        Kind::PageTables,
        &["__pte_alloc*", "pte_alloc_one*", "__pmd_alloc", "__pud_alloc", "__p4d_alloc", "pgd_alloc"],
    ),
    (Kind::KernelStack, &["dup_task_struct", "alloc_thread_stack_node", "memcg_charge_kernel_stack"]),
    (
        Kind::Slab,
        &[
            "__memcg_slab_post_alloc_hook",
            "memcg_slab_post_alloc_hook",
            "slab_post_alloc_hook",
            "memcg_alloc_slab_*",
        ],
    ),
    (
        Kind::Slab,
        &["kmem_cache_alloc*", "__kmem_cache_alloc*", "kmalloc*", "__kmalloc*", "kvmalloc*", "__kvmalloc*"],
    ),
    (Kind::Pipe, &["pipe_write", "anon_pipe_write", "alloc_pipe_info", "pipe_resize_ring"]),
    (Kind::Percpu, &["pcpu_alloc*", "__alloc_percpu*"]),
    (Kind::Vmalloc, &["__vmalloc*", "vmalloc*", "vzalloc*"]),
    (
        Kind::SwapIn,
        &["do_swap_page", "__read_swap_cache_async", "read_swap_cache_async", "swap_cluster_readahead"],
    ),
    (Kind::SwapIn, &["swapin_readahead", "mem_cgroup_swapin_charge_*", "swap_cache_alloc_folio"]),
    (Kind::Shmem, &["shmem_*", "hugetlbfs_*", "hugetlb_fault"]),
    (
        Kind::FileWrite,
        &["generic_perform_write", "iomap_file_buffered_write", "iomap_write_*", "*_write_begin"],
    ),
    (
        Kind::FileWrite,
        &["btrfs_buffered_write", "fuse_perform_write", "ksys_write", "vfs_write*", "vfs_iter_write"],
    ),
    (
        Kind::FileRead,
        &["page_cache_ra_*", "__do_page_cache_readahead", "page_cache_async_ra", "page_cache_sync_ra"],
    ),
    (
        Kind::FileRead,
        &["filemap_fault", "filemap_map_pages", "filemap_read*", "filemap_get_pages", "generic_file_*read*"],
    ),
    (Kind::FileRead, &["do_read_cache_folio", "do_read_cache_page", "read_cache_*", "filemap_create_folio"]),
    (
        Kind::AnonFault,
        &[
            "do_anonymous_page",
            "alloc_anon_folio",
            "do_wp_page",
            "wp_page_copy",
            "do_cow_fault",
            "do_huge_pmd_*",
        ],
    ),
    (Kind::AnonFault, &["collapse_huge_page", "mfill_atomic*", "__handle_mm_fault", "handle_mm_fault"]),
];

/// The tracing itself stands innermost; a stack begins after the last of these.
const TRACING: &[&str] = &[
    "bpf_*",
    "__bpf_*",
    "__traceiter_*",
    "perf_trace_*",
    "perf_call_bpf_*",
    "trace_call_bpf*",
    "kprobe_*",
    "ftrace_*",
    "rethook_*",
];
/// It is not deeper than this.
const TRACING_DEPTH: usize = 12;

fn fits(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => match start.split_once('*') {
            Some((start, middle)) => name.strip_prefix(start).is_some_and(|rest| rest.contains(middle)),
            None => name.starts_with(start),
        },
        _ => name == pattern,
    }
}

/// Without what the compiler or the module loader appended.
fn bare(name: &str) -> &str {
    name.split([' ', '.']).next().unwrap_or(name)
}

fn kind(frames: &[Arc<str>]) -> Kind {
    let decides = |frame: &Arc<str>| {
        let name = bare(frame);
        RULES.iter().find(|(_, names)| names.iter().any(|pattern| fits(name, pattern))).map(|(kind, _)| *kind)
    };
    frames.iter().find_map(decides).unwrap_or(Kind::Other)
}

/// A kernel stack, the charge first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    pub kind: Kind,
    pub frames: Vec<Arc<str>>,
}

impl Stack {
    /// One whose frames could not be kept.
    pub fn unknown() -> Stack {
        Stack { kind: Kind::Other, frames: Vec::new() }
    }

    /// Of function names, the innermost first.
    pub fn new(mut frames: Vec<Arc<str>>) -> Stack {
        let tracing = |frame: &Arc<str>| TRACING.iter().any(|pattern| fits(bare(frame), pattern));
        let inner = frames.iter().take(TRACING_DEPTH).rposition(tracing).map_or(0, |last| last + 1);
        frames.drain(..inner);
        Stack { kind: kind(&frames), frames }
    }
}

/// Names stacks; a function's name is kept once.
pub struct Stacks {
    kallsyms: Kallsyms,
    known: HashMap<u64, Arc<str>>,
}

impl Stacks {
    pub fn read() -> io::Result<Stacks> {
        Ok(Stacks { kallsyms: Kallsyms::read()?, known: HashMap::new() })
    }

    /// Of return addresses, the innermost first; one that is in no function is told by its address.
    pub fn name(&mut self, addresses: &[u64]) -> Stack {
        let frames = addresses.iter().map(|address| {
            let found =
                self.known.entry(*address).or_insert_with(|| match self.kallsyms.function(*address) {
                    Some(name) => Arc::from(name),
                    None => Arc::from(format!("{address:#x}")),
                });
            Arc::clone(found)
        });
        Stack::new(frames.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &str) -> Stack {
        Stack::new(frames.split_whitespace().map(Arc::from).collect())
    }

    #[test]
    fn the_first_that_decides_names_the_kind() {
        for (frames, kind) in [
            (
                "try_charge_memcg charge_memcg __mem_cgroup_charge do_anonymous_page __handle_mm_fault",
                Kind::AnonFault,
            ),
            (
                "charge_memcg __mem_cgroup_charge __handle_mm_fault handle_mm_fault do_user_addr_fault",
                Kind::AnonFault,
            ),
            (
                "__mem_cgroup_charge __filemap_add_folio filemap_add_folio page_cache_ra_unbounded filemap_fault",
                Kind::FileRead,
            ),
            (
                "__filemap_add_folio __filemap_get_folio ext4_da_write_begin generic_perform_write",
                Kind::FileWrite,
            ),
            (
                "__filemap_add_folio filemap_add_folio page_cache_ra_order filemap_fault __do_fault \
              handle_mm_fault fault_in_readable generic_perform_write vfs_write",
                Kind::FileRead,
            ),
            ("obj_cgroup_charge kmem_cache_alloc_lru xas_alloc filemap_add_folio filemap_fault", Kind::Slab),
            (
                "try_charge_memcg __memcg_kmem_charge_page __alloc_pages pte_alloc_one __pte_alloc",
                Kind::PageTables,
            ),
            ("mem_cgroup_charge_skmem __sk_mem_raise_allocated tcp_sendmsg_locked", Kind::Sock),
            (
                "shmem_add_to_page_cache shmem_get_folio_gfp shmem_write_begin generic_perform_write",
                Kind::Shmem,
            ),
            ("filemap_add_folio iomap_write_begin.isra.0 iomap_file_buffered_write", Kind::FileWrite),
            ("something_else entirely", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(stack(frames).kind, kind, "{frames}");
        }
    }

    #[test]
    fn a_stack_begins_after_the_tracing() {
        let stack = stack(
            "bpf_prog_1_site [bpf] bpf_trace_run3 __traceiter_mod_memcg_lruvec_state lruvec_stat_mod_folio",
        );
        assert_eq!(stack.frames, [Arc::from("lruvec_stat_mod_folio")]);
    }

    #[test]
    fn every_kind_is_listed_once() {
        let titles: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.title()).collect();
        assert_eq!(titles.len(), Kind::ALL.len());
    }
}
