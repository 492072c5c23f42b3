//! Storms of one system call each, by order from standard input: the same process for every order, so that programs
//! that attach to a process or to the kernel meanwhile have their cost compared on the same one. The pipe that it writes
//! to is its standard error, as a log is; orders should not come by a pipe, or it is a reader of a log itself.

use std::{
    fs::{self, File},
    io::{BufRead, Read, Write, stdin},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::{Errno, close, fcntl_dupfd_cloexec, read, write},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::getppid,
    stdio::{dup2_stderr, stderr},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{cgroups::join, mapping::page_size, report, storm::cpu_seconds};

/// What a reader asks for at a time.
const PIECE: usize = 64 << 10;
/// What a pipe holds: what is written until the reader has its turn.
const ROOM: usize = 1 << 20;
/// A descriptor beyond the first 64.
const MANY: i32 = 100;
/// Calls between two looks at the clocks.
const BATCH: u64 = 1000;

/// Make system calls as told on standard input, each order a line `CALL BYTES LINE-BYTES SECONDS`
#[derive(Args)]
pub(crate) struct Calls {
    /// The cgroup of the process that makes the calls: it is the first there, so that its standard error is a log
    #[arg(long, value_name = "DIR")]
    writer_cgroup: Option<PathBuf>,
    /// The cgroup of the process that reads the pipe
    #[arg(long, value_name = "DIR")]
    reader_cgroup: Option<PathBuf>,
    /// Have a table of more descriptors than the kernel keeps in the process itself, as what a bash script starts
    #[arg(long)]
    many_descriptors: bool,
    /// Take the orders in this process
    #[arg(long, hide = true)]
    here: bool,
}

/// Empties a pipe when told to
#[derive(Args)]
pub(crate) struct Reader {}

#[derive(Clone, Copy, ValueEnum)]
enum Call {
    /// Nothing, as cheap as there is
    Getppid,
    /// A write to /dev/null
    Null,
    /// A read from /dev/zero
    Zero,
    /// One of each of these, and one that fails
    Mixed,
    /// A write to a pipe that another process reads
    Pipe,
}

struct Order {
    call: Call,
    /// Of each call, and of each line in it; 0 is no newline at all.
    bytes: usize,
    line: usize,
    time: Duration,
}

/// What a storm took in the calls alone.
#[derive(Default)]
struct Took {
    calls: u64,
    wall: Duration,
    cpu: f64,
}

/// The process at the other end of the pipe.
struct Pipe {
    /// Where it is told how many bytes to take, and says that it has.
    turn: UnixStream,
}

impl Calls {
    pub(crate) fn run(self) -> Result<()> {
        if !self.here {
            // It ends when its orders do, if we are killed.
            return again();
        }
        if let Some(cgroup) = &self.writer_cgroup {
            join(cgroup)?;
        }
        if self.many_descriptors {
            drop(fcntl_dupfd_cloexec(rustix::stdio::stdin(), MANY).context("cannot have many descriptors")?);
        }
        // The reader, too: what the pages of a pipe cost depends on whether both share a processor.
        stay_on_one_cpu()?;
        let mut reader = Pipe::start(&self)?;
        let null = File::options().write(true).open("/dev/null").context("cannot open /dev/null")?;
        let zero = File::open("/dev/zero").context("cannot open /dev/zero")?;
        report::line(&format!(r#"{{"pid":{}}}"#, std::process::id()))?;
        for line in stdin().lock().lines() {
            let order = Order::parse(&line.context("cannot read an order")?)?;
            let mut bytes = lines(order.bytes, order.line);
            let took = match order.call {
                Call::Getppid => order.repeat(
                    |_| Ok(BATCH),
                    || {
                        let _ = getppid();
                        Ok(())
                    },
                ),
                Call::Null => order.repeat(|_| Ok(BATCH), || Ok(write(&null, &bytes).map(drop)?)),
                Call::Zero => order.repeat(|_| Ok(BATCH), || Ok(read(&zero, &mut bytes).map(drop)?)),
                Call::Mixed => order.repeat(
                    |_| Ok(BATCH),
                    || {
                        let _ = getppid();
                        write(&null, &bytes)?;
                        read(&zero, &mut bytes)?;
                        // The kernel's word for a descriptor that nobody has.
                        let nothing = rustix::fs::fcntl_getfl(no_descriptor());
                        ensure!(nothing.is_err(), "there is a descriptor where none should be");
                        Ok(())
                    },
                ),
                Call::Pipe => {
                    ensure!((1..=ROOM).contains(&bytes.len()), "a write to the pipe is from 1 byte to 1 MiB");
                    let turn = &mut reader.turn;
                    let fit = fit(bytes.len());
                    let before = |calls: u64| emptied(turn, calls * bytes.len() as u64).map(|()| fit);
                    order.repeat(before, || {
                        let count = write(stderr(), &bytes)?;
                        ensure!(count == bytes.len(), "the pipe took {count} bytes of {}", bytes.len());
                        Ok(())
                    })
                }
            }?;
            report::line(&format!(
                r#"{{"calls":{},"seconds":{:.9},"cpu_seconds":{:.9}}}"#,
                took.calls,
                took.wall.as_secs_f64(),
                took.cpu
            ))?;
        }
        Ok(())
    }
}

impl Order {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [call, bytes, line, seconds] = words[..] else { bail!("an order has four words: {line:?}") };
        let number = |word: &str| word.parse().with_context(|| format!("not a number: {word}"));
        Ok(Self {
            call: Call::from_str(call, false).map_err(|_| anyhow::anyhow!("no such call: {call}"))?,
            bytes: number(bytes)?,
            line: number(line)?,
            time: Duration::try_from_secs_f64(seconds.parse().context("not a number of seconds")?)
                .context("not a time")?,
        })
    }

    /// Batches of calls for so long; `before` is told how many calls the last batch had and says how many come, and its
    /// time does not count.
    fn repeat(
        &self,
        mut before: impl FnMut(u64) -> Result<u64>,
        mut once: impl FnMut() -> Result<()>,
    ) -> Result<Took> {
        let mut took = Took::default();
        let begin = Instant::now();
        let mut last = 0;
        while last == 0 || begin.elapsed() < self.time {
            last = before(last)?;
            let (cpu, start) = (cpu_seconds(), Instant::now());
            for _ in 0..last {
                once()?;
            }
            took.wall += start.elapsed();
            took.cpu += cpu_seconds() - cpu;
            took.calls += last;
        }
        before(last)?;
        Ok(took)
    }
}

/// One that is not open.
fn no_descriptor() -> BorrowedFd<'static> {
    // SAFETY: it is no descriptor at all, so that nobody else can come to own it; the kernel refuses it.
    unsafe { BorrowedFd::borrow_raw(i32::MAX) }
}

/// So many bytes, each line so long with its newline, or no newline at all.
fn lines(bytes: usize, line: usize) -> Vec<u8> {
    (1..=bytes).map(|place| if line > 0 && place % line == 0 { b'\n' } else { b'y' }).collect()
}

/// Writes of so many bytes that go into an empty pipe: what does not fit into a page any more begins another.
fn fit(bytes: usize) -> u64 {
    let page = page_size() as usize;
    let writes =
        if bytes < page { ROOM / page * (page / bytes) } else { ROOM / bytes.next_multiple_of(page) };
    writes as u64
}

/// The same in a process whose table of descriptors is as small as it can be: a table is made at `fork`, as large as the
/// parent's greatest descriptor asks for, and never shrinks.
fn again() -> Result<()> {
    let open = fs::read_dir("/proc/self/fd").context("cannot list our descriptors; is /proc mounted?")?;
    let numbers: Vec<i32> = open.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: what we inherited is nobody's here; the one of the list itself is closed already, which is no failure.
        unsafe { close(number) }
    }
    let program =
        std::env::current_exe().context("cannot find the path of this program; is /proc mounted?")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--here");
    let status = command.status().context("cannot start again")?;
    ensure!(status.success(), "what was started again failed: {status}");
    Ok(())
}

