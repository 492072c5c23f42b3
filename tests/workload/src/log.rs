//! Log lines of a known length at a known rate, on standard output or into a pipe of its own.

use std::{
    fs::File,
    io::{self, Read as _, Write},
    thread,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    amount::{Bytes, Hold},
    pace::paced,
    report,
};

/// Write log lines to standard output (the report then goes to standard error)
#[derive(Args)]
pub(crate) struct Log {
    /// The length of a line, its newline included
    #[arg(long, default_value = "128")]
    line_bytes: Bytes,
    /// So many bytes each second (default: as fast as they are read)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Stop after so many bytes (default: never)
    #[arg(long)]
    total: Option<Bytes>,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
    /// Write to a pipe that a thread of this process empties, not to standard output
    #[arg(long)]
    pipe: bool,
}

impl Log {
    pub(crate) fn run(self) -> Result<()> {
        let length = self.line_bytes.0 as usize;
        if length == 0 {
            bail!("a line has at least its newline; give --line-bytes 1 or more");
        }
        let line = line_of(length);
        let mut out = if self.pipe { emptied_pipe()? } else { Box::new(io::stdout()) };
        let total = self.total.map(|total| total.0 / self.line_bytes.0 * self.line_bytes.0);
        let rate = self.rate.map(|rate| rate.0);
        let done = paced(total, rate, self.line_bytes.0, |from, to| {
            // One write for each line, as a program with an unbuffered logger does.
            for _ in 0..(to - from) / self.line_bytes.0 {
                out.write_all(&line)
                    .and_then(|()| out.flush())
                    .context("cannot write a log line; is its reader gone?")?;
            }
            Ok(())
        })?;
        report::line_beside(&format!(r#"{{"done_bytes":{done},"pid":{}}}"#, std::process::id()));
        report::stay(self.hold);
        Ok(())
    }
}

fn line_of(length: usize) -> Vec<u8> {
    let mut line: Vec<u8> = b"a log line of known length ".iter().copied().cycle().take(length - 1).collect();
    line.push(b'\n');
    line
}

fn emptied_pipe() -> Result<Box<dyn Write>> {
    let (reader, writer) = rustix::pipe::pipe().context("cannot make a pipe; too many open files?")?;
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let mut reader = File::from(reader);
        while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    Ok(Box::new(File::from(writer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_length() {
        assert_eq!(line_of(1), b"\n");
        assert_eq!(line_of(128).len(), 128);
        assert_eq!(line_of(128).iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
