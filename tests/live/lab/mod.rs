//! Scenes beside the five incidents, which have files of their own: what fills memory in another way, what is loud and
//! harmless, two things at once, and a host on which nothing is wrong. `cargo xtask lab` runs all of them.

mod growing;
mod harmless;
mod nfs;
mod outside;
mod pairs;
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

/// It grows for longer than it is looked at, and is then still below its limit.
fn seconds() -> u64 {
    if in_vm() { 45 } else { 25 }
}

/// In seconds of growth.
fn limit_seconds() -> u64 {
    seconds() + 5
}

/// Bytes a second.
fn rate() -> u64 {
    if in_vm() { 4 * MIB } else { 20 * MIB }
}

/// What grows at the rate towards its limit: a workload of that kind.
fn growing(name: &str, kind: &[&str]) -> (Workload, Made) {
    let cgroup = Made::top(name);
    limit(&cgroup, limit_seconds() * rate());
    let (each, total) = (rate().to_string(), (seconds() * rate()).to_string());
    let words = [kind, &["--rate", &each, "--total", &total, "--hold", "forever"]].concat();
    (Workload::start(&cgroup, &words), cgroup)
}

fn leak(name: &str) -> (Workload, Made) {
    growing(name, &["anon"])
}
