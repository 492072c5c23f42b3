//! What a sleeping task waits on, by the functions of its kernel stack: the innermost that tells decides. A wait for a
//! page or for a reader-writer semaphore tells little by itself, so there the functions around it do.
//!
//! The kernel leaves functions of its scheduler, locks among them, out of a stack (`in_sched_functions`,
//! kernel/sched/core.c): who waits for a lock is then shown by the function that takes it, standing innermost.

use serde::Serialize;

use super::function::{FAMILIES, FREEZING, PAGE, PAGE_OF, PERCPU, RULES, SERVERS, SLEEPING};

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
    /// What another task does, in the file system that both are about.
    Another(&'static str),
    /// Said by these words alone.
    Told(Kind, &'static str),
}

/// What kind of wait, for people who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file system that somebody froze.
    FrozenFileSystem,
    /// One that has to answer: FUSE, NFS.
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

impl Kind {
    /// Somebody wants it so: no trouble.
    pub fn is_intended(self) -> bool {
        matches!(self, Kind::Vfork | Kind::FrozenCgroup)
    }
}

impl Cause {
    pub fn kind(self) -> Kind {
        match self {
            Cause::Vfork => Kind::Vfork,
            Cause::FrozenCgroup => Kind::FrozenCgroup,
            Cause::FrozenFile => Kind::FrozenFileSystem,
            Cause::Server(_) => Kind::Server,
            Cause::Block | Cause::Page | Cause::Journal | Cause::Writeback | Cause::SwapIn => Kind::Device,
            Cause::PageLock | Cause::Lock(_) => Kind::Lock,
            Cause::Throttled => Kind::Throttled,
            Cause::Reclaim => Kind::Memory,
            Cause::Another(_) => Kind::Other,
            Cause::Told(kind, _) => kind,
        }
    }
}

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
                return self.server().or(Some(Cause::Told(Kind::Server, "RPC server")));
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
