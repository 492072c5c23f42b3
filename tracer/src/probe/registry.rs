//! Every probe and its alternatives, in one ordered slice. Plan, attach, `doctor`, docs and tests derive from it.
//!
//! Alternatives stand in the order in which they are tried: by the cost of the whole, batch hooks before
//! per-page hooks; for like with like tp_btf, raw_tp, fentry, classic tracepoint, kprobe.

use std::fmt;

use tracer_ebpf::abi::offsets::Symbol;

use crate::kernel::Questions;

/// A way of attaching, by the word `doctor` and `--attach` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    TpBtf,
    RawTp,
    /// fentry and fexit.
    Fentry,
    Tracepoint,
    /// kprobe and kretprobe.
    Kprobe,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::TpBtf, Kind::RawTp, Kind::Fentry, Kind::Tracepoint, Kind::Kprobe];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::TpBtf => "tp_btf",
            Kind::RawTp => "raw_tp",
            Kind::Fentry => "fentry",
            Kind::Tracepoint => "tracepoint",
            Kind::Kprobe => "kprobe",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a program hangs on.
#[derive(Debug, Clone, Copy)]
pub enum Hook {
    /// A tracepoint: group, event, the arguments a BTF or raw program reads.
    Event(&'static str, &'static str, u32),
    /// A function's entry: its names, first tried first, and its number of arguments.
    Entry(&'static [&'static str], u32),
    /// A function's return, likewise.
    Return(&'static [&'static str], u32),
}

/// One program and its hook.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub program: &'static str,
    pub hook: Hook,
    /// The alternative is of use without it; its precision says how.
    pub optional: bool,
}

/// How often the programs of an alternative run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A few times per container or task.
    Rare,
    /// Once per batch of 32 or 64 pages.
    Batch,
    /// Once per page: on demand and for a bounded time only.
    Page,
}

/// One way of serving a probe: all its links attach, or none.
#[derive(Debug)]
pub struct Alternative {
    pub kind: Kind,
    pub links: &'static [Link],
    /// Numbers without which its programs cannot work.
    pub needs: &'static [Symbol],
    /// Groups of numbers of which one each is enough.
    pub needs_any: &'static [&'static [Symbol]],
    pub cost: Cost,
    /// What its numbers are worth.
    pub precision: &'static str,
}

