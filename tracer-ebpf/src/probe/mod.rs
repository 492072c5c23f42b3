//! One file per probe.

mod blocked;
mod cgroup_life;
mod charge;
mod charge_site;
mod dead_cgroups;
mod dirty;
mod log_write;
mod oom_kill;
mod reclaim;
mod syscall;
mod task_life;
mod throttle;
mod writeback;
