//! Log lines of known lengths, written in every way there is: what memtrace tells of the stream is compared with what
//! this says at its end.

mod shape;
mod truth;
mod way;

use std::{
    fs::{self, File},
    os::fd::BorrowedFd,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};

use self::{
    shape::{Shape, Writer},
    truth::Truth,
    way::{By, Out},
};
use crate::{
    amount::{Bytes, Hold},
    report,
};

/// Write lines of known lengths to standard output, and the truth of them as JSON to standard error
#[derive(Args)]
pub(crate) struct Lines {
    #[arg(value_enum)]
    shape: Shape,
    #[arg(long, value_enum, default_value = "write")]
    by: By,
    /// Of a line or of a write, as the shape says
    #[arg(long, default_value = "80")]
    length: Bytes,
    /// Stop after so many writes of the shape
    #[arg(long)]
    writes: Option<u64>,
    /// Stop at so many bytes
    #[arg(long)]
    total: Option<Bytes>,
    /// Stop after so many seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// At most so many bytes each second (default: as fast as they are read)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Another seed, other lengths
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the lines say, again and again
    #[arg(long, default_value = "a log line of known length ")]
    text: String,
    /// Write to standard error
    #[arg(long)]
    stderr: bool,
    /// So many processes write, each the same number of lines, to the same stream
    #[arg(long, default_value_t = 1)]
    processes: u64,
    /// A child writes, and this process has the stream no more
    #[arg(long, conflicts_with = "processes")]
    child: bool,
    /// So many bytes without a newline at once, before --go and not part of the truth
    #[arg(long)]
    before: Option<Bytes>,
    /// Begin when this file is there
    #[arg(long)]
    go: Option<PathBuf>,
    /// Tell the truth in this file, not on standard error
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Then stay so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
    /// One of several processes, or the child
    #[arg(long, hide = true)]
    member: Option<u64>,
}

impl Lines {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.length.0 > 0, "a line has at least its newline; give --length 1 or more");
        if self.child && self.member.is_none() {
            return self.hand_on();
        }
        if self.processes > 1 && self.member.is_some() {
            return self.write(true).map(drop);
        }
        if let Some(before) = self.before {
            let bytes: Vec<u8> = self.text.bytes().cycle().take(before.0 as usize).collect();
            Out::new(self.fd(), By::Write, "", 0)?.put(&bytes, &mut Truth::default())?;
        }
        self.wait()?;
        let truth = if self.processes > 1 { self.write_by_members()? } else { self.write(true)? };
        self.tell(&truth)?;
        report::stay(self.hold);
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let Some(go) = &self.go else { return Ok(()) };
        while !go.try_exists().with_context(|| format!("cannot look for {}", go.display()))? {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'static> {
        if self.stderr { stderr() } else { stdout() }
    }

    /// Writes until the first limit; `really`: else it is only thought.
    fn write(&self, really: bool) -> Result<Truth> {
        let seed = self.seed + self.member.unwrap_or(0);
        let mut writer = Writer::new(self.shape, self.length.0 as usize, &self.text, seed);
        let mut out = if really {
            Some(Out::new(self.fd(), self.by, &self.text, self.length.0 as usize)?)
        } else {
            None
        };
        let (mut truth, mut write) = (Truth::default(), Vec::new());
        let start = Instant::now();
        let over = |writes: u64, truth: &Truth| {
            self.writes.is_some_and(|most| writes >= most)
                || self.total.is_some_and(|most| truth.bytes() >= most.0)
                || self.seconds.is_some_and(|most| start.elapsed().as_secs_f64() >= most)
        };
        let mut writes = 0;
        while !over(writes, &truth) {
            writes += 1;
            writer.next(self.writes == Some(writes), &mut write);
            let taken = match &mut out {
                Some(out) => out.put(&write, &mut truth)?,
                None => {
                    truth.wrote(&write);
                    true
                }
            };
            if !taken {
                break;
            }
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(truth.bytes() as f64 / rate.0 as f64);
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
        Ok(truth)
    }

    /// What each member writes is known beforehand: lengths follow from the seed, and a short write is taken whole.
    fn write_by_members(&self) -> Result<Truth> {
        ensure!(
            self.writes.is_some() && matches!(self.shape, Shape::Fixed | Shape::LogNormal),
            "several processes need --writes, and a shape whose writes are short and whole lines"
        );
        let members: Vec<Child> =
            (0..self.processes).map(|member| self.again(member)).collect::<Result<_>>()?;
        let mut sum = Truth::default();
        for member in 0..self.processes {
            sum.add(&Self { seed: self.seed + member, ..self.like() }.write(false)?);
        }
        for mut member in members {
            let status = member.wait().context("lost a member")?;
            ensure!(status.success(), "a member failed: {status}");
        }
        Ok(sum)
    }

    /// What the lengths depend on.
    fn like(&self) -> Self {
        Self { text: self.text.clone(), go: None, truth: None, ..*self }
    }

    /// This program once more, with the same words.
    fn again(&self, member: u64) -> Result<Child> {
        let program =
            std::env::current_exe().context("cannot find the path of this program; is /proc mounted?")?;
        let mut command = Command::new(program);
        command
            .args(std::env::args_os().skip(1))
            .arg("--with-parent")
            .arg("--member")
            .arg(member.to_string());
        command.spawn().context("cannot start a member; is the limit on processes reached?")
    }

    /// A child does it all; what this process had as the stream is /dev/null.
    fn hand_on(&self) -> Result<()> {
        let mut child = self.again(0)?;
        let nothing = File::options().write(true).open("/dev/null").context("cannot open /dev/null")?;
        if self.stderr { dup2_stderr(&nothing) } else { dup2_stdout(&nothing) }
            .context("cannot close the stream")?;
        let status = child.wait().context("lost the child")?;
        ensure!(status.success(), "the child failed: {status}");
        Ok(())
    }

    fn tell(&self, truth: &Truth) -> Result<()> {
        let Some(path) = &self.truth else {
            report::line_beside(&truth.json());
            return Ok(());
        };
        // Whoever finds the file finds all of it.
        let part = path.with_extension("part");
        fs::write(&part, truth.json())
            .and_then(|()| fs::rename(&part, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
