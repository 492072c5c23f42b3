//! What a stuck task waits for, by the functions on its kernel stack: one phrase, and the kind of wait that it is. The names
//! are those of Linux 5.10 to 7.2; a stack that tells nothing leaves the innermost function.

use serde::Serialize;

use super::{Owner, call::file};
use crate::event::task::{Mount, Task};

/// What kind of wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// A file system that somebody froze.
    FrozenFileSystem,
    /// A server: FUSE, NFS.
    Server,
    /// A block device, or a journal on it.
    Device,
    /// It wrote more than the disk takes.
    Throttled,
    Lock,
    Memory,
    /// The child of a vfork, which is in order.
    Vfork,
    /// Its cgroup, by the freezer.
    FrozenCgroup,
    Other,
}

impl Wait {
    /// Somebody wants it so: no trouble.
    pub fn is_intended(self) -> bool {
        matches!(self, Wait::Vfork | Wait::FrozenCgroup)
    }
}

const FREEZER: &[&str] = &["__refrigerator", "do_freezer_trap"];
const VFORK: &[&str] = &["wait_for_vfork_done"];
const FROZEN: &[&str] = &["percpu_rwsem_wait", "__percpu_down_read"];
/// Beside one of those, which other locks of this sort have, too.
const OF_FILE_SYSTEM: &[&str] = &[
    "__sb_start_write",
    "sb_start_write",
    "mnt_want_write",
    "mnt_want_write_file",
    "vfs_write",
    "ksys_write",
    "do_writev",
    "vfs_writev",
    "do_iter_write",
    "vfs_fallocate",
    "do_fault",
    "do_page_mkwrite",
    "ext4_page_mkwrite",
    "__xfs_filemap_fault",
    "do_sendfile",
    "do_splice_from",
    "vfs_truncate",
    "do_truncate",
    "do_sys_ftruncate",
    "ext4_journal_start_sb",
    "__ext4_journal_start_sb",
    "xfs_trans_alloc",
    "filename_create",
    "do_unlinkat",
    "do_mkdirat",
    "do_rmdir",
    "file_update_time",
    "touch_atime",
    "path_openat",
    "open_last_lookups",
];
const MEMORY: &[&str] = &[
    "mem_cgroup_handle_over_high",
    "reclaim_throttle",
    "shrink_node",
    "try_to_free_pages",
    "try_to_free_mem_cgroup_pages",
    "mem_cgroup_oom_synchronize",
    "__alloc_pages_direct_compact",
    "wait_iff_congested",
];
const THROTTLED: &[&str] =
    &["balance_dirty_pages", "balance_dirty_pages_ratelimited", "balance_dirty_pages_ratelimited_flags"];
const JOURNAL: &[&str] = &[
    "jbd2_log_wait_commit",
    "wait_transaction_locked",
    "jbd2_journal_commit_transaction",
    "do_get_write_access",
    "add_transaction_credits",
    "xlog_grant_head_wait",
    "xlog_cil_force_seq",
    "btrfs_commit_transaction",
    "wait_current_trans",
];
const LOCKS: &[(&str, &str)] = &[
    ("rwsem_down_write_slowpath", "a read-write lock, to write"),
    ("rwsem_down_read_slowpath", "a read-write lock, to read"),
    ("__mutex_lock", "a mutex"),
    ("__mutex_lock_slowpath", "a mutex"),
    ("mutex_lock", "a mutex"),
    ("__down", "a semaphore"),
    ("__down_common", "a semaphore"),
    ("rt_mutex_slowlock", "a lock"),
    ("percpu_down_write", "all readers of a lock to be done"),
];
const INODE: &[&str] = &[
    "iterate_dir",
    "lookup_slow",
    "walk_component",
    "open_last_lookups",
    "filename_create",
    "do_unlinkat",
    "do_rmdir",
    "lock_rename",
    "ext4_buffered_write_iter",
    "ext4_file_write_iter",
    "xfs_ilock",
    "vfs_unlink",
    "path_openat",
];
const DEVICE: &[&str] = &[
    "io_schedule",
    "io_schedule_timeout",
    "blk_mq_get_tag",
    "rq_qos_wait",
    "folio_wait_bit_common",
    "wait_on_page_bit_common",
    "folio_wait_writeback",
    "submit_bio_wait",
    "blkdev_issue_flush",
    "__blkdev_direct_IO",
    "wait_on_buffer",
    "__wait_on_buffer",
    "bit_wait_io",
    "xfs_buf_lock",
    "blk_io_schedule",
];

