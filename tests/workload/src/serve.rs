//! An exporter that measures with a program at each request, and somebody who asks it at a steady pace, whether it answers
//! or not: requests pile up as soon as an answer takes longer than that.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Pid, setpriority_process};

use crate::{amount::Bytes, mapping::Mapping, report};

/// Answer each request with what a program says, holding memory until then
#[derive(Args)]
pub(crate) struct Serve {
    #[arg(long, default_value = "9100")]
    port: u16,
    /// What each request holds until it is answered
    #[arg(long, default_value = "2M")]
    buffer: Bytes,
    /// What the programs give way by to who accepts
    #[arg(long, default_value = "0")]
    nice: i32,
    /// Program and words that each request runs
    #[arg(trailing_var_arg = true, required = true)]
    program: Vec<String>,
}

/// Ask it, so many times a second
#[derive(Args)]
pub(crate) struct Scrape {
    #[arg(long, default_value = "9100")]
    port: u16,
    /// Requests a second
    #[arg(long)]
    rate: f64,
    /// From this network namespace, as /proc/PID/ns/net
    #[arg(long)]
    net: Option<PathBuf>,
    /// So many, then wait for the answers
    #[arg(long)]
    total: Option<u64>,
}

/// The truth: requests accepted, and of them answered and closed.
#[derive(Default)]
struct Truth {
    accepted: u64,
    completed: u64,
}

impl Truth {
    /// `at_s`: seconds since boot, the clock that everybody has.
    fn tell(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let at = now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9;
        let Truth { accepted, completed } = self;
        let in_flight = accepted - completed;
        let line = format!(
            r#"{{"at_s":{at:.3},"in_flight":{in_flight},"accepted":{accepted},"completed":{completed}}}"#
        );
        // Nobody may be reading.
        let _ = report::line(&line);
    }
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).context("cannot listen")?;
        report::line(r#"{"done_bytes":0}"#)?;
        let truth = Mutex::new(Truth::default());
        let update = |change: fn(&mut Truth)| {
            let mut truth = truth.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            change(&mut truth);
            truth.tell();
        };
        thread::scope(|threads| {
            for connection in listener.incoming().flatten() {
                update(|truth| truth.accepted += 1);
                let (update, this) = (&update, &self);
                // One request that fails is one less.
                let request = move || {
                    let _ = this.answer(connection);
                    update(|truth| truth.completed += 1);
                };
                let _ = thread::Builder::new().stack_size(128 << 10).spawn_scoped(threads, request);
            }
        });
        Ok(())
    }

    /// The connection is closed when this returns.
    fn answer(&self, mut connection: TcpStream) -> anyhow::Result<()> {
        let mut request = [0; 1024];
        if connection.read(&mut request)? == 0 {
            return Ok(());
        }
        let mut buffer = Mapping::new(self.buffer.0)?;
        buffer.touch(0, self.buffer.0);
        let mut program = Command::new(&self.program[0]);
        program.args(&self.program[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = program.spawn()?;
        if self.nice != 0 {
            // One that has ended needs none.
            let _ = setpriority_process(Some(Pid::from_child(&child)), self.nice);
        }
        let status = child.wait()?;
        write!(connection, "HTTP/1.0 200 OK\r\n\r\nstatus {status}\n")?;
        Ok(())
    }
}

impl Scrape {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(net) = &self.net {
            enter(net)?;
        }
        let port = self.port;
        let pause = Duration::from_secs_f64(1.0 / self.rate);
        let start = Instant::now();
        report::line(r#"{"done_bytes":0}"#)?;
        thread::scope(|threads| {
            for count in 1..=self.total.unwrap_or(u64::MAX) {
                let ask = move || {
                    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
                    connection.read_to_end(&mut Vec::new())
                };
                let _ = thread::Builder::new().stack_size(128 << 10).spawn_scoped(threads, ask);
                let due = start + pause.mul_f64(count as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Ok(())
    }
}

fn enter(net: &PathBuf) -> anyhow::Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let file = File::open(net).with_context(|| format!("cannot open {}", net.display()))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .context("cannot enter the network namespace")
}
