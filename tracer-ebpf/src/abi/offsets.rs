//! Every number of the running kernel that a program needs: field offsets, enumerator values and tracepoint
//! field offsets. No program holds a number taken from a kernel header.
//!
//! User space finds each by name and hands all of them over as one read-only array (`OFFSETS`), which the
//! verifier treats as constants. A spelling is one of
//! - `struct.field[.field...]`: a byte offset, from BTF (anonymous members are searched through);
//! - `bit struct.field[.field...]`: the place of a bit field, counted in bits, from BTF;
//! - `enum NAME.ENUMERATOR`: its value, from BTF;
//! - `args EVENT`: how many arguments a tracepoint passes, from BTF;
//! - `arg EVENT.STRUCT`: the place among a tracepoint's arguments of the first pointer to that structure, from BTF;
//! - `tp GROUP/EVENT.field`: a byte offset in the classic tracepoint's record, from tracefs `format`.
//!
//! Several spellings stand in the order in which they are tried; a kernel's new name is one more string.

/// The kernel has no such field: a branch on it is dead code, the plan says what is lost.
pub const ABSENT: u32 = u32::MAX;

macro_rules! symbols {
    ($($name:ident: $($spelling:literal)|+;)+) => {
        /// One number of the running kernel.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Symbol { $($name),+ }

        impl Symbol {
            pub const ALL: &'static [Symbol] = &[$(Symbol::$name),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The spellings, first tried first.
            pub const fn spellings(self) -> &'static [&'static str] {
                match self { $(Symbol::$name => &[$($spelling),+]),+ }
            }
        }
    };
}

