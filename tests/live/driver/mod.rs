//! What the tests drive: memtrace itself, containers of a real runtime, cgroups made by hand, workloads of known
//! size. Everything here ends with its value; what the test process itself cannot undo, `guard` does.

pub mod bpf;
pub mod cgroup;
pub mod confined;
pub mod container;
pub mod containerd;
pub mod content;
pub mod cri;
pub mod crun;
pub mod daemon;
pub mod disk;
pub mod docker;
pub mod doctor;
pub mod guard;
pub mod hung;
pub mod image;
pub mod impatience;
pub mod interval;
pub mod kmsg;
pub mod known;
pub mod lines;
pub mod loops;
pub mod matrix;
pub mod memtrace;
pub mod moment;
pub mod nfs;
pub mod output;
pub mod podman;
pub mod scene;
pub mod scratch;
pub mod slow;
pub mod terminal;
pub mod throttle;
pub mod witness;
pub mod workload;

use std::{
    env,
    ops::RangeInclusive,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

pub const MIB: u64 = 1 << 20;
/// Nothing here takes so long on a machine that works; it bounds a test, it asserts nothing.
pub fn patience() -> Duration {
    Duration::from_secs(if in_vm() { 300 } else { 60 })
}

/// Emulated: everything takes ten times as long, so that sizes can be asserted and rates cannot.
pub fn in_vm() -> bool {
    env::var_os("MEMTRACE_VM").is_some()
}

/// `cargo xtask lab`: what takes too long for each run of the tests is done, too.
pub fn in_lab() -> bool {
    env::var_os("MEMTRACE_LAB").is_some()
}

/// For the record: what is shortened where it would take long is done whole.
pub fn for_the_record() -> bool {
    env::var_os("MEMTRACE_RECORD").is_some()
}

/// The program that an environment variable names.
pub fn program(variable: &str) -> PathBuf {
    let path = env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set; `cargo xtask test` sets it, by hand it is the path of the program")
    });
    PathBuf::from(path).canonicalize().unwrap_or_else(|error| panic!("{variable} names no file: {error}"))
}

/// In the form that `cargo xtask test` counts.
pub fn skip(test: &str, reason: &str) {
    println!("skipping {test}: {reason}");
}

/// Of a test that does the rest.
pub fn skip_part(part: &str, reason: &str) {
    println!("skipping a part, {part}: {reason}");
}

/// Waits until `found` gives something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < patience(), "waited {} s for {what}", patience().as_secs());
        thread::sleep(Duration::from_millis(if in_vm() { 50 } else { 20 }));
    }
}

pub fn cpus() -> u64 {
    thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// What `memory.stat` may say of a workload's kind: each processor holds back a batch (up to 5.12 also when the file is
/// read), and whoever runs it has memory of its own.
pub fn about(truth: u64, beside: u64) -> RangeInclusive<u64> {
    truth.saturating_sub(batches())..=truth + beside
}

/// What each processor may hold back of a cgroup's usage: a batch of 64 pages.
pub fn batches() -> u64 {
    cpus() * 64 * rustix::param::page_size() as u64
}
