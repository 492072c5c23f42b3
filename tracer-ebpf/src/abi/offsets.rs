//! Every number of the running kernel that a program needs: field offsets, enumerator values and tracepoint
//! field offsets. No program holds a number taken from a kernel header.
//!
//! User space finds each by name and hands all of them over as one read-only array (`OFFSETS`), which the
//! verifier treats as constants. A spelling is one of
//! - `struct.field[.field...]`: a byte offset, from BTF (anonymous members are searched through);
//! - `enum NAME.ENUMERATOR`: its value, from BTF;
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
    // 7.2 charges folios to an object cgroup, which survives its memory cgroup.
    ObjcgMemcg: "obj_cgroup.memcg";
    UnchargeMemcg: "uncharge_gather.memcg";
    UnchargeObjcg: "uncharge_gather.objcg";
    // `nr_pages` up to 5.13 (b4e0b68fbd9d split off nr_kmem).
    UnchargePages: "uncharge_gather.nr_memory" | "uncharge_gather.nr_pages";
    // Which statistics item a per-page hook reports.
    NrAnonMapped: "enum node_stat_item.NR_ANON_MAPPED";
    NrFilePages: "enum node_stat_item.NR_FILE_PAGES";
    MemcgKmem: "enum memcg_stat_item.MEMCG_KMEM";
    MemcgSock: "enum memcg_stat_item.MEMCG_SOCK";
    // A task that moves, or charges.
    TaskTgid: "task_struct.tgid";
    TaskGroupLeader: "task_struct.group_leader";
    TaskComm: "task_struct.comm";
    // Classic tracepoints.
    TpMkdirRoot: "tp cgroup/cgroup_mkdir.root";
    TpMkdirId: "tp cgroup/cgroup_mkdir.id";
    TpMkdirPath: "tp cgroup/cgroup_mkdir.path";
    TpAttachRoot: "tp cgroup/cgroup_attach_task.dst_root";
    TpAttachId: "tp cgroup/cgroup_attach_task.dst_id";
    TpAttachPid: "tp cgroup/cgroup_attach_task.pid";
    TpLruvecId: "tp memcg/mod_memcg_lruvec_state.id";
    TpLruvecItem: "tp memcg/mod_memcg_lruvec_state.item";
    TpLruvecVal: "tp memcg/mod_memcg_lruvec_state.val";
    TpStateId: "tp memcg/mod_memcg_state.id";
    TpStateItem: "tp memcg/mod_memcg_state.item";
    TpStateVal: "tp memcg/mod_memcg_state.val";
}