symbols! {
    // Which memory cgroup a task is in.
    TaskCgroups: "task_struct.cgroups";
    CssSetSubsys: "css_set.subsys";
    MemoryCgrpId: "enum cgroup_subsys_id.memory_cgrp_id";
    CssCgroup: "cgroup_subsys_state.cgroup";
    CssSs: "cgroup_subsys_state.ss";
    // Which cgroup that is.
    CgroupKn: "cgroup.kn";
    CgroupRoot: "cgroup.root";
    CgroupSubsys: "cgroup.subsys";
    CgroupRootHierarchyId: "cgroup_root.hierarchy_id";
    KernfsNodeId: "kernfs_node.id";
    // What it holds.
    MemcgCss: "mem_cgroup.css";
    MemcgMemory: "mem_cgroup.memory";
    PageCounterUsage: "page_counter.usage";
    PageCounterWatermark: "page_counter.watermark";
    // From a memory cgroup to those in it, the dead ones too.
    CssParent: "cgroup_subsys_state.parent";
    CssChildren: "cgroup_subsys_state.children";
    CssSibling: "cgroup_subsys_state.sibling";
    CssSerial: "cgroup_subsys_state.serial_nr";
    CgroupDescendants: "cgroup.nr_descendants";
    CgroupDying: "cgroup.nr_dying_descendants";
    // What it holds where its statistics lag by up to 32 pages a processor and kind until it is freed: up to 5.12
    // (2d146aa3aa84 has them flushed, and renamed `stat`).
    MemcgUnflushed: "memcg_vmstats_percpu.stat";
    MemcgNodes: "mem_cgroup.nodeinfo";
    MemcgNodeLists: "mem_cgroup_per_node.lru_zone_size";
    Zones: "enum zone_type.__MAX_NR_ZONES";
    Lists: "enum lru_list.NR_LRU_LISTS";
    KernfsNodeName: "kernfs_node.name";
    // A node that is in no directory any more points to itself (`RB_CLEAR_NODE`).
    KernfsNodeLinked: "kernfs_node.rb.__rb_parent_color";
    // A union with `memsw`, which is what v1 counts there.
    MemcgSwapCounter: "mem_cgroup.swap";
    MemcgKmemCounter: "mem_cgroup.kmem";
    // 7.2 charges folios to an object cgroup, which survives its memory cgroup.
    ObjcgMemcg: "obj_cgroup.memcg";
    UnchargeMemcg: "uncharge_gather.memcg";
    UnchargeObjcg: "uncharge_gather.objcg";
    // `nr_pages` up to 5.13 (b4e0b68fbd9d split off nr_kmem).
    UnchargePages: "uncharge_gather.nr_memory" | "uncharge_gather.nr_pages";
    // Who is at its limit, and who is killed for it.
    PageCounterMax: "page_counter.max";
    OomControlMemcg: "oom_control.memcg";
    TaskPid: "task_struct.pid";
    // CLOCK_MONOTONIC, ns.
    TaskStartTime: "task_struct.start_time";
    // Where a connection arrives.
    SockNum: "sock.__sk_common.skc_num";
    SockNet: "sock.__sk_common.skc_net.net";
    NetInum: "net.ns.inum";
    // Up to 6.8, and in stable kernels longer or shorter, an `int pid` (72ba14deb40a): told by the argument's type.
    MarkVictimTask: "arg mark_victim.task_struct";
    // Which statistics item a per-page hook reports.
    NrAnonMapped: "enum node_stat_item.NR_ANON_MAPPED";
    NrFilePages: "enum node_stat_item.NR_FILE_PAGES";
    MemcgKmem: "enum memcg_stat_item.MEMCG_KMEM";
    MemcgSock: "enum memcg_stat_item.MEMCG_SOCK";
    // A folio (a page up to 5.15): whose it is, how large, of which file.
    FolioFlags: "folio.flags" | "page.flags";
    FolioMapping: "folio.mapping" | "page.mapping";
    FolioMemcg: "folio.memcg_data" | "page.memcg_data";
    // A pointer without flags up to 5.10 (bcfe06bf2622).
    PageMemcg: "page.mem_cgroup";
    // `_folio_nr_pages` up to 6.14 (4996fc547f5b); before 6.1 only page cache of one file system had large folios.
    FolioNrPages: "folio._nr_pages" | "folio._folio_nr_pages";
    PageHead: "enum pageflags.PG_head";
    AddressSpaceHost: "address_space.host";
    NrFileDirty: "enum node_stat_item.NR_FILE_DIRTY";
    NrWriteback: "enum node_stat_item.NR_WRITEBACK";
    // A task that moves, or charges.
    TaskTgid: "task_struct.tgid";
    TaskGroupLeader: "task_struct.group_leader";
    TaskComm: "task_struct.comm";
    // Of whose kin a task is, and since when: tells it from a later bearer of its number.
    TaskRealParent: "task_struct.real_parent";
    // Up to 5.4 `real_start_time` (cf25e24db61c).
    TaskStart: "task_struct.start_boottime" | "task_struct.real_start_time";
    SiginfoCode: "kernel_siginfo.si_code";
    // From a descriptor to a pipe or terminal.
    TaskFiles: "task_struct.files";
    FilesFdt: "files_struct.fdt";
    FilesArray: "files_struct.fd_array";
    FdtMax: "fdtable.max_fds";
    FdtFd: "fdtable.fd";
    KiocbFile: "kiocb.ki_filp";
    FileInode: "file.f_inode";
    FilePrivate: "file.private_data";
    InodeMode: "inode.i_mode";
    InodeSb: "inode.i_sb";
    InodeIno: "inode.i_ino";
    InodeRdev: "inode.i_rdev";
    SbDev: "super_block.s_dev";
    // From a terminal's master to its slave's inode (`ptmx_open`, drivers/tty/pty.c).
    TtyFileTty: "tty_file_private.tty";
    TtyLink: "tty_struct.link";
    TtyDriverData: "tty_struct.driver_data";
    DentryInode: "dentry.d_inode";
    // Where the written bytes are.
    IterType: "iov_iter.iter_type";
    // Up to 5.13, with the direction in the lowest bit (8cd54c1c8480).
    IterTypeWord: "iov_iter.type";
    IterOffset: "iov_iter.iov_offset";
    IterIov: "iov_iter.__iov" | "iov_iter.iov";
    IterIovec: "enum iter_type.ITER_IOVEC";
    // Since 6.0 (fcb14cb1bdac).
    IterUbuf: "enum iter_type.ITER_UBUF";
    IovecLen: "iovec.iov_len";
    SocketFile: "socket.file";
    MsghdrIter: "msghdr.msg_iter";
    // A system call's number and arguments, still there at its exit.
    SyscallNumber: "pt_regs.orig_ax";
    SyscallArg0: "pt_regs.di";
    SyscallArg1: "pt_regs.si";
    SyscallArg2: "pt_regs.dx";
    // A task that goes to sleep or runs again.
    TaskState: "task_struct.__state" | "task_struct.state";
    // Up to 5.13 (2f064a59a11f).
    TaskStateLong: "task_struct.state";
    TaskFlags: "task_struct.flags";
    TaskInIowait: "bit task_struct.in_iowait";
    TaskLastArrival: "task_struct.sched_info.last_arrival";
    // 5.18 passes the state (fa2c3254d7cf).
    SwitchArgs: "args sched_switch";
    // 6.16 (3cf67d61ff98), with `DETECT_HUNG_TASK_BLOCKER`.
    TaskBlocker: "task_struct.blocker";
    MutexOwner: "mutex.owner";
    RwsemOwner: "rw_semaphore.owner";
    // A bit of it says that the task makes a 32-bit system call.
    TaskThreadStatus: "task_struct.thread_info.status";
    // Of a helper: 5.17 (e6f2dd0f8067). Fetching atomics, which BTF does not show, came before it (5.12).
    HelperLoop: "enum bpf_func_id.BPF_FUNC_loop";
    // 5.11 (3ca1032ab7ab).
    HelperTaskBtf: "enum bpf_func_id.BPF_FUNC_get_current_task_btf";
    // Classic tracepoints.
    TpDirtyIno: "tp writeback/writeback_dirty_folio.ino" | "tp writeback/writeback_dirty_page.ino";
    TpBalancePause: "tp writeback/balance_dirty_pages.pause";
    TpSysEnterId: "tp raw_syscalls/sys_enter.id";
    TpSysEnterArgs: "tp raw_syscalls/sys_enter.args";
    TpSysExitRet: "tp raw_syscalls/sys_exit.ret";
    TpMkdirRoot: "tp cgroup/cgroup_mkdir.root";
    TpMkdirId: "tp cgroup/cgroup_mkdir.id";
    TpMkdirPath: "tp cgroup/cgroup_mkdir.path";
    TpRenameComm: "tp task/task_rename.newcomm";
    TpAttachRoot: "tp cgroup/cgroup_attach_task.dst_root";
    TpAttachId: "tp cgroup/cgroup_attach_task.dst_id";
    TpAttachPid: "tp cgroup/cgroup_attach_task.pid";
    TpVictimPid: "tp oom/mark_victim.pid";
    // Since `mark_victim` tells more than a pid (72ba14deb40a); KiB.
    TpVictimAnon: "tp oom/mark_victim.anon_rss";
    TpVictimFile: "tp oom/mark_victim.file_rss";
    TpVictimShmem: "tp oom/mark_victim.shmem_rss";
    TpSignal: "tp signal/signal_generate.sig";
    TpSignalCode: "tp signal/signal_generate.code";
    TpSignalPid: "tp signal/signal_generate.pid";
    TpReclaimed: "tp vmscan/mm_vmscan_direct_reclaim_end.nr_reclaimed";
    TpSockAddress: "tp sock/inet_sock_set_state.skaddr";
    TpSockOld: "tp sock/inet_sock_set_state.oldstate";
    TpSockNew: "tp sock/inet_sock_set_state.newstate";
    TpSwitchState: "tp sched/sched_switch.prev_state";
    TpSwitchNext: "tp sched/sched_switch.next_pid";
    TpLruvecId: "tp memcg/mod_memcg_lruvec_state.id";
    TpLruvecItem: "tp memcg/mod_memcg_lruvec_state.item";
    TpLruvecVal: "tp memcg/mod_memcg_lruvec_state.val";
    TpStateId: "tp memcg/mod_memcg_state.id";
    TpStateItem: "tp memcg/mod_memcg_state.item";
    TpStateVal: "tp memcg/mod_memcg_state.val";
}
