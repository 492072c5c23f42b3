//! What a sleeping task waits on, by the functions of its kernel stack: the innermost that tells decides. A wait for a
//! page or for a reader-writer semaphore tells little by itself, so there the functions around it do.
//!
//! Names of 5.10 to 7.2. The kernel leaves functions of its scheduler, locks among them, out of a stack (`in_sched_functions`,
//! kernel/sched/core.c): who waits for a lock is then shown by the function that takes it, standing innermost.

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Vfork,
    FrozenCgroup,
    FrozenFile,
    /// A server of the family that functions are called by: `fuse`, `nfs`.
    Server(&'static str),
    Block,
    /// A page of a file: read or written by whatever its file system is on.
    Page,
    PageLock,
    Throttled,
    Writeback,
    Journal,
    Reclaim,
    SwapIn,
    /// A lock, by the name people know.
    Lock(&'static str),
    /// Said by these words alone.
    Told(&'static str),
}

/// Of the scheduler and of waiting: they say that a task sleeps, not on what. Shown on some kernels, left out by others.
const SLEEPING: &[&str] = &[
    "schedule*",
    "__schedule*",
    "preempt_schedule*",
    "io_schedule*",
    "__cond_resched",
    "wait_for_completion*",
    "wait_for_common*",
    "__wait_for_common",
    "wait_woken",
    "bit_wait*",
    "__wait_on_bit*",
    "out_of_line_wait_on_bit*",
    "prepare_to_wait*",
    "down",
    "down_*",
    "__down*",
    "rwsem_down_*",
    "mutex_lock*",
    "__mutex_lock*",
    "ww_mutex_lock*",
    "__ww_mutex_lock*",
    "rt_mutex_*",
    "__rt_mutex_*",
    "rwbase_*",
    "__rwbase_*",
    "context_switch",
    "__switch_to",
    "freezable_schedule*",
    "kthread_*",
    "ret_from_fork*",
];

/// The semaphore that many read and few write: of a frozen file system among others.
const PERCPU: &[&str] =
    &["percpu_rwsem_wait", "percpu_down_read*", "__percpu_down_read*", "percpu_down_write"];

/// Who takes it to write to a file system, which waits while that is frozen: `sb_start_write` and its like, fs/super.c and
/// include/linux/fs.h.
const FREEZING: &[&str] = &[
    "__sb_start_write",
    "sb_start_*",
    "mnt_want_write*",
    "__mnt_want_write*",
    "vfs_write*",
    "vfs_iter_write",
    "vfs_iocb_iter_write",
    "do_iter_write",
    "do_iter_readv_writev",
    "ksys_write",
    "vfs_fallocate",
    "do_ftruncate",
    "do_sys_ftruncate",
    "__do_sys_ftruncate",
    "vfs_truncate",
    "*_page_mkwrite",
    "iomap_page_mkwrite",
    "do_page_mkwrite",
    "do_splice*",
    "splice_*",
    "iter_file_splice_write",
    "do_sendfile",
    "vfs_copy_file_range",
    "vfs_clone_file_range",
    "do_clone_file_range",
    "vfs_dedupe*",
    "aio_write",
    "io_write",
    "io_rw*",
    "file_start_write",
    "ext4_*",
    "xfs_*",
    "btrfs_*",
    "f2fs_*",
    "ovl_*",
    "lo_*",
    "nfsd_*",
    "start_transaction",
];

const PAGE: &[&str] = &[
    "folio_wait_bit*",
    "wait_on_page_bit*",
    "__folio_lock*",
    "__lock_page*",
    "folio_wait_locked*",
    "put_and_wait_on_page_locked",
    "folio_put_wait_locked",
    "folio_wait_writeback*",
    "wait_on_page_writeback*",
    "folio_wait_stable",
    "wait_for_stable_page",
    "folio_wait_private*",
    "filemap_get_pages",
    "filemap_update_page",
    "wait_on_page_locked*",
];

/// Who waits for a page, the innermost that tells: for it to be read or written, or for its lock.
const PAGE_OF: &[(Cause, &[&str])] = &[
    (Cause::SwapIn, &["do_swap_page", "swap_*", "shmem_swapin*", "read_swap_cache*"]),
    (Cause::Reclaim, &["shrink_*", "try_to_free_*", "do_try_to_free_pages", "reclaim_*"]),
    (
        Cause::Page,
        &[
            "folio_wait_writeback*",
            "wait_on_page_writeback*",
            "folio_wait_stable",
            "wait_for_stable_page",
            "__filemap_fdatawait_range",
            "filemap_fdatawait*",
            "file_write_and_wait*",
            "filemap_read*",
            "filemap_get_pages",
            "filemap_update_page",
            "filemap_fault",
            "generic_file_buffered_read*",
            "generic_file_read_iter",
            "do_read_cache*",
            "read_cache_*",
            "filemap_read_folio",
            "page_cache_*",
            "iomap_write_begin",
            "iomap_read_folio*",
            "__block_write_begin*",
            "mpage_*",
            "ext4_read_inline*",
        ],
    ),
    (
        Cause::PageLock,
        &[
            "truncate_*",
            "invalidate_*",
            "migrate_*",
            "write_cache_pages",
            "writeback_iter",
            "*_writepages",
            "pagecache_get_page",
            "__filemap_get_folio*",
            "grab_cache_page*",
            "filemap_page_mkwrite",
            "*_page_mkwrite",
            "find_lock_*",
            "split_huge*",
            "*_write_begin",
        ],
    ),
];

/// Servers, by functions that only their clients have.
const SERVERS: &[(&str, &[&str])] = &[
    ("fuse", &["request_wait_answer", "fuse_*", "__fuse_*", "virtio_fs_*"]),
    ("nfs", &["nfs_*", "nfs2_*", "nfs3_*", "nfs4_*", "_nfs4_*", "__nfs_*", "nfsiod*", "nlmclnt_*", "pnfs_*"]),
    ("cifs", &["cifs_*", "smb2_*", "SMB2_*", "compound_send_recv", "wait_for_response", "cifs*"]),
    ("ceph", &["ceph_*", "__ceph_*"]),
    ("9p", &["p9_client_*", "v9fs_*"]),
    ("afs", &["afs_*"]),
];

/// The innermost that is in one of these decides. Order counts where two fit the same function.
const RULES: &[(Cause, &[&str])] = &[
    (Cause::FrozenCgroup, &["__refrigerator", "do_freezer_trap", "cgroup_enter_frozen"]),
    (Cause::Vfork, &["wait_for_vfork_done", "kernel_clone", "_do_fork"]),
    (
        Cause::Throttled,
        &["balance_dirty_pages*", "io_schedule_timeout_dirty", "wb_wait_for_throttle", "folio_throttle_*"],
    ),
    (
        Cause::Reclaim,
        &[
            "throttle_direct_reclaim",
            "reclaim_throttle",
            "congestion_wait",
            "wait_iff_congested",
            "shrink_*",
            "do_try_to_free_pages",
            "try_to_free_*",
            "too_many_isolated",
            "mem_cgroup_handle_over_high",
            "__mem_cgroup_handle_over_high",
            "__alloc_pages_slowpath*",
            "__alloc_pages_direct_*",
        ],
    ),
    (
        Cause::Told("out of memory in its memory cgroup"),
        &["mem_cgroup_oom_synchronize", "mem_cgroup_out_of_memory"],
    ),
    (
        Cause::Journal,
        &[
            "jbd2_log_wait_commit",
            "jbd2_complete_transaction",
            "__jbd2_log_wait_for_space",
            "jbd2_log_wait_for_space",
            "wait_transaction_locked",
            "wait_transaction_switching",
            "add_transaction_credits",
            "start_this_handle",
            "do_get_write_access",
            "jbd2_journal_lock_updates",
            "jbd2_fc_*",
            "jbd2_log_do_checkpoint",
            "xlog_*",
            "xfs_log_*",
            "xfs_ail_push_all_sync",
            "wait_current_trans",
            "btrfs_wait_for_commit",
            "wait_for_commit",
            "btrfs_commit_transaction",
            "btrfs_sync_log",
            "start_transaction",
        ],
    ),
    (
        Cause::Writeback,
        &[
            "wb_wait_for_completion",
            "sync_inodes_sb",
            "wait_sb_inodes",
            "__inode_wait_for_writeback",
            "inode_wait_for_writeback",
            "inode_sleep_on_writeback",
            "btrfs_wait_ordered_*",
            "btrfs_start_ordered_extent*",
            "__writeback_inodes_sb_nr",
            "writeback_single_inode",
        ],
    ),
    (
        Cause::Block,
        &[
            "submit_bio_wait",
            "blk_io_schedule",
            "blk_mq_get_tag",
            "blk_mq_freeze_queue*",
            "wbt_wait",
            "rq_qos_wait",
            "blk_queue_enter",
            "bio_queue_enter",
            "__bio_queue_enter",
            "blk_execute_rq*",
            "blk_wait_io",
            "blkdev_issue_*",
            "__blkdev_*",
            "blkdev_direct_IO*",
            "dio_await_*",
            "do_blockdev_direct_IO",
            "__blockdev_direct_IO",
            "__iomap_dio_rw",
            "iomap_dio_rw",
            "iomap_dio_*",
            "inode_dio_wait*",
            "__inode_dio_wait",
            "__wait_on_buffer",
            "wait_on_buffer",
            "__lock_buffer",
            "__bread*",
            "__breadahead*",
            "__sync_dirty_buffer",
            "sync_dirty_buffer",
            "ext4_read_bh*",
            "ext4_bread*",
            "ext4_wait_block_bitmap",
            "ext4_read_*bitmap*",
            "xfs_buf_iowait",
            "xfs_buf_lock",
            "xfs_buf_find_lock",
            "xfs_bwrite",
            "read_extent_buffer_pages*",
            "wait_on_extent_buffer*",
            "lock_extent*",
            "wait_extent_bit",
            "md_write_start",
            "md_flush_request",
            "raid5_*",
            "raid10_*",
            "wait_barrier",
            "dm_*",
            "lo_ioctl",
            "loop_*",
            "nbd_*",
            "nvme_*",
            "scsi_*",
            "sd_*",
            "blkcg_maybe_throttle_current",
            "blk_throtl_*",
            "mempool_alloc*",
        ],
    ),
    (Cause::SwapIn, &["do_swap_page", "swap_read*", "swapin_*"]),
    (Cause::Told("signal to go on"), &["do_signal_stop", "ptrace_stop", "do_jobctl_trap"]),
    (Cause::Told("core dump of its process"), &["coredump_*", "do_coredump", "vfs_coredump"]),
    (Cause::Told("end of the processes of its PID namespace"), &["zap_pid_ns_processes"]),
    (
        Cause::Told("RCU grace period"),
        &[
            "synchronize_rcu*",
            "synchronize_srcu*",
            "__synchronize_srcu",
            "__wait_rcu_gp",
            "wait_rcu_gp",
            "exp_funnel_lock",
        ],
    ),
    (
        Cause::Told("kernel worker"),
        &[
            "__flush_work*",
            "flush_work",
            "__flush_workqueue",
            "flush_workqueue*",
            "drain_workqueue",
            "__cancel_work*",
        ],
    ),
    (
        Cause::Told("eviction of an inode"),
        &["__wait_on_freeing_inode", "find_inode*", "iget_locked", "iget5_locked*"],
    ),
    (Cause::Told("directory lookup by another task"), &["d_alloc_parallel", "d_wait_lookup"]),
    (Cause::Lock("file position lock (mutex)"), &["fdget_pos", "__fdget_pos", "__f_unlock_pos"]),
    (Cause::Lock("rename lock (mutex)"), &["lock_rename*"]),
    (
        Cause::Lock("inode lock (rwsem)"),
        &[
            "ext4_buffered_write_iter",
            "ext4_file_write_iter",
            "ext4_dio_write_iter",
            "ext4_dio_read_iter",
            "ext4_file_read_iter",
            "ext4_fallocate",
            "ext4_sync_file",
            "ext4_llseek",
            "generic_file_write_iter",
            "generic_file_llseek*",
            "generic_fadvise",
            "xfs_ilock*",
            "xfs_file_buffered_write*",
            "xfs_file_buffered_read",
            "xfs_file_dio_*",
            "btrfs_inode_lock",
            "btrfs_ilock*",
            "btrfs_file_write_iter",
            "f2fs_file_write_iter",
            "fuse_file_write_iter",
            "fuse_cache_write_iter",
            "fuse_direct_write_iter",
            "nfs_start_io_*",
            "ovl_write_iter",
            "blkdev_write_iter",
            "path_openat",
            "open_last_lookups",
            "do_last",
            "lookup_open*",
            "lookup_slow*",
            "lookup_one*",
            "walk_component",
            "__filename_create",
            "filename_create",
            "filename_unlinkat",
            "filename_rmdir",
            "do_unlinkat",
            "do_rmdir",
            "do_mkdirat",
            "start_dirop",
            "__start_dirop",
            "start_removing*",
            "start_creating*",
            "do_truncate",
            "vfs_truncate",
            "chmod_common",
            "chown_common",
            "vfs_utimes",
            "utimes_common",
            "iterate_dir",
            "vfs_setxattr*",
            "vfs_removexattr*",
            "__vfs_setxattr_locked",
            "vfs_link",
            "vfs_rename",
            "do_renameat2",
            "do_linkat",
            "vfs_fileattr_set",
            "simple_recursive_removal",
            "inode_lock*",
        ],
    ),
    (
        Cause::Lock("superblock lock (rwsem)"),
        &[
            "grab_super*",
            "super_lock*",
            "__super_lock*",
            "iterate_supers*",
            "__iterate_supers",
            "deactivate_super",
            "freeze_super",
            "thaw_super*",
            "user_get_super",
            "sget*",
            "get_active_super",
            "reconfigure_super",
        ],
    ),
    (
        Cause::Lock("address space lock (rwsem)"),
        &[
            "lock_mm_and_find_vma",
            "do_user_addr_fault",
            "exc_page_fault",
            "do_page_fault",
            "vm_mmap_pgoff",
            "__vm_munmap",
            "do_mprotect_pkey*",
            "dup_mmap",
            "dup_mm*",
            "do_madvise*",
            "madvise_lock*",
            "__do_sys_brk",
            "__x64_sys_brk",
            "__do_sys_mremap",
            "__access_remote_vm",
            "get_cmdline*",
            "proc_pid_cmdline_read",
            "m_start",
            "exit_mm",
            "acct_collect",
            "mm_populate",
            "__mm_populate",
            "mmap_write_lock*",
            "mmap_read_lock*",
            "do_shmat",
            "ksys_shmdt",
        ],
    ),
    (
        Cause::Lock("lock of all cgroups (mutex)"),
        &[
            "cgroup_lock*",
            "cgroup_kn_lock_live",
            "cgroup_procs_write*",
            "cgroup_mkdir",
            "cgroup_rmdir",
            "proc_cgroup_show",
        ],
    ),
    (
        Cause::Lock("mount lock (rwsem)"),
        &["namespace_lock", "do_lock_mount", "lock_mount*", "m_start_mounts", "mounts_open*"],
    ),
    (
        Cause::Lock("network configuration lock (mutex)"),
        &["rtnl_lock*", "rtnetlink_rcv_msg", "rtnl_lock_killable"],
    ),
    (
        Cause::Lock("pipe lock (mutex)"),
        &["pipe_write", "anon_pipe_write", "pipe_read", "anon_pipe_read", "pipe_double_lock"],
    ),
];

/// File systems, by how their functions are called.
const FAMILIES: &[(&str, &[&str])] = &[
    ("ext4", &["ext4_*", "__ext4_*"]),
    ("xfs", &["xfs_*", "__xfs_*", "xlog_*"]),
    ("btrfs", &["btrfs_*", "__btrfs_*"]),
    ("f2fs", &["f2fs_*", "__f2fs_*"]),
    ("gfs2", &["gfs2_*"]),
    ("ocfs2", &["ocfs2_*"]),
    // Its journal is ext4's unless one of the above is there.
    ("ext4", &["jbd2_*", "__jbd2_*"]),
];

/// The fault of a user's page: what stands around it is about something else.
const FAULT: &str = "handle_mm_fault";

fn fits(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == pattern,
    }
}

fn is_of(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| fits(name, pattern))
}

