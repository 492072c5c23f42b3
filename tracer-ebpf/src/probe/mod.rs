//! One file per probe.

mod cgroup_life;
mod charge;
mod charge_site;
mod dirty;
mod log_write;
mod task_life;
mod throttle;
mod writeback;
