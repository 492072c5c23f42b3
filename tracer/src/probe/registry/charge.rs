//! Probes of charges: how many pages, and by whom.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Kind, Probe, entry, event, exit, optional};

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

pub(super) const CHARGE: Probe = Probe {
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
            cost: Cost::Batch,
            precision: BATCHED,
            ..ALTERNATIVE
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
            cost: Cost::Batch,
            precision: BATCHED,
            ..ALTERNATIVE
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
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[
                event("lruvec_btf", "memcg", "mod_memcg_lruvec_state", 3),
                event("state_btf", "memcg", "mod_memcg_state", 3),
            ],
            needs: STATISTICS,
            cost: Cost::Page,
            precision: COUNTED,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[
                event("lruvec_raw", "memcg", "mod_memcg_lruvec_state", 3),
                event("state_raw", "memcg", "mod_memcg_state", 3),
            ],
            needs: STATISTICS,
            cost: Cost::Page,
            precision: COUNTED,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("lruvec_tp", "memcg", "mod_memcg_lruvec_state", 0),
                event("state_tp", "memcg", "mod_memcg_state", 0),
            ],
            needs: CLASSIC_STATISTICS,
            cost: Cost::Page,
            precision: COUNTED,
            ..ALTERNATIVE
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
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "charged_per_s and uncharged_per_s are not known; growth still is, from memory.current",
};

pub(super) const CHARGE_SITE: Probe = Probe {
    name: "charge_site",
    purpose: "the processes and kernel call stacks that charge pages to a chosen container",
    alternatives: &[
        Alternative {
            kind: Kind::Fentry,
            links: &[exit("site_try_fexit", TRY, 3), entry("site_chg_fentry", FORCE, 2)],
            needs: COUNTER,
            cost: Cost::Batch,
            precision: SAMPLED,
            ..ALTERNATIVE
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
            cost: Cost::Batch,
            precision: SAMPLED,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::TpBtf,
            links: &[
                event("site_lruvec_btf", "memcg", "mod_memcg_lruvec_state", 3),
                event("site_state_btf", "memcg", "mod_memcg_state", 3),
            ],
            needs: STATISTICS,
            cost: Cost::Page,
            precision: SAMPLED_PAGES,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[
                event("site_lruvec_raw", "memcg", "mod_memcg_lruvec_state", 3),
                event("site_state_raw", "memcg", "mod_memcg_state", 3),
            ],
            needs: STATISTICS,
            cost: Cost::Page,
            precision: SAMPLED_PAGES,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[
                event("site_lruvec_tp", "memcg", "mod_memcg_lruvec_state", 0),
                event("site_state_tp", "memcg", "mod_memcg_state", 0),
            ],
            needs: CLASSIC_STATISTICS,
            cost: Cost::Page,
            precision: SAMPLED_PAGES,
            ..ALTERNATIVE
        },
    ],
    on_demand: Some(
        "for a chosen container, for a bounded time (top -c PATTERN --sites, or key w in its detail)",
    ),
    lost: "which process of a container is charged, and through what in the kernel, is not known",
};