impl Alternative {
    /// The hooks by name, as `doctor` prints them.
    pub fn target(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for link in self.links {
            let name = match link.hook {
                Hook::Event(_, event, _) => event,
                Hook::Entry(functions, _) | Hook::Return(functions, _) => functions[0],
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join("+")
    }
}

/// One logical probe.
#[derive(Debug)]
pub struct Probe {
    pub name: &'static str,
    pub purpose: &'static str,
    pub alternatives: &'static [Alternative],
    /// Attached only for what the user chose, and for a bounded time: how to ask for it.
    pub on_demand: Option<&'static str>,
    /// What is lost if none attaches.
    pub lost: &'static str,
}

const fn event(program: &'static str, group: &'static str, name: &'static str, args: u32) -> Link {
    Link { program, hook: Hook::Event(group, name, args), optional: false }
}
const fn entry(program: &'static str, names: &'static [&'static str], args: u32) -> Link {
    Link { program, hook: Hook::Entry(names, args), optional: false }
}
const fn exit(program: &'static str, names: &'static [&'static str], args: u32) -> Link {
    Link { program, hook: Hook::Return(names, args), optional: false }
}

const CGROUP_LIFE: &[Symbol] = &[
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::CgroupRoot,
    Symbol::CgroupRootHierarchyId,
    Symbol::CgroupSubsys,
    Symbol::MemoryCgrpId,
    Symbol::TaskTgid,
];
const CURRENT_MEMCG: &[Symbol] = &[
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const COUNTER: &[Symbol] = &[
    Symbol::MemcgMemory,
    Symbol::MemcgCss,
    Symbol::CssSs,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::TaskCgroups,
    Symbol::CssSetSubsys,
    Symbol::MemoryCgrpId,
];
const MEMCG: &[Symbol] = &[
    Symbol::MemcgCss,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::UnchargePages,
    Symbol::ObjcgMemcg,
];
const GATHER: &[&[Symbol]] = &[&[Symbol::UnchargeMemcg, Symbol::UnchargeObjcg]];
const STATISTICS: &[Symbol] = &[
    Symbol::MemcgCss,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
    Symbol::NrAnonMapped,
    Symbol::NrFilePages,
    Symbol::MemcgKmem,
    Symbol::MemcgSock,
];
const CLASSIC_STATISTICS: &[Symbol] = &[
    Symbol::TpLruvecId,
    Symbol::TpLruvecItem,
    Symbol::TpLruvecVal,
    Symbol::TpStateId,
    Symbol::TpStateItem,
    Symbol::TpStateVal,
    Symbol::NrAnonMapped,
    Symbol::NrFilePages,
    Symbol::MemcgKmem,
    Symbol::MemcgSock,
];
const CLASSIC_CGROUP: &[Symbol] = &[
    Symbol::TpMkdirRoot,
    Symbol::TpMkdirId,
    Symbol::TpMkdirPath,
    Symbol::TpAttachRoot,
    Symbol::TpAttachId,
    Symbol::TpAttachPid,
];

const fn optional(link: Link) -> Link {
    Link { optional: true, ..link }
}

const TRY: &[&str] = &["page_counter_try_charge"];
const FORCE: &[&str] = &["page_counter_charge"];
const BACK: &[&str] = &["page_counter_uncharge"];
// 5.14 split `try_charge` (c74d40e8b5e2).
const TRY_PAGE: &[&str] = &["try_charge_memcg", "try_charge"];
const BACK_PAGE: &[&str] = &["uncharge_batch"];
// A symbol of its own since 5.16, inlined by some compilers.
const BACK_OBJECT: &[&str] = &["obj_cgroup_uncharge_pages"];

const BATCHED: &str = "exact as memory.current moves, up to a batch of 32 or 64 pages per CPU ahead of use";
const PAGED: &str =
    "charges exact to the page; uncharges of sockets are not seen, of kernel objects not on every kernel";
const SAMPLED: &str = "one kernel stack stands for each batch of 32 or 64 pages, also where the rest of a batch is given back unused";
const SAMPLED_PAGES: &str =
    "one kernel stack stands for each 32 pages of anonymous, page-cache, kernel and socket memory on a CPU";
const COUNTED: &str = "anonymous, page-cache, kernel and socket pages, exact; other charges are not seen";

/// All probes, in the order in which they are attached: lifecycle first, so that no cgroup is missed between.
pub const PROBES: &[Probe] = &[
    Probe {
        name: "cgroup_life",
        purpose: "memory cgroups made, renamed, removed and released; tasks moved into them",
        alternatives: &[
            Alternative {
                kind: Kind::TpBtf,
                links: &[
                    event("mkdir_btf", "cgroup", "cgroup_mkdir", 2),
                    event("rename_btf", "cgroup", "cgroup_rename", 2),
                    event("rmdir_btf", "cgroup", "cgroup_rmdir", 2),
                    event("release_btf", "cgroup", "cgroup_release", 2),
                    event("attach_btf", "cgroup", "cgroup_attach_task", 4),
                ],
                needs: CGROUP_LIFE,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "every event, with usage and peak at removal",
            },
            Alternative {
                kind: Kind::RawTp,
                links: &[
                    event("mkdir_raw", "cgroup", "cgroup_mkdir", 2),
                    event("rename_raw", "cgroup", "cgroup_rename", 2),
                    event("rmdir_raw", "cgroup", "cgroup_rmdir", 2),
                    event("release_raw", "cgroup", "cgroup_release", 2),
                    event("attach_raw", "cgroup", "cgroup_attach_task", 4),
                ],
                needs: CGROUP_LIFE,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "every event, with usage and peak at removal",
            },
            Alternative {
                kind: Kind::Tracepoint,
                links: &[
                    event("mkdir_tp", "cgroup", "cgroup_mkdir", 0),
                    event("rename_tp", "cgroup", "cgroup_rename", 0),
                    event("rmdir_tp", "cgroup", "cgroup_rmdir", 0),
                    event("release_tp", "cgroup", "cgroup_release", 0),
                    event("attach_tp", "cgroup", "cgroup_attach_task", 0),
                ],
                needs: CLASSIC_CGROUP,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "every event; usage and peak at removal are not known",
            },
        ],
        on_demand: None,
        lost: "new containers are found by looking at the cgroup tree once a tick; one that lives shorter is missed",
    },
    Probe {
        name: "task_life",
        purpose: "programs started and tasks ended, per memory cgroup",
        alternatives: &[
            Alternative {
                kind: Kind::TpBtf,
                links: &[
                    event("exec_btf", "sched", "sched_process_exec", 0),
                    event("exit_btf", "sched", "sched_process_exit", 0),
                ],
                needs: CURRENT_MEMCG,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "exact",
            },
            Alternative {
                kind: Kind::RawTp,
                links: &[
                    event("exec_raw", "sched", "sched_process_exec", 0),
                    event("exit_raw", "sched", "sched_process_exit", 0),
                ],
                needs: CURRENT_MEMCG,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "exact",
            },
            Alternative {
                kind: Kind::Tracepoint,
                links: &[
                    event("exec_tp", "sched", "sched_process_exec", 0),
                    event("exit_tp", "sched", "sched_process_exit", 0),
                ],
                needs: CURRENT_MEMCG,
                needs_any: &[],
                cost: Cost::Rare,
                precision: "exact",
            },
        ],
        on_demand: None,
        lost: "tasks started and ended per second are not known",
    },
    Probe {
        name: "charge",
        purpose: "pages charged to and uncharged from each memory cgroup",
        alternatives: &[
            Alternative {
                kind: Kind::Fentry,
                links: &[
                    exit("pc_try_fexit", TRY, 3),
                    entry("pc_charge_fentry", FORCE, 2),
                    entry("pc_unch_fentry", BACK, 2),
                ],
                needs: COUNTER,
                needs_any: &[],
                cost: Cost::Batch,
                precision: BATCHED,
            },
            Alternative {
                kind: Kind::Kprobe,
                links: &[
                    // Entry first: a return then always finds what its entry left.
                    entry("pc_try_kprobe", TRY, 3),
                    exit("pc_try_kret", TRY, 3),
                    entry("pc_charge_kprobe", FORCE, 2),
                    entry("pc_unch_kprobe", BACK, 2),
                ],
                needs: COUNTER,
                needs_any: &[],
                cost: Cost::Batch,
                precision: BATCHED,
            },
            Alternative {
                kind: Kind::Fentry,
                links: &[
                    exit("try_fexit", TRY_PAGE, 3),
                    entry("unch_fentry", BACK_PAGE, 1),
                    optional(entry("objcg_fentry", BACK_OBJECT, 2)),
                ],
                needs: MEMCG,
                needs_any: GATHER,
                cost: Cost::Page,
                precision: PAGED,
            },
            Alternative {
                kind: Kind::TpBtf,
                links: &[
                    event("lruvec_btf", "memcg", "mod_memcg_lruvec_state", 3),
                    event("state_btf", "memcg", "mod_memcg_state", 3),
                ],
                needs: STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: COUNTED,
            },
            Alternative {
                kind: Kind::RawTp,
                links: &[
                    event("lruvec_raw", "memcg", "mod_memcg_lruvec_state", 3),
                    event("state_raw", "memcg", "mod_memcg_state", 3),
                ],
                needs: STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: COUNTED,
            },
            Alternative {
                kind: Kind::Tracepoint,
                links: &[
                    event("lruvec_tp", "memcg", "mod_memcg_lruvec_state", 0),
                    event("state_tp", "memcg", "mod_memcg_state", 0),
                ],
                needs: CLASSIC_STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: COUNTED,
            },
            Alternative {
                kind: Kind::Kprobe,
                links: &[
                    entry("try_kprobe", TRY_PAGE, 3),
                    exit("try_kret", TRY_PAGE, 3),
                    entry("unch_kprobe", BACK_PAGE, 1),
                    optional(entry("objcg_kprobe", BACK_OBJECT, 2)),
                ],
                needs: MEMCG,
                needs_any: GATHER,
                cost: Cost::Page,
                precision: PAGED,
            },
        ],
        on_demand: None,
        lost: "charged_per_s and uncharged_per_s are not known; growth still is, from memory.current",
    },
    Probe {
        name: "charge_site",
        purpose: "the processes and kernel call stacks that charge pages to a chosen container",
        alternatives: &[
            Alternative {
                kind: Kind::Fentry,
                links: &[exit("site_try_fexit", TRY, 3), entry("site_chg_fentry", FORCE, 2)],
                needs: COUNTER,
                needs_any: &[],
                cost: Cost::Batch,
                precision: SAMPLED,
            },
            Alternative {
                kind: Kind::Kprobe,
                links: &[
                    // Return first: of two probes on a function the later one runs first, and on 5.10 a stack ends
                    // where a return probe has put itself.
                    exit("site_try_kret", TRY, 3),
                    entry("site_try_kprobe", TRY, 3),
                    entry("site_chg_kprobe", FORCE, 2),
                ],
                needs: COUNTER,
                needs_any: &[],
                cost: Cost::Batch,
                precision: SAMPLED,
            },
            Alternative {
                kind: Kind::TpBtf,
                links: &[
                    event("site_lruvec_btf", "memcg", "mod_memcg_lruvec_state", 3),
                    event("site_state_btf", "memcg", "mod_memcg_state", 3),
                ],
                needs: STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: SAMPLED_PAGES,
            },
            Alternative {
                kind: Kind::RawTp,
                links: &[
                    event("site_lruvec_raw", "memcg", "mod_memcg_lruvec_state", 3),
                    event("site_state_raw", "memcg", "mod_memcg_state", 3),
                ],
                needs: STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: SAMPLED_PAGES,
            },
            Alternative {
                kind: Kind::Tracepoint,
                links: &[
                    event("site_lruvec_tp", "memcg", "mod_memcg_lruvec_state", 0),
                    event("site_state_tp", "memcg", "mod_memcg_state", 0),
                ],
                needs: CLASSIC_STATISTICS,
                needs_any: &[],
                cost: Cost::Page,
                precision: SAMPLED_PAGES,
            },
        ],
        on_demand: Some(
            "for a chosen container, for a bounded time (top -c PATTERN --sites, or key w in its detail)",
        ),
        lost: "which process of a container is charged, and through what in the kernel, is not known",
    },
];

/// The probe of that name.
pub fn probe(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.name == name)
}

/// What the plan will have to know about the kernel.
pub fn questions() -> Questions {
    let mut questions = Questions::default();
    for link in PROBES.iter().flat_map(|probe| probe.alternatives).flat_map(|alternative| alternative.links) {
        match link.hook {
            Hook::Event(group, event, _) => {
                if !questions.tracepoints.contains(&(group, event)) {
                    questions.tracepoints.push((group, event));
                }
            }
            Hook::Entry(names, _) | Hook::Return(names, _) => {
                for name in names {
                    if !questions.functions.contains(name) {
                        questions.functions.push(name);
                    }
                }
            }
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_kernel() {
        let mut programs = BTreeSet::new();
        for probe in PROBES {
            assert!(!probe.lost.is_empty() && !probe.purpose.is_empty());
            for alternative in probe.alternatives {
                for link in alternative.links {
                    assert!(programs.insert(link.program), "{} is attached twice", link.program);
                    assert!(link.program.len() <= 16, "the kernel keeps 15 characters of {}", link.program);
                }
            }
        }
    }

    #[test]
    fn batch_hooks_come_before_page_hooks() {
        let charge = probe("charge").expect("the charge probe");
        let first_page = charge.alternatives.iter().position(|a| a.cost == Cost::Page);
        let last_batch = charge.alternatives.iter().rposition(|a| a.cost == Cost::Batch);
        assert!(last_batch < first_page);
    }

    #[test]
    fn every_kind_has_its_word() {
        let words: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
