//! Scenes beside the five incidents, which have files of their own: what fills memory in another way, what is loud and
//! harmless, two things at once, and a host on which nothing is wrong. `cargo xtask lab` runs all of them.

mod growing;
mod harmless;
mod quiet;
mod storm;
mod together;

use std::fs;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made},
    in_vm,
    workload::Workload,
};

/// Of memory; v1 and v2 have other names for it.
fn limit(cgroup: &Cgroup, bytes: u64) {
    let file = ["memory.max", "memory.limit_in_bytes"].map(|name| cgroup.dir().join(name));
    let file = file.iter().find(|file| file.exists()).expect("a cgroup with memory has a limit");
    fs::write(file, bytes.to_string()).expect("the limit can be set");
}

/// What grows by anonymous memory towards its limit for half a minute.
fn leak(name: &str) -> (Workload, Made) {
    let rate = if in_vm() { 4 * MIB } else { 20 * MIB };
    let cgroup = Made::top(name);
    limit(&cgroup, 30 * rate);
    let (each, total) = (rate.to_string(), (25 * rate).to_string());
    let words = ["anon", "--rate", &each, "--total", &total, "--hold", "forever"];
    (Workload::start(&cgroup, &words), cgroup)
}
