//! Storms: as many page faults, or bytes written to the page cache, as the machine gives. The benchmarks compare their
//! rates with and without memtrace.

use std::{
    io::{Seek, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
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
    /// Write so much at a time
    #[arg(long, default_value = "64k")]
    piece: Bytes,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl FaultStorm {
    pub(crate) fn run(self) -> Result<()> {
        let done = storm(self.seconds, || {
            Mapping::new(self.bytes.0)?.touch(0, self.bytes.0);
            Ok(self.bytes.0.div_ceil(page_size()))
        })?;
        report::line(&reported("faults", &done))
    }
}

impl WriteStorm {
    pub(crate) fn run(self) -> Result<()> {
        let mut file = file::create(&self.path)?;
        ensure!(self.piece.0 > 0, "cannot write 0 bytes at a time; give at least one");
        let piece = vec![b'm'; self.piece.0 as usize];
        let done = storm(self.seconds, || {
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
        report::line(&reported("bytes", &done))
    }
}

/// What a storm did: the sum of what its rounds did, the time they took and the CPU time they took, which on a busy
/// machine tells more.
pub(crate) struct Done {
    sum: u64,
    seconds: f64,
    cpu: f64,
}

/// Whole rounds for at least so many seconds, after one more.
pub(crate) fn storm(seconds: f64, mut round: impl FnMut() -> Result<u64>) -> Result<Done> {
    let time = Duration::try_from_secs_f64(seconds).context("--seconds must be a time, as 5 or 0.5")?;
    // One that does not count: what lies idle for a second or two a hypervisor may have taken back meanwhile.
    round()?;
    let start = Instant::now();
    let cpu_start = cpu_seconds();
    let mut sum = 0;
    loop {
        sum += round()?;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(Done { sum, seconds: elapsed.as_secs_f64(), cpu: cpu_seconds() - cpu_start });
        }
    }
}

/// The report of a storm of so many of `what`.
pub(crate) fn reported(what: &str, done: &Done) -> String {
    let Done { sum, seconds, cpu } = done;
    format!(
        r#"{{"{what}":{sum},"seconds":{seconds:.6},"cpu_seconds":{cpu:.6},"{what}_per_second":{:.1}}}"#,
        *sum as f64 / seconds
    )
}

pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
