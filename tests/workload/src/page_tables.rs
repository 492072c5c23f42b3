//! Page tables: one page touched in each 2 MiB, so that each needs a page of the lowest table, which maps 2 MiB.

use clap::Args;

use crate::{
    amount::{Bytes, Hold},
    mapping::{Mapping, page_size},
    report,
};

/// Fill page tables: as much anonymous memory comes with them
#[derive(Args)]
pub(crate) struct PageTables {
    /// How much of them, as 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// Keep them so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl PageTables {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // A table of a page holds an entry of 8 bytes for each page.
        let span = page_size() / 8 * page_size();
        let tables = self.total.0 / page_size();
        let mut mapping = Mapping::new(tables.saturating_mul(span))?;
        for at in (0..tables * span).step_by(span as usize) {
            mapping.touch(at, at + page_size());
        }
        report::done_then_hold(tables * page_size(), self.hold)
    }
}