fn stay_on_one_cpu() -> Result<()> {
    let all = sched_getaffinity(None).context("cannot ask which processors are ours")?;
    let mut last = CpuSet::new();
    if let Some(cpu) = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)) {
        last.set(cpu);
    }
    sched_setaffinity(None, &last).context("cannot stay on one processor")
}

impl Pipe {
    fn start(calls: &Calls) -> Result<Self> {
        let (theirs, pipe) =
            pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe; too many open files?")?;
        fcntl_setpipe_size(&pipe, ROOM).context("cannot make a pipe hold a mebibyte")?;
        // One that is full is an error here: nobody reads it meanwhile.
        fcntl_setfl(&pipe, OFlags::NONBLOCK).context("cannot make a pipe non-blocking")?;
        let (turn, their_turn) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let program =
            std::env::current_exe().context("cannot find the path of this program; is /proc mounted?")?;
        let mut command = Command::new(program);
        command.arg("--with-parent");
        if let Some(cgroup) = &calls.reader_cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command.arg("calls-reader").stdin(theirs).stdout(OwnedFd::from(their_turn));
        // It ends with us.
        drop(command.spawn().context("cannot start a reader")?);
        dup2_stderr(&pipe).context("cannot make the pipe our standard error")?;
        Ok(Self { turn })
    }
}

/// Has the reader take so many bytes.
fn emptied(turn: &mut UnixStream, bytes: u64) -> Result<()> {
    turn.write_all(&bytes.to_ne_bytes())
        .and_then(|()| turn.read_exact(&mut [0]))
        .context("the pipe's reader has ended")
}

impl Reader {
    pub(crate) fn run(self) -> Result<()> {
        let (from, turn) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let mut piece = vec![0; PIECE];
        let mut bytes = [0; 8];
        loop {
            match read(turn, &mut bytes) {
                Ok(0) => return Ok(()),
                Err(Errno::INTR) => continue,
                done => done.context("cannot read whose turn it is")?,
            };
            let mut left = u64::from_ne_bytes(bytes);
            while left > 0 {
                let count = read(from, &mut piece).context("cannot read the pipe")?;
                ensure!(count > 0, "the pipe ended early");
                left = left.saturating_sub(count as u64);
            }
            write(turn, &[0]).context("cannot give the turn back")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_stands_at_the_end_of_each_line() {
        assert_eq!(lines(6, 3), b"yy\nyy\n");
        assert_eq!(lines(3, 0), b"yyy");
    }

    #[test]
    fn an_order_has_four_words() {
        assert!(Order::parse("pipe 100 100 0.5").is_ok_and(|order| order.bytes == 100));
        assert!(Order::parse("pipe 100").is_err());
        assert!(Order::parse("fork 1 1 1").is_err());
    }
}
