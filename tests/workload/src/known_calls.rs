//! System calls whose number, errors and times are known to whoever makes them: by threads and children, too, so that
//! tools that follow both can be compared.

use std::{
    env,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::getppid,
    thread::{NanosleepRelativeResult, nanosleep},
    time::Timespec,
};

use crate::report;

/// Make calls of a known number, which partly fail, and sleep for known times; print both
#[derive(Args)]
pub(crate) struct KnownCalls {
    /// So many of getppid, as many again in a thread
    #[arg(long, default_value_t = 5000)]
    getppid: u64,
    /// So many of openat that find nothing
    #[arg(long, default_value_t = 300)]
    missing: u64,
    /// So many sleeps, between one and five milliseconds
    #[arg(long, default_value_t = 200)]
    sleeps: u64,
    /// So many children that do nothing
    #[arg(long, default_value_t = 3)]
    children: u64,
}

impl KnownCalls {
    pub(crate) fn run(self) -> Result<()> {
        let calls = move |count: u64| {
            (0..count).for_each(|_| {
                let _ = getppid();
            })
        };
        calls(self.getppid);
        thread::spawn(move || calls(self.getppid)).join().ok().context("the thread panicked")?;
        for _ in 0..self.missing {
            let found = openat(CWD, "/nothing/of/the/kind", OFlags::RDONLY, Mode::empty());
            ensure!(found.is_err(), "something is where nothing should be");
        }
        for _ in 0..self.children {
            let this = env::current_exe().context("cannot find this program")?;
            let status =
                Command::new(this).args(["idle", "--hold", "0"]).stdout(process::Stdio::null()).status();
            ensure!(status.context("cannot start a child")?.success(), "a child failed");
        }
        let asked: Vec<Duration> = (0..self.sleeps).map(nth_sleep).collect();
        let slept: Vec<f64> = asked.iter().map(|time| sleep(*time)).collect();
        let list = |times: &mut dyn Iterator<Item = f64>| {
            times.map(|time| format!("{time:.3}")).collect::<Vec<_>>().join(",")
        };
        report::line(&format!(
            r#"{{"done_bytes":0,"pid":{},"getppid":{},"missing":{},"asked_us":[{}],"slept_us":[{}]}}"#,
            process::id(),
            2 * self.getppid,
            self.missing,
            list(&mut asked.iter().map(|time| time.as_secs_f64() * 1e6)),
            list(&mut slept.into_iter())
        ))
    }
}

/// Spread out, in an order of no kind.
fn nth_sleep(nth: u64) -> Duration {
    Duration::from_micros(1000 + nth * 7919 % 4000)
}

/// How long it took by this process's own clock, us.
fn sleep(time: Duration) -> f64 {
    let start = Instant::now();
    let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let mut left = time;
    while let NanosleepRelativeResult::Interrupted(rest) = nanosleep(&left) {
        left = rest;
    }
    start.elapsed().as_secs_f64() * 1e6
}
