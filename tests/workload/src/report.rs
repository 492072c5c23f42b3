//! What a workload tells its caller: one JSON line when it is done and starts to hold, so that a test knows the truth.

use std::{io::Write, process, thread, time::Duration};

use anyhow::{Context, Result};

use crate::amount::Hold;

/// Says how much was done, then stays for the time of `hold`.
pub(crate) fn done_then_hold(bytes: u64, hold: Hold) -> Result<()> {
    line(&format!(r#"{{"done_bytes":{bytes},"pid":{}}}"#, process::id()))?;
    stay(hold);
    Ok(())
}

/// One line on standard output, at once: a caller waits for it.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write the report to standard output; is its reader gone?")
}

/// For a workload whose standard output is its work.
pub(crate) fn line_beside(text: &str) {
    // Nobody may be reading; the workload goes on all the same.
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn failure(error: &anyhow::Error) {
    line_beside(&format!("workload: {error:#}"));
}

pub(crate) fn stay(hold: Hold) {
    match hold {
        Hold::For(time) => thread::sleep(time),
        Hold::Forever => loop {
            thread::sleep(Duration::from_secs(3600));
        },
    }
}
