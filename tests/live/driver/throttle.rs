//! `qemu-storage-daemon`, which exports a file by FUSE and lets it through as slowly as it is told: by its throttle group
//! `pace`, over its socket `control`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Result, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
};

use super::{daemon::Daemon, wait_for};

/// Starts it and waits for the export.
pub fn start(daemon: Command, dir: &Path, export: &Path) -> Daemon {
    let mut daemon = Daemon::start(daemon, dir, "qemu-storage-daemon");
    wait_for("the export to be there", || {
        daemon.lives();
        is_mounted(export).then_some(())
    });
    daemon
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").expect("it is there");
    let path = path.to_str().expect("a path of ours");
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(path))
}

/// From now on a limit, such as `bps-write`, is so much; 0: there is none.
pub fn limit(control: &Path, limit: &str, bytes_per_s: u64) -> Result<()> {
    let mut stream = UnixStream::connect(control)?;
    let limits = format!(
        r#"{{"execute":"qom-set","arguments":{{"path":"/objects/pace","property":"limits","value":{{"{limit}":{bytes_per_s}}}}}}}"#
    );
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    // It greets first.
    answers.next().transpose()?;
    for command in [r#"{"execute":"qmp_capabilities"}"#, &limits] {
        writeln!(stream, "{command}")?;
        let answer = answers.next().transpose()?.unwrap_or_default();
        assert!(answer.contains("return"), "{command}: {answer}");
    }
    Ok(())
}
