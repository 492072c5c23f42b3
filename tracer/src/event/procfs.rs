//! Host memory from `/proc/meminfo` and the kernel's own counts of memory cgroups; what memtrace itself costs.

use std::{fs, time::Duration};

use super::{DeadCgroups, HostMemory, ProcessUsage, page_size};
use crate::kernel::cgroup::Layout;

/// `live` is how many memory cgroups have a directory now, the root included.
pub fn host(layout: &Layout, live: u64) -> HostMemory {
    let mut host = meminfo(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    host.dead_cgroups = dead_cgroups(layout, live);
    host
}

/// Values are kB, whatever `MemTotal:` looks like.
fn meminfo(text: &str) -> HostMemory {
    let get = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(':'))?;
        let value: u64 = line[name.len() + 1..].split_whitespace().next()?.parse().ok()?;
        value.checked_mul(1024)
    };
    let sum = |names: &[&str]| names.iter().map(|name| get(name)).sum::<Option<u64>>();
    let kernel_stack = get("KernelStack");
    HostMemory {
        total: get("MemTotal"),
        free: get("MemFree"),
        available: get("MemAvailable"),
        anon: get("AnonPages"),
        cached: sum(&["Cached", "Buffers"]),
        shmem: get("Shmem"),
        slab: get("Slab"),
        percpu: get("Percpu"),
        // Stacks are vmalloc'ed (CONFIG_VMAP_STACK) and have a line of their own.
        vmalloc: get("VmallocUsed").map(|used| used.saturating_sub(kernel_stack.unwrap_or(0))),
        page_tables: get("PageTables"),
        kernel_stack,
        hugetlb: get("Hugetlb"),
        swap_free: get("SwapFree"),
        dead_cgroups: None,
    }
}

fn dead_cgroups(layout: &Layout, live: u64) -> Option<DeadCgroups> {
    if layout.memory_v2 {
        let stat = fs::read_to_string(layout.memory.join("cgroup.stat")).ok()?;
        let get = |key: &str| {
            stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse::<u64>().ok())
        };
        // Before `nr_dying_subsys_memory` (6.12, ab0312526867) only those of all controllers are counted.
        return get("nr_dying_subsys_memory")
            .map(DeadCgroups::Measured)
            .or_else(|| get("nr_dying_descendants").map(DeadCgroups::Inferred));
    }
    let all = fs::read_to_string("/proc/cgroups").ok()?;
    let count: u64 =
        all.lines().find_map(|line| line.strip_prefix("memory\t")?.split('\t').nth(1)?.parse().ok())?;
    Some(DeadCgroups::Inferred(count.saturating_sub(live)))
}

/// What a process is and has done; `None` when it is gone.
pub fn process(pid: u32) -> Option<ProcessUsage> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Some(ProcessUsage {
        comm: comm.trim_end_matches('\n').to_owned(),
        anon: number(&status, "RssAnon:").and_then(|kib| kib.checked_mul(1024)),
        written: number(&io, "wchar:"),
        disk_free: None,
    })
}

/// What a process's writes made dirty, less what was dropped unwritten, since it began: pages of files count when they
/// become dirty, direct writes when they are made.
pub fn dirtied(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let cancelled = number(&io, "cancelled_write_bytes:").unwrap_or(0);
    Some(number(&io, "write_bytes:")?.saturating_sub(cancelled))
}

/// Free bytes of the file system that holds the files which a process appends to, as a logger does: of that with the least.
/// Only of file systems that no server has to answer for.
pub fn disk_free(pid: u32) -> Option<u64> {
    const DESCRIPTORS: usize = 512;
    const REMOTE: [&str; 9] = ["nfs", "cifs", "smb", "fuse", "ceph", "9p", "gluster", "afs", "virtiofs"];
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let local = |mount: &str| {
        let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount));
        let kind = line.and_then(|line| line.split_once(" - "))?.1;
        Some(!REMOTE.iter().any(|remote| kind.starts_with(remote)))
    };
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let appended = entries.flatten().take(DESCRIPTORS).filter_map(|entry| {
        let name = entry.file_name();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", name.to_str()?)).ok()?;
        let field = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let flags = u32::from_str_radix(field("flags:")?, 8).ok()?;
        let link = fs::read_link(entry.path()).ok()?;
        let is_file = link.starts_with("/") && !link.starts_with("/dev") && !link.starts_with("/proc");
        (is_file && flags & libc::O_APPEND as u32 != 0 && local(field("mnt_id:")?)?).then(|| entry.path())
    });
    let free = appended.filter_map(|path| rustix::fs::statfs(&path).ok());
    free.map(|stat| stat.f_bavail.saturating_mul(stat.f_bsize as u64)).min()
}

/// What a process holds of anonymous memory, swapped out or not; `None` for those of the kernel, too.
pub fn anonymous(pid: u32) -> Option<u64> {
    // The kernel's own have no address space, which this tells at a fraction of the price.
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    if statm.starts_with("0 ") {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = number(&status, "RssAnon:")?;
    let swapped = number(&status, "VmSwap:").unwrap_or(0);
    resident.checked_add(swapped)?.checked_mul(1024)
}

/// The number behind a key of `/proc/PID/status` or `/proc/PID/io`.
pub(super) fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// The name of a process's group leader; `None` when it is gone.
pub fn comm(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.strip_suffix('\n').unwrap_or(&comm).to_owned())
}

/// Boot time in ns, in the clock ticks that `/proc/PID/stat` counts in.
pub fn ticks(boot_ns: u64) -> u64 {
    boot_ns / (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// The thread group that a thread is of.
pub fn thread_group(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// CPU time of this process so far, and its resident set.
pub fn own() -> (Option<Duration>, Option<u64>) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu = Duration::try_from(time).ok();
    let statm = fs::read_to_string("/proc/self/statm").ok();
    let rss = statm.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    (cpu, rss.map(|pages| pages * page_size()))
}

#[cfg(test)]
mod tests {
    use super::meminfo;

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "(MemTotal:|Slab|:|18446744073709551615|\\PC|\n){0,100}") {
            meminfo(&text);
        }
    }

    #[test]
    fn reads_kilobytes_by_exact_name() {
        let host = meminfo(
            "MemTotal:       24554996 kB\nMemFree:        20000000 kB\nShmem: 60 kB\nCached:  100 kB\nSwapCached: 7 kB\n\
             Buffers: 20 kB\nSlab:  10 kB\nVmallocUsed: 50 kB\nKernelStack: 20 kB\nHugetlb: x kB\n",
        );
        assert_eq!(host.total, Some(24_554_996 * 1024));
        assert_eq!(host.cached, Some(120 * 1024), "SwapCached is not Cached");
        assert_eq!(host.shmem, Some(60 * 1024));
        assert_eq!(host.vmalloc, Some(30 * 1024));
        assert_eq!(host.hugetlb, None, "garbage is not known");
        assert_eq!(host.available, None);
    }
}
