//! netdata with settings, state and port of its own, and with nothing on but what looks at cgroups: the least that does
//! this job.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Bed, process::Running};
use crate::command::find;

/// Everything else that it would look at.
const OFF: &[&str] = &[
    "proc",
    "diskspace",
    "timex",
    "tc",
    "idlejitter",
    "checks",
    "apps",
    "ebpf",
    "slabinfo",
    "perf",
    "go.d",
    "python.d",
    "charts.d",
    "ioping",
    "nfacct",
    "netdata monitoring",
    "enable running new plugins",
];

pub(super) struct Netdata {
    pub(super) running: Running,
    port: u16,
    dir: PathBuf,
}

pub(super) fn missing() -> Option<String> {
    find("netdata").is_none().then(|| "netdata is not installed".to_owned())
}

impl Netdata {
    pub(super) fn start(bed: &Bed) -> Result<Self> {
        let dir = bed.folder()?.join("netdata");
        for folder in ["etc", "cache", "lib", "log", "web"] {
            fs::create_dir_all(dir.join(folder)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let port = free_port()?;
        let settings = dir.join("netdata.conf");
        fs::write(&settings, text(&dir.to_string_lossy(), port, bed.hierarchy.is_v1()))
            .with_context(|| format!("cannot write {}", settings.display()))?;
        let running = Running::start(Command::new("netdata").arg("-D").arg("-c").arg(&settings))?;
        Ok(Self { running, port, dir })
    }

    /// Waits until it tells a number of a chart of memory with this in its name.
    pub(super) fn until(&mut self, bed: &Bed, name: &str) -> Result<()> {
        let (port, running) = (self.port, &mut self.running);
        bed.stop.wait("netdata to tell of a cgroup's memory", Duration::from_secs(60), || {
            anyhow::ensure!(
                !running.ended()?,
                "netdata ended:\n{}",
                crate::command::tail(&running.errors(), 3)
            );
            // Until it listens there is no answer.
            let metrics = ask(port, "/api/v1/allmetrics?format=prometheus").unwrap_or_default();
            let known = metrics.lines().any(|line| line.contains(".mem_usage\"") && line.contains(name));
            std::thread::sleep(Duration::from_millis(20));
            Ok(known.then_some(()))
        })
    }
}

impl Drop for Netdata {
    fn drop(&mut self) {
        self.running.end();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("bench: cannot remove {}: {error}", self.dir.display());
        }
    }
}

fn text(dir: &str, port: u16, v1: bool) -> String {
    let off: String = OFF.iter().map(|plugin| format!("    {plugin} = no\n")).collect();
    let unified = if v1 { "no" } else { "yes" };
    format!(
        "[global]\n    run as user = root\n\
         [db]\n    mode = ram\n    update every = 1\n    retention = 300\n\
         [directories]\n    config = {dir}/etc\n    cache = {dir}/cache\n    lib = {dir}/lib\n    log = {dir}/log\n    \
         web = {dir}/web\n    home = {dir}/cache\n\
         [web]\n    bind to = 127.0.0.1:{port}\n    web server threads = 1\n\
         [health]\n    enabled = no\n[ml]\n    enabled = no\n[statsd]\n    enabled = no\n[registry]\n    enabled = no\n\
         [plugins]\n    cgroups = yes\n{off}\
         [plugin:cgroups]\n    use unified cgroups = {unified}\n    max cgroups to allow = 20000\n    \
         enable by default cgroups matching = *\n    run script to rename cgroups matching = !*\n"
    )
}

/// One that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback address")?;
    Ok(listener.local_addr().context("cannot ask for a port")?.port())
}

fn ask(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
