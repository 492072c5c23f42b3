//! Storms: as many page faults, or bytes written to the page cache, as the machine gives. The benchmarks compare their
//! rates with and without memtrace.

use std::{
    io::{Seek, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    amount::Bytes,
    file,
    mapping::{Mapping, page_size},
    report,
};

/// Map, touch and unmap in a loop; print page faults each second
#[derive(Args)]
pub(crate) struct FaultStorm {
    /// The size of each mapping
    #[arg(long, default_value = "64M")]
    bytes: Bytes,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Write a file and truncate it in a loop; print bytes each second
#[derive(Args)]
pub(crate) struct WriteStorm {
    /// The file
    path: PathBuf,
    /// Truncate when it has this size
    #[arg(long, default_value = "64M")]
    bytes: Bytes,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl FaultStorm {
    pub(crate) fn run(self) -> Result<()> {
        let (faults, seconds, cpu) = storm(self.seconds, || {
            Mapping::new(self.bytes.0)?.touch(0, self.bytes.0);
            Ok(self.bytes.0.div_ceil(page_size()))
        })?;
        report::line(&format!(
            r#"{{"faults":{faults},"seconds":{seconds:.6},"cpu_seconds":{cpu:.6},"faults_per_second":{:.1}}}"#,
            faults as f64 / seconds
        ))
    }
}

impl WriteStorm {
    pub(crate) fn run(self) -> Result<()> {
        let mut file = file::create(&self.path)?;
        let piece = vec![b'm'; 64 << 10];
        let (bytes, seconds, cpu) = storm(self.seconds, || {
            let mut written = 0;
            while written < self.bytes.0 {
                file.write_all(&piece).with_context(|| {
                    format!("cannot write to {}; is its file system full?", self.path.display())
                })?;
                written += piece.len() as u64;
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .with_context(|| format!("cannot truncate {}", self.path.display()))?;
            Ok(written)
        })?;
        report::line(&format!(
            r#"{{"bytes":{bytes},"seconds":{seconds:.6},"cpu_seconds":{cpu:.6},"bytes_per_second":{:.1}}}"#,
            bytes as f64 / seconds
        ))
    }
}

/// Whole rounds for at least so many seconds; returns the sum of what the rounds did, the time they took and the CPU
/// time they took, which on a busy machine tells more.
fn storm(seconds: f64, mut round: impl FnMut() -> Result<u64>) -> Result<(u64, f64, f64)> {
    let time = Duration::try_from_secs_f64(seconds).context("--seconds must be a time, as 5 or 0.5")?;
    let start = Instant::now();
    let cpu_start = cpu_seconds();
    let mut sum = 0;
    loop {
        sum += round()?;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok((sum, elapsed.as_secs_f64(), cpu_seconds() - cpu_start));
        }
    }
}

pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