/// A function that says no more than that a task sleeps.
pub fn is_sleeping(name: &str) -> bool {
    is_of(name, SLEEPING)
}

/// A stack, as far as it is about what is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a>(&'a [String]);

impl<'a> Stack<'a> {
    pub fn new(frames: &'a [String]) -> Stack<'a> {
        let inner = frames.iter().position(|name| !is_sleeping(name)).unwrap_or(frames.len());
        let frames = &frames[inner..];
        let fault = frames.iter().position(|name| name == FAULT).map_or(frames.len(), |place| place + 1);
        Stack(&frames[..fault])
    }

    fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str)
    }

    /// The innermost function that tells more than that it sleeps.
    pub fn telling(self) -> Option<&'a str> {
        self.names().next()
    }

    /// What the file system's functions are called by: of the innermost one, but a journal's do not tell whose it is.
    pub fn family(self) -> Option<&'static str> {
        let families = FAMILIES.iter().chain(SERVERS);
        let (own, journal): (Vec<_>, Vec<_>) = families.partition(|(_, names)| !names.contains(&"jbd2_*"));
        let find = |among: &[&(&'static str, &[&str])]| {
            self.names()
                .find_map(|name| among.iter().find(|(_, names)| is_of(name, names)).map(|(word, _)| *word))
        };
        find(&own).or_else(|| find(&journal))
    }

    fn server(self) -> Option<Cause> {
        let of = |name: &str| SERVERS.iter().find(|(_, names)| is_of(name, names)).map(|(word, _)| *word);
        self.names().find_map(of).map(Cause::Server)
    }

    fn of_page(self) -> Cause {
        if let Some(server) = self.server() {
            return server;
        }
        let of = |name: &str| PAGE_OF.iter().find(|(_, names)| is_of(name, names)).map(|(cause, _)| *cause);
        self.names().find_map(of).unwrap_or(Cause::PageLock)
    }

    fn of_percpu(self) -> Option<Cause> {
        let around = self.names().find(|name| !is_of(name, PERCPU))?;
        match around {
            name if is_of(name, FREEZING) => Some(Cause::FrozenFile),
            name if is_of(
                name,
                &["cgroup_*", "copy_process", "exit_signals", "begin_new_exec", "de_thread"],
            ) =>
            {
                Some(Cause::Lock("lock of cgroup moves (rwsem)"))
            }
            _ => None,
        }
    }

    /// `None`: the functions say nothing that is known.
    pub fn cause(self) -> Option<Cause> {
        let innermost = self.telling()?;
        match innermost {
            name if is_of(name, PERCPU) => return self.of_percpu(),
            name if is_of(name, PAGE) => return Some(self.of_page()),
            // Its caller tells which file system; the RPC alone only that it is a server.
            name if name.starts_with("rpc_") || name.starts_with("__rpc_") => {
                return self.server().or(Some(Cause::Told("RPC server")));
            }
            _ => {}
        }
        let rule = |name: &str| RULES.iter().find(|(_, names)| is_of(name, names)).map(|(cause, _)| *cause);
        if let Some(cause) = rule(innermost) {
            return Some(cause);
        }
        if is_of(innermost, &["netfs_*"]) {
            return self.server();
        }
        SERVERS.iter().find(|(_, names)| is_of(innermost, names)).map(|(word, _)| Cause::Server(word))
    }

    /// It has taken a signal that ends its process, and cannot finish to die.
    pub fn dies_of_signal(frames: &[String]) -> bool {
        frames.iter().position(|name| name == "do_group_exit").is_some_and(|place| {
            frames[place..].iter().any(|name| name == "get_signal")
                && frames[..place].iter().any(|name| name == "do_exit")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(frames: &str) -> Option<Cause> {
        let frames: Vec<String> = frames.split_whitespace().map(str::to_owned).collect();
        Stack::new(&frames).cause()
    }

    #[test]
    fn what_stands_around_a_page_tells_whose_it_is() {
        let page = "folio_wait_bit_common filemap_get_pages filemap_read";
        assert_eq!(cause(&format!("{page} ext4_file_read_iter vfs_read")), Some(Cause::Page));
        assert_eq!(cause(&format!("{page} nfs_file_read vfs_read")), Some(Cause::Server("nfs")));
        assert_eq!(
            cause("folio_wait_bit_common truncate_inode_pages_range ext4_evict_inode"),
            Some(Cause::PageLock)
        );
        assert_eq!(cause("folio_wait_bit_common shrink_folio_list shrink_lruvec"), Some(Cause::Reclaim));
        assert_eq!(
            cause("folio_wait_bit_common __folio_lock_or_retry do_swap_page handle_mm_fault"),
            Some(Cause::SwapIn)
        );
    }

    #[test]
    fn what_stands_around_a_fault_is_not_what_it_waits_for() {
        let frames = "folio_wait_bit_common filemap_fault __do_fault __handle_mm_fault handle_mm_fault exc_page_fault \
                      fault_in_readable generic_perform_write nfs_file_write";
        assert_eq!(cause(frames), Some(Cause::Page));
    }

    #[test]
    fn a_percpu_lock_is_a_frozen_file_system_only_where_one_writes() {
        assert_eq!(cause("percpu_rwsem_wait vfs_write ksys_write"), Some(Cause::FrozenFile));
        assert_eq!(
            cause("percpu_rwsem_wait __percpu_down_read __sb_start_write vfs_write"),
            Some(Cause::FrozenFile)
        );
        assert_eq!(
            cause("percpu_rwsem_wait cgroup_can_fork copy_process"),
            Some(Cause::Lock("lock of cgroup moves (rwsem)"))
        );
        assert_eq!(cause("percpu_rwsem_wait fcntl_setlk"), None);
    }

    #[test]
    fn locks_are_told_whether_the_kernel_shows_their_functions_or_not() {
        let lock = Some(Cause::Lock("inode lock (rwsem)"));
        assert_eq!(cause("ext4_buffered_write_iter vfs_write"), lock);
        assert_eq!(cause("rwsem_down_write_slowpath down_write ext4_buffered_write_iter vfs_write"), lock);
        assert_eq!(cause("schedule io_schedule"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_frames_are_no_panic(frames in proptest::collection::vec("[a-z_]{0,20}", 0..40)) {
            let stack = Stack::new(&frames);
            stack.cause();
            stack.family();
            Stack::dies_of_signal(&frames);
        }
    }
}
