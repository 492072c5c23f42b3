//! The live tests on this machine's own kernel; `vm` runs them on others.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result};

use crate::{
    artifact::Artifacts,
    command::{command, is_root, not_started, shown},
};

/// What a run of tests printed, and whether it went well.
pub(crate) struct Ran {
    pub(crate) lines: Vec<String>,
    pub(crate) success: bool,
}

pub(crate) const NOT_ROOT: &str = "only root may attach to the kernel; run this as root";

/// With it the tests also print what fixtures are made of.
pub(crate) const RECORD: &str = "MEMTRACE_RECORD";

/// With it scenes are made that take too long for each run of the tests.
pub(crate) const LAB: &str = "MEMTRACE_LAB";

/// All tests, or those whose names hold one of these. `set`: a variable that they look for. `None`: not
/// permitted here.
pub(crate) fn here(artifacts: &Artifacts, set: Option<&str>, names: &[&str]) -> Result<Option<Ran>> {
    if !is_root() {
        return Ok(None);
    }
    let program = artifacts.live_tests.as_ref().context("the live tests were not built")?;
    // The reasons of skipped tests are printed by tests that pass, whose output is kept back otherwise.
    let mut tests = command(program);
    tests.args(["--test-threads=1", "--show-output"]).args(names);
    tests.env("MEMTRACE_BIN", &artifacts.memtrace).env("MEMTRACE_WORKLOAD", &artifacts.workload);
    tests.envs(set.map(|name| (name, "1")));
    watch(&mut tests).map(Some)
}

/// Runs it with its output passed on.
pub(crate) fn watch(command: &mut Command) -> Result<Ran> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| not_started(command))?;
    let (sender, receiver) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as _),
        child.stderr.take().map(|err| Box::new(err) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    drop(sender);
    let mut lines = Vec::new();
    for line in receiver {
        // Whoever reads our output may be gone; the tests run on.
        let _ = writeln!(std::io::stdout(), "{line}");
        lines.push(line);
    }
    let status = child.wait().with_context(|| format!("lost `{}`", shown(command)))?;
    Ok(Ran { lines, success: status.success() })
}
