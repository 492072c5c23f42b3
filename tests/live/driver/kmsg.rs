//! What the kernel's log says of a kill, read by a way of its own: what memtrace says is compared with this.

use std::{collections::BTreeMap, fs::OpenOptions, io::Read as _, os::unix::fs::OpenOptionsExt as _};

use serde_json::Value;

/// All there is, a line each, without what stands before the text.
fn lines() -> Vec<String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let mut log = options.open("/dev/kmsg").expect("root may read the kernel's log");
    let (mut buffer, mut lines) = (vec![0; 8192], Vec::new());
    loop {
        match log.read(&mut buffer) {
            Ok(length) => {
                let record = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let text = record.split_once(';').map_or("", |(_, text)| text).lines().next().unwrap_or("");
                // 5.10 prints all statistics in one record.
                lines.extend(text.split("\\x0a").map(str::to_owned));
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(_) => return lines,
        }
    }
}

/// Of the last report of a cgroup at its limit: usage, limit and `memory.stat`, by the words of `oom --json`.
pub fn report(path: &str) -> Option<BTreeMap<&'static str, u64>> {
    let lines = lines();
    let at = lines.iter().rposition(|line| line == &format!("Memory cgroup stats for {path}:"))?;
    let mut said = BTreeMap::new();
    let kib = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok().map(|kib| kib << 10)
    };
    for line in lines[..at].iter().rev().take(8) {
        if let Some(rest) = line.strip_prefix("memory: usage ") {
            let mut words = rest.split(", ");
            said.insert("current", kib(words.next()?)?);
            said.insert("limit", kib(words.next()?.strip_prefix("limit ")?)?);
            break;
        }
        if let Some(rest) = line.strip_prefix("kmem: usage ") {
            said.insert("kernel", kib(rest.split(", ").next()?)?);
        }
    }
    let stats: Vec<(&str, u64)> = lines[at + 1..]
        .iter()
        .take_while(|line| !line.starts_with("Tasks state"))
        .filter_map(|line| line.split_once(' ').and_then(|(key, value)| Some((key, value.parse().ok()?))))
        .collect();
    let v1 = stats.iter().any(|(key, _)| *key == "total_rss");
    let keys: &[(&'static str, &str)] = if v1 {
        &[
            ("anon", "total_rss"),
            ("file", "total_cache"),
            ("shmem", "total_shmem"),
            ("dirty", "total_dirty"),
            ("writeback", "total_writeback"),
        ]
    } else {
        &[
            ("anon", "anon"),
            ("file", "file"),
            ("shmem", "shmem"),
            ("dirty", "file_dirty"),
            ("writeback", "file_writeback"),
            ("slab", "slab"),
            ("kernel", "kernel"),
        ]
    };
    for (word, key) in keys {
        said.extend(stats.iter().find(|(name, _)| name == key).map(|(_, value)| (*word, *value)));
    }
    Some(said)
}

/// Numbers of the kernel's own report, and what memtrace says of them.
pub fn agrees(kill: &Value, path: &str) {
    let report = report(path).expect("the kernel reported it");
    assert!(report.len() >= 6, "{report:?}");
    for (kind, truth) in &report {
        let told = kill["memory"][kind].as_u64().unwrap_or_else(|| panic!("{kind} is not known: {kill}"));
        assert!(
            told.abs_diff(*truth) as f64 <= *truth as f64 * 0.01,
            "{kind}: told {told}, the kernel {truth}"
        );
    }
}
