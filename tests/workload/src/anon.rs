//! Anonymous memory: touches pages at a steady rate, then keeps them.

use clap::Args;

use crate::{
    amount::{Bytes, Hold},
    mapping::{Mapping, page_size},
    pace::paced,
    report,
};

/// Allocate anonymous memory
#[derive(Args)]
pub(crate) struct Anon {
    /// How much, as 4096, 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// At most so many bytes each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Keep it so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
    /// Then free it and start again, until SIGTERM
    #[arg(long)]
    again: bool,
}

impl Anon {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        loop {
            let mut mapping = Mapping::new(self.total.0)?;
            let rate = self.rate.map(|rate| rate.0);
            let done = paced(Some(self.total.0), rate, page_size(), |from, to| {
                mapping.touch(from, to);
                Ok(())
            })?;
            report::done_then_hold(done, self.hold)?;
            if !self.again {
                return Ok(());
            }
        }
    }
}
