//! The process whose system calls are measured: one for a whole scenario, told what to call and for how long.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bed, storm::Took};
use crate::command::not_started;

/// Each storm of each round; some batch of calls is made in any case.
const SECONDS: f64 = 0.25;

/// One kind of call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) what: &'static str,
    pub(super) word: &'static str,
    pub(super) bytes: u32,
    /// Of a line with its newline; 0 if there is none.
    pub(super) line: u32,
    /// By a process with a table of more than 64 descriptors.
    pub(super) many: bool,
}

pub(super) struct Calls {
    child: Child,
    /// Of the process that makes the calls.
    pid: u64,
    /// No pipe: it would make of the workload a reader of log lines.
    orders: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Calls {
    pub(super) fn start(bed: &Bed, writer: &Path, reader: &Path, many: bool) -> Result<Self> {
        let mut command = Command::new(&bed.workload);
        command.args(["--with-parent", "calls", "--writer-cgroup"]).arg(writer);
        command.arg("--reader-cgroup").arg(reader);
        command.args(many.then_some("--many-descriptors"));
        let (orders, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let theirs = OwnedFd::from(theirs);
        command.stdin(theirs.try_clone().context("cannot copy a descriptor")?).stdout(theirs);
        let child = command.spawn().with_context(|| not_started(&command))?;
        // The command still holds the workload's end.
        drop(command);
        let answers = BufReader::new(orders.try_clone().context("cannot copy a descriptor")?);
        let mut calls = Self { child, pid: 0, orders, answers };
        calls.pid = calls.answer()?["pid"].as_u64().context("the workload said no process")?;
        Ok(calls)
    }

    pub(super) fn id(&self) -> u64 {
        self.pid
    }

    /// Nanoseconds a call.
    pub(super) fn storm(&mut self, bed: &Bed, call: &Call) -> Result<Took> {
        bed.stop.check()?;
        let order = format!("{} {} {} {SECONDS}\n", call.word, call.bytes, call.line);
        self.orders.write_all(order.as_bytes()).context("the workload has ended")?;
        let said = self.answer()?;
        let number = |key: &str| said[key].as_f64().with_context(|| format!("the workload said no {key}"));
        let calls = number("calls")?;
        Ok(Took { cpu: number("cpu_seconds")? * 1e9 / calls, wall: number("seconds")? * 1e9 / calls })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot read what the workload says")?;
        ensure!(!line.is_empty(), "the workload has ended");
        serde_json::from_str(&line).context("cannot read what the workload said")
    }

    /// Until a debugger has it.
    pub(super) fn traced(&self, bed: &Bed) -> Result<()> {
        let status = format!("/proc/{}/status", self.id());
        bed.stop.wait("strace to attach", Duration::from_secs(10), || {
            let text = fs::read_to_string(&status).with_context(|| format!("cannot read {status}"))?;
            let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            Ok(tracer.is_some_and(|pid| pid.trim() != "0").then_some(()))
        })
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // It ends where its orders do; one that has ended already is no failure here.
        let _ = self.orders.shutdown(Shutdown::Write);
        let _ = self.child.wait();
    }
}
