//! A program that runs beside: started, waited for, measured from /proc, and ended on every way out.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::stop::Stop;
use crate::command::{not_started, shown, tail};

/// Removing a thousand cgroups takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with SIGTERM when dropped.
pub(super) struct Running {
    child: Child,
    name: String,
    /// The last line of standard output, and how many there were.
    last: Arc<Mutex<(u64, String)>>,
    errors: Arc<Mutex<String>>,
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) rss: u64,
    pub(super) peak: u64,
    pub(super) pss: Option<u64>,
}

impl Running {
    /// Starts it with its output read all the time, as a pipe's reader would.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Self::over(command)?;
        if let Some(out) = running.child.stdout.take() {
            let last = Arc::clone(&running.last);
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    *last = (last.0 + 1, line);
                }
            });
        }
        if let Some(mut errors) = running.child.stderr.take() {
            let kept = Arc::clone(&running.errors);
            thread::spawn(move || {
                let mut said = String::new();
                // What is not text is not worth quoting.
                let _ = errors.read_to_string(&mut said);
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = said;
            });
        }
        Ok(running)
    }

    /// Starts it with the input and output that the command was given.
    pub(super) fn over(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| not_started(command))?;
        let name = shown(command);
        Ok(Self { child, name, last: Arc::default(), errors: Arc::default() })
    }

    /// Waits for so many lines of output and gives the last.
    pub(super) fn line(&mut self, stop: &Stop, count: u64) -> Result<String> {
        stop.wait(&self.name.clone(), Duration::from_secs(120), || {
            // First: what it printed before it ended still counts.
            let ended = self.child.try_wait().context("lost a program")?;
            let (lines, last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if lines >= count {
                return Ok(Some(last));
            }
            match ended {
                Some(status) => {
                    // Its streams may still be on the way.
                    thread::sleep(Duration::from_millis(50));
                    let (lines, last) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if lines >= count {
                        return Ok(Some(last));
                    }
                    let said = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                    bail!("`{}` ended ({status}):\n{}", self.name, tail(&said, 5))
                }
                None => Ok(None),
            }
        })
    }

    /// The last line there is by now.
    pub(super) fn last_line(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        usage(self.id()).with_context(|| format!("cannot measure `{}`", self.name))
    }

    /// What it said on standard error once it ended.
    pub(super) fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has ended by itself.
    pub(super) fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("lost a program")?.is_some())
    }

    /// Its share of one core over so long.
    pub(super) fn cpu_share(&self, stop: &Stop, time: Duration) -> Result<f64> {
        let (start, before) = (Instant::now(), self.usage()?.cpu);
        stop.sleep(time)?;
        let used = self.usage()?.cpu.saturating_sub(before);
        Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
    }
}

impl Running {
    /// Ends it with SIGTERM, and waits.
    pub(super) fn end(&mut self) {
        // One that ended by itself is no failure here.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32)
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn usage(id: u32) -> Result<Usage> {
    let dir = format!("/proc/{id}");
    let read = |name: &str| fs::read_to_string(format!("{dir}/{name}"));
    let status = read("status").context("it is gone")?;
    let kilobytes = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Ok(Usage {
        cpu: cpu(&dir).context("cannot read its CPU time")?,
        rss: kilobytes(&status, "VmRSS:").unwrap_or(0),
        peak: kilobytes(&status, "VmHWM:").unwrap_or(0),
        pss: read("smaps_rollup").ok().and_then(|text| kilobytes(&text, "Pss:")),
    })
}

/// CPU time of all threads that live: to the nanosecond from `schedstat`, else to the tick from `stat`.
fn cpu(dir: &str) -> Option<Duration> {
    let mut sum = 0_u64;
    for task in fs::read_dir(format!("{dir}/task")).ok()?.flatten() {
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { return ticks(dir) };
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

fn ticks(dir: &str) -> Option<Duration> {
    let text = fs::read_to_string(format!("{dir}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / rustix::param::clock_ticks_per_second()))
}
