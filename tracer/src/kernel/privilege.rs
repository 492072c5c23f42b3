//! Which capabilities this process lacks for its work.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// (bit, name, what it is for), from include/uapi/linux/capability.h v6.12.
const NEEDED: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "load programs into the kernel"),
    (38, "CAP_PERFMON", "attach them to its events"),
    (2, "CAP_DAC_READ_SEARCH", "read every cgroup and tracefs"),
    (19, "CAP_SYS_PTRACE", "read /proc of other processes for names"),
];
const SYS_ADMIN: u32 = 21;
/// Only where maps count as locked memory.
const SYS_RESOURCE: (u32, &str, &str) =
    (24, "CAP_SYS_RESOURCE", "raise RLIMIT_MEMLOCK, which maps count against");

/// Names of the capabilities that are missing. `CAP_SYS_ADMIN` stands for BPF and PERFMON, as in the kernel.
/// `maps_are_locked`: maps count against RLIMIT_MEMLOCK.
pub fn missing(maps_are_locked: bool) -> Vec<String> {
    let limited = maps_are_locked && getrlimit(Resource::Memlock).current.is_some();
    fs::read_to_string("/proc/self/status").map_or_else(|_| Vec::new(), |status| missing_in(&status, limited))
}

/// What a missing capability keeps from being done.
pub fn purpose(capability: &str) -> &'static str {
    NEEDED
        .iter()
        .chain([&SYS_RESOURCE])
        .find(|(_, name, _)| *name == capability)
        .map_or("", |(_, _, purpose)| purpose)
}

fn missing_in(status: &str, limited: bool) -> Vec<String> {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    NEEDED
        .iter()
        .chain(limited.then_some(&SYS_RESOURCE))
        .filter(|(bit, ..)| !(has(*bit) || *bit >= 38 && has(SYS_ADMIN)))
        // DAC_OVERRIDE reads everything, too.
        .filter(|(bit, ..)| !(*bit == 2 && has(1)))
        .map(|(_, name, _)| (*name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::missing_in;

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_all() {
        assert!(missing_in("CapEff:\t000001ffffffffff\n", true).is_empty());
        assert_eq!(missing_in("CapEff:\t0000000000000000\n", false).len(), 4);
        let some = format!("CapEff:\t{:016x}\n", 1u64 << 21 | 1 << 2 | 1 << 19);
        assert!(missing_in(&some, false).is_empty(), "CAP_SYS_ADMIN stands for BPF and PERFMON");
        assert_eq!(missing_in(&some, true), ["CAP_SYS_RESOURCE"], "where maps count as locked memory");
    }
}
