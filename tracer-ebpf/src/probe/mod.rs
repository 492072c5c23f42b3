//! One file per probe.

mod arrivals;
mod blocked;
mod cgroup_life;
mod charge;
mod charge_site;
mod dead_cgroups;
mod dirty;
mod log_write;
mod oom_kill;
mod reclaim;
mod signal;
mod syscall;
mod task_life;
mod throttle;
mod writeback;