/// The phrase for a task. `frozen`: the kernel says that the freezer has it; `io`: that it waits for a device.
pub fn waits_on(task: &Task, owner: Option<&Owner>, frozen: bool, io: bool) -> (Wait, String) {
    // 5.10 tells no function apart from the stack.
    let inmost = task.wchan.iter().map(String::as_str);
    let stack: Vec<&str> = inmost.chain(task.stack.iter().map(String::as_str)).collect();
    // A function may have been split by the compiler: `x.isra.0`.
    let plain = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let stack: Vec<String> = stack.into_iter().map(plain).collect();
    let has = |names: &[&str]| stack.iter().any(|name| names.contains(&name.as_str()));
    let begins = |prefix: &str| stack.iter().any(|name| name.starts_with(prefix));
    let on = mount(task).map_or_else(String::new, |mount| format!(" {}", place(mount)));
    let of = file(task).map_or_else(String::new, |file| format!(" for {}", file.path));
    if frozen || has(FREEZER) {
        return (Wait::FrozenCgroup, "its cgroup to be thawed (freezer)".to_owned());
    }
    // Where that is inlined, nothing else in it sleeps uninterruptibly by itself.
    if has(VFORK) || stack.first().is_some_and(|inmost| inmost == "kernel_clone") {
        return (Wait::Vfork, "its vfork child to exec or exit".to_owned());
    }
    if begins("request_wait_answer") || begins("fuse_") || begins("__fuse_") {
        return (Wait::Server, format!("a FUSE server{}", server(task, "fuse")));
    }
    if begins("rpc_wait") || begins("nfs_") || begins("nfs4_") || begins("nfs3_") || begins("__rpc_") {
        return (Wait::Server, format!("an NFS server{}", server(task, "nfs")));
    }
    if begins("cifs_") || begins("ceph_") || begins("p9_client") || begins("smb2_") {
        return (Wait::Server, format!("a file server{on}"));
    }
    if has(FROZEN) && has(OF_FILE_SYSTEM) {
        return (Wait::FrozenFileSystem, format!("a frozen file system{on}"));
    }
    if has(THROTTLED) {
        return (
            Wait::Throttled,
            format!("dirty pages to be written (throttled by balance_dirty_pages){on}"),
        );
    }
    if has(MEMORY) {
        return (Wait::Memory, "memory (direct reclaim)".to_owned());
    }
    // Before the journal: who waits for a lock inside of it waits for the lock.
    if let Some((_, lock)) = LOCKS.iter().find(|(name, _)| has(&[name])) {
        let inode = if has(INODE) { " of an inode" } else { "" };
        let held = owner.map_or_else(String::new, |owner| format!(", held by {}[{}]", owner.comm, owner.tid));
        return (Wait::Lock, format!("{lock}{inode}{of}{held}"));
    }
    if has(JOURNAL) {
        return (Wait::Device, format!("a commit of the journal{on}"));
    }
    if io || has(DEVICE) {
        return (Wait::Device, format!("block I/O{on}"));
    }
    match stack.first() {
        Some(inmost) => (Wait::Other, inmost.clone()),
        None => (Wait::Other, "not known".to_owned()),
    }
}

fn place(mount: &Mount) -> String {
    format!("{} ({} on {}, device {})", mount.point, mount.kind, mount.source, mount.device)
}

fn mount(task: &Task) -> Option<&Mount> {
    file(task)?.mount.as_ref()
}

/// The server's mount: of the file, or the only one that the task can see.
fn server(task: &Task, kind: &str) -> String {
    let of_file = mount(task).filter(|mount| mount.kind.starts_with(kind));
    let mut served = task.served.iter().filter(|mount| mount.kind.starts_with(kind));
    let found = of_file.or_else(|| served.next().filter(|_| served.next().is_none()));
    found.map_or_else(String::new, |mount| format!(" {}", place(mount)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::task::{Call, File};

    fn told(stack: &[&str]) -> (Wait, String) {
        waits_on(&task(stack), None, false, false)
    }

    fn task(stack: &[&str]) -> Task {
        let mount = Mount {
            point: "/data".to_owned(),
            kind: "ext4".to_owned(),
            source: "/dev/loop0".to_owned(),
            device: "7:0".to_owned(),
        };
        Task {
            stack: stack.iter().map(|name| (*name).to_owned()).collect(),
            call: Some(Call { number: 1, arguments: vec![3, 0x1000, 5] }),
            file: Some(File { descriptor: 3, path: "/data/f".to_owned(), mount: Some(mount) }),
            ..Task::default()
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_wait_has_its_phrase() {
        let (wait, text) = told(&["percpu_rwsem_wait", "__percpu_down_read", "vfs_write", "ksys_write"]);
        assert_eq!(wait, Wait::FrozenFileSystem);
        assert_eq!(text, "a frozen file system /data (ext4 on /dev/loop0, device 7:0)");
        assert_eq!(told(&["wait_for_vfork_done", "kernel_clone"]).0, Wait::Vfork);
        assert_eq!(told(&["kernel_clone", "__do_sys_vfork"]).0, Wait::Vfork);
        assert_ne!(told(&["io_schedule", "kernel_clone"]).0, Wait::Vfork);
        assert_eq!(told(&["__refrigerator", "get_signal"]).0, Wait::FrozenCgroup);
        assert_eq!(told(&["io_schedule", "folio_wait_bit_common", "filemap_read"]).0, Wait::Device);
        assert_eq!(told(&["io_schedule_timeout", "balance_dirty_pages", "vfs_write"]).0, Wait::Throttled);
        assert_eq!(
            told(&["jbd2_log_wait_commit", "ext4_sync_file"]).1.split(" /").next(),
            Some("a commit of the journal")
        );
        assert_eq!(told(&["something_else"]), (Wait::Other, "something_else".to_owned()));
        let owner = Owner { tid: 7, comm: "holder".to_owned() };
        let stack = task(&["rwsem_down_write_slowpath", "down_write", "ext4_buffered_write_iter"]);
        let (wait, text) = waits_on(&stack, Some(&owner), false, false);
        assert_eq!(
            (wait, text.as_str()),
            (Wait::Lock, "a read-write lock, to write of an inode for /data/f, held by holder[7]")
        );
        assert_eq!(super::super::syscall(&stack).as_deref(), Some("write(3 /data/f, 0x1000)"));
    }

    #[test]
    fn a_server_is_named_only_where_it_is_the_only_one() {
        let fuse = |point: &str| Mount {
            point: point.to_owned(),
            kind: "fuse.x".to_owned(),
            source: "srv".to_owned(),
            device: "0:51".to_owned(),
        };
        let mut task = Task {
            wchan: Some("request_wait_answer".to_owned()),
            served: vec![fuse("/a")],
            ..Task::default()
        };
        assert!(waits_on(&task, None, false, false).1.contains("FUSE server /a (fuse.x on srv"));
        task.served.push(fuse("/b"));
        assert_eq!(waits_on(&task, None, false, false).1, "a FUSE server");
    }
}
