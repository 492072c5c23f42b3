//! Tests that need root and a kernel: `cargo xtask test` runs them here, `cargo xtask vm` in a machine. A new
//! test goes into the file of its subject; what it drives (a runtime, a workload, memtrace) is in `driver/`.
//!
//! `MEMTRACE_BIN` and `MEMTRACE_WORKLOAD` name the two programs; `MEMTRACE_VM` says that this is the emulated
//! machine, where sizes hold and rates do not. Every test ends what it started, and asks nothing of the others.

mod attach;
mod bad_input;
mod churn;
mod dead_cgroups;
mod dead_containers;
mod dirty;
mod dirty_incident;
mod disjoint;
mod doctor;
mod driver;
mod endless_line;
mod growth;
mod kinds;
mod lab;
mod layout;
mod left_behind;
mod lifetime;
mod lines;
mod names_held;
mod oom;
mod pileup;
mod runtime_broken;
mod runtime_cri;
mod runtime_ctr;
mod runtime_docker;
mod runtime_lines;
mod runtime_podman;
mod screen;
mod sites;
mod stuck;
mod syscalls;
mod truth;
mod unkillable;
mod unstoppable;
mod unstoppable_pod;
mod zz_global_oom;
