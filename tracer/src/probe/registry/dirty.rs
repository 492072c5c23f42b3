//! Probes of dirty pages: made so by whom, written back, and what writers wait for it.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Cost, Kind, Probe, entry, event};

/// From a folio to its memory cgroup, and what is named.
macro_rules! folio {
    ($($own:ident)*) => {
        &[
            $(Symbol::$own,)*
            Symbol::FolioFlags,
            Symbol::MemcgCss,
            Symbol::CssCgroup,
            Symbol::CgroupKn,
            Symbol::KernfsNodeId,
        ]
    };
}

/// What leads from the current task to its memory cgroup, and what is named.
macro_rules! task {
    ($($own:ident)*) => {
        &[
            $(Symbol::$own,)*
            Symbol::TaskCgroups,
            Symbol::CssSetSubsys,
            Symbol::MemoryCgrpId,
            Symbol::CssCgroup,
            Symbol::CgroupKn,
            Symbol::KernfsNodeId,
        ]
    };
}

const FOLIO: &[Symbol] =
    folio!(AddressSpaceHost InodeIno InodeSb SbDev TaskCgroups CssSetSubsys MemoryCgrpId);
const FUNCTION: &[Symbol] =
    folio!(FolioMapping AddressSpaceHost InodeIno InodeSb SbDev TaskCgroups CssSetSubsys MemoryCgrpId);
const WRITTEN: &[Symbol] = folio!(FolioMapping);
const RECORD: &[Symbol] = task!(TpDirtyIno);
const PAUSE: &[Symbol] = task!(TpBalancePause);
const STATISTICS: &[Symbol] = &[
    Symbol::NrFileDirty,
    Symbol::NrWriteback,
    Symbol::MemcgCss,
    Symbol::CssCgroup,
    Symbol::CgroupKn,
    Symbol::KernfsNodeId,
];
const CLASSIC_STATISTICS: &[Symbol] = &[
    Symbol::NrFileDirty,
    Symbol::NrWriteback,
    Symbol::TpLruvecId,
    Symbol::TpLruvecItem,
    Symbol::TpLruvecVal,
];
const OWNER: &[&[Symbol]] = &[&[Symbol::FolioMemcg, Symbol::PageMemcg]];

// 5.16 made it of folios (203a31516616).
const MARK: &[&str] = &["__folio_mark_dirty"];
const ACCOUNT: &[&str] = &["account_page_dirtied"];
const END: &[&str] = &["__folio_end_writeback", "test_clear_page_writeback"];
const CLEAN: &[&str] = &["folio_account_cleaned", "account_page_cleaned"];

const EXACT: &str = "exact; a page of a file system's own tables counts for whoever it is charged to";
const WRITER: &str = "the writer's memory cgroup is taken for the pages'; at least: of a large folio one page counts; the \
     file is known by its inode number alone";
const BY_FOLIO: &str = "exact";
const BY_STATISTICS: &str = "exact, but pages that are swapped out count as written, too";

/// By a tracepoint, whose name has changed.
const fn folios(kind: Kind, links: &'static [super::Link]) -> Alternative {
    Alternative {
        kind,
        links,
        needs: FOLIO,
        needs_any: OWNER,
        cost: Cost::Folio,
        precision: EXACT,
        ..ALTERNATIVE
    }
}

const fn functions(kind: Kind, links: &'static [super::Link]) -> Alternative {
    Alternative { needs: FUNCTION, ..folios(kind, links) }
}

const fn record(links: &'static [super::Link]) -> Alternative {
    Alternative { needs: RECORD, needs_any: &[], precision: WRITER, ..folios(Kind::Tracepoint, links) }
}

pub(super) const DIRTY: Probe = Probe {
    name: "dirty",
    purpose: "pages of files that become dirty, by memory cgroup, process and file",
    alternatives: &[
        folios(Kind::TpBtf, &[event("dirty_btf", "writeback", "writeback_dirty_folio", 2)]),
        folios(Kind::TpBtf, &[event("dirty_btf", "writeback", "writeback_dirty_page", 2)]),
        folios(Kind::RawTp, &[event("dirty_raw", "writeback", "writeback_dirty_folio", 2)]),
        folios(Kind::RawTp, &[event("dirty_raw", "writeback", "writeback_dirty_page", 2)]),
        functions(Kind::Fentry, &[entry("dirty_fentry", MARK, 3)]),
        functions(Kind::Fentry, &[entry("dirty_fentry", ACCOUNT, 2)]),
        functions(Kind::Kprobe, &[entry("dirty_kprobe", MARK, 3)]),
        functions(Kind::Kprobe, &[entry("dirty_kprobe", ACCOUNT, 2)]),
        // Last: it has no folio.
        record(&[event("dirty_tp", "writeback", "writeback_dirty_folio", 0)]),
        record(&[event("dirty_tp", "writeback", "writeback_dirty_page", 0)]),
    ],
    on_demand: None,
    lost: "which process makes which file's pages dirty is not known, nor how fast",
};

const fn ends(kind: Kind, links: &'static [super::Link], variant: &'static str) -> Alternative {
    Alternative {
        kind,
        links,
        needs: WRITTEN,
        needs_any: OWNER,
        cost: Cost::Folio,
        precision: BY_FOLIO,
        variant: Some(variant),
        ..ALTERNATIVE
    }
}

const fn statistics(kind: Kind, links: &'static [super::Link], needs: &'static [Symbol]) -> Alternative {
    Alternative { kind, links, needs, cost: Cost::Page, precision: BY_STATISTICS, ..ALTERNATIVE }
}

pub(super) const WRITEBACK_DONE: Probe = Probe {
    name: "writeback_done",
    purpose: "pages of files written back, and dirty ones dropped unwritten, by memory cgroup",
    alternatives: &[
        ends(Kind::Fentry, &[entry("wb_end_fentry", END, 1), entry("wb_clean_fentry", CLEAN, 2)], "folio"),
        // Up to 5.17 it was passed the mapping, too (566d3362885a).
        ends(Kind::Fentry, &[entry("wb_end_fentry", END, 1), entry("wb_clean_fentry", CLEAN, 3)], "mapping"),
        ends(Kind::Kprobe, &[entry("wb_end_kprobe", END, 1), entry("wb_clean_kprobe", CLEAN, 2)], "folio"),
        ends(Kind::Kprobe, &[entry("wb_end_kprobe", END, 1), entry("wb_clean_kprobe", CLEAN, 3)], "mapping"),
        statistics(Kind::TpBtf, &[event("wb_stat_btf", "memcg", "mod_memcg_lruvec_state", 3)], STATISTICS),
        statistics(Kind::RawTp, &[event("wb_stat_raw", "memcg", "mod_memcg_lruvec_state", 3)], STATISTICS),
        statistics(
            Kind::Tracepoint,
            &[event("wb_stat_tp", "memcg", "mod_memcg_lruvec_state", 0)],
            CLASSIC_STATISTICS,
        ),
    ],
    on_demand: None,
    lost: "what is written back is inferred: what became dirty less what is dirty still",
};

pub(super) const THROTTLE: Probe = Probe {
    name: "dirty_throttle",
    purpose: "time that writers are made to sleep because too much is dirty, by memory cgroup",
    alternatives: &[Alternative {
        kind: Kind::Tracepoint,
        links: &[event("throttle_tp", "writeback", "balance_dirty_pages", 0)],
        needs: PAUSE,
        precision: "the sleeps that the kernel decides on, in milliseconds; a fatal signal ends one early",
        ..ALTERNATIVE
    }],
    on_demand: None,
    lost: "how long writers were made to wait for write-back is not known",
};
