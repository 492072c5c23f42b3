//! The two that use no memory: one sleeps, one burns a processor. Also how any workload ends at a signal.

use std::{
    hint,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{amount::Hold, report};

/// Do nothing
#[derive(Args)]
pub(crate) struct Idle {
    /// So many seconds, or `forever`
    #[arg(long, default_value = "forever")]
    hold: Hold,
}

/// Burn one processor
#[derive(Args)]
pub(crate) struct Spin {
    /// So many seconds, or `forever`
    #[arg(long, default_value = "forever")]
    hold: Hold,
}

impl Idle {
    pub(crate) fn run(self) -> Result<()> {
        report::done_then_hold(0, self.hold)
    }
}

impl Spin {
    pub(crate) fn run(self) -> Result<()> {
        report::done_then_hold(0, Hold::For(std::time::Duration::ZERO))?;
        let start = Instant::now();
        while match self.hold {
            Hold::For(time) => start.elapsed() < time,
            Hold::Forever => true,
        } {
            hint::spin_loop();
        }
        Ok(())
    }
}

/// Ends with status 0 at SIGTERM or SIGINT. Process 1 of a container has no default action for them: without a
/// handler the runtime would wait, then send SIGKILL.
pub(crate) fn exit_on_signal() -> Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 0, Arc::clone(&always))
            .with_context(|| format!("cannot set a handler for signal {signal}"))?;
    }
    Ok(())
}

/// The kernel kills this process when the thread that started it is gone.
pub(crate) fn end_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask for a signal when the parent ends")
}
