//! The memory files of one cgroup, as they stand on v1 and on v2.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use rustix::fs::{Mode, OFlags, openat};

use super::{
    super::{More, Stalls, Stat},
    Mounts,
};

pub(super) fn open(dir: &OwnedFd, name: &str) -> Option<fs::File> {
    openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .ok()
        .map(fs::File::from)
}

/// A file that the kernel prints in one piece: one read has all of it, if there is room.
pub(super) fn read<'a>(dir: &OwnedFd, name: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut file = open(dir, name)?;
    loop {
        match file.read(buffer) {
            Ok(count) => return std::str::from_utf8(&buffer[..count]).ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // ENODEV: the cgroup was removed while it was read.
            Err(_) => return None,
        }
    }
}

/// The first processes in it. A read of this file ends with a page of it, however much room there is.
pub(super) fn processes(dir: &OwnedFd, limit: usize) -> Vec<u32> {
    let file = open(dir, "cgroup.procs").map(BufReader::new);
    let lines = file.into_iter().flat_map(|file| file.lines().map_while(Result::ok));
    lines.filter_map(|line| line.parse().ok()).take(limit).collect()
}

pub(super) fn pread_number(file: &fs::File) -> Option<u64> {
    let mut buffer = [0; 32];
    let count = file.read_at(&mut buffer, 0).ok()?;
    number(std::str::from_utf8(&buffer[..count]).ok()?)
}

pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A v2 limit is a number or `max`; a v1 limit is "unlimited" from the page counter's maximum on.
pub(super) fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < (i64::MAX as u64) / 4096 * 4096)
}

pub(super) fn read_stat(dir: &OwnedFd, v2: bool, usage: Option<u64>, buffer: &mut [u8]) -> Option<Stat> {
    let mut stat = parse_stat(read(dir, "memory.stat", buffer)?, v2);
    if v2 {
        stat.swap = read(dir, "memory.swap.current", buffer).and_then(number);
        if stat.kernel.is_none()
            && let (Some(usage), Some(anon), Some(file), Some(sock)) =
                (usage, stat.anon, stat.file, stat.sock)
        {
            stat.kernel = Some(usage.saturating_sub(anon + file + sock));
            stat.kernel_inferred = true;
        }
    } else {
        stat.kernel = read(dir, "memory.kmem.usage_in_bytes", buffer).and_then(number);
    }
    Some(stat)
}

/// `memory.stat`: v2 is hierarchical, on v1 the `total_` keys are.
pub(super) fn parse_stat(text: &str, v2: bool) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let slot = match (v2, key) {
            (true, "anon") | (false, "total_rss") => &mut stat.anon,
            (true, "file") | (false, "total_cache") => &mut stat.file,
            (true, "shmem") | (false, "total_shmem") => &mut stat.shmem,
            (true, "file_dirty") | (false, "total_dirty") => &mut stat.dirty,
            (true, "file_writeback") | (false, "total_writeback") => &mut stat.writeback,
            (false, "total_swap") => &mut stat.swap,
            (true, "kernel") => &mut stat.kernel,
            (true, "slab") => &mut stat.slab,
            (true, "sock") => &mut stat.sock,
            (true, "percpu") => &mut stat.percpu,
            (true, "vmalloc") => &mut stat.vmalloc,
            (true, "pagetables") => &mut stat.page_tables,
            (true, "kernel_stack") => &mut stat.kernel_stack,
            (true, "pgmajfault") | (false, "total_pgmajfault") => &mut stat.faults.pgmajfault,
            (true, "workingset_refault_anon") | (false, "total_workingset_refault_anon") => {
                &mut stat.faults.refault_anon
            }
            (true, "workingset_refault_file") | (false, "total_workingset_refault_file") => {
                &mut stat.faults.refault_file
            }
            (true, "pswpin") | (false, "total_pswpin") => &mut stat.faults.pswpin,
            (true, "pswpout") | (false, "total_pswpout") => &mut stat.faults.pswpout,
            _ => continue,
        };
        *slot = number(value);
    }
    stat
}

pub(super) fn read_more(dir: &OwnedFd, mounts: &Mounts, path: &str, buffer: &mut [u8]) -> More {
    let v2 = mounts.v2;
    let own_limit =
        read(dir, if v2 { "memory.max" } else { "memory.limit_in_bytes" }, buffer).and_then(limit);
    let swap_limit = match v2 {
        true => read(dir, "memory.swap.max", buffer).and_then(limit),
        // There it is of both together.
        false => {
            let both = read(dir, "memory.memsw.limit_in_bytes", buffer).and_then(limit);
            both.zip(own_limit).map(|(both, own)| both.saturating_sub(own))
        }
    };
    let (events, key) = if v2 { ("memory.events", "oom_kill ") } else { ("memory.oom_control", "oom_kill ") };
    More {
        limit: own_limit,
        swap_limit,
        oom_kills: read(dir, events, buffer)
            .and_then(|text| text.lines().find_map(|line| number(line.strip_prefix(key)?))),
        kills_are_local: !v2,
        tasks: read_controller(dir, v2, path, mounts.pids.as_ref(), "pids.current", buffer).and_then(number),
        throttled: read_controller(dir, v2, path, mounts.cpu.as_ref(), "cpu.stat", buffer)
            .and_then(throttled),
        stalls: if v2 { read(dir, "memory.pressure", buffer).and_then(stalls) } else { None },
    }
}

/// A file of the same cgroup in another controller's hierarchy, which on v2 is the same directory.
fn read_controller<'a>(
    dir: &OwnedFd,
    v2: bool,
    path: &str,
    mount: Option<&OwnedFd>,
    name: &str,
    buffer: &'a mut [u8],
) -> Option<&'a str> {
    if v2 { read(dir, name, buffer) } else { read(mount?, &format!("{path}/{name}"), buffer) }
}

/// `some avg10=... total=N`, and `full ...`.
fn stalls(text: &str) -> Option<Stalls> {
    let total = |word: &str| {
        let line = text.lines().find(|line| line.starts_with(word))?;
        number(line.rsplit_once("total=")?.1)
    };
    Some(Stalls { some_us: total("some ")?, full_us: total("full ")? })
}

/// Periods and throttled periods; without a quota the kernel counts no periods.
pub(super) fn throttled(text: &str) -> Option<(u64, u64)> {
    let get = |key: &str| text.lines().find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?));
    let periods = get("nr_periods")?;
    (periods > 0).then_some((periods, get("nr_throttled")?))
}
