//! Workloads whose size and rate are known, so that a test can compare what memtrace says with the truth. Built
//! static, so that it runs in a container that holds nothing else, as its process 1 too.

mod amount;
mod anon;
mod calls;
mod cgroups;
mod cli;
mod dirty;
mod dirty_storm;
mod file;
mod fuse;
mod idle;
mod known_calls;
mod lines;
mod log;
mod mapping;
mod nfs;
mod pace;
mod page_tables;
mod report;
mod serve;
mod slab;
mod sock;
mod storm;

fn main() -> std::process::ExitCode {
    cli::run()
}
