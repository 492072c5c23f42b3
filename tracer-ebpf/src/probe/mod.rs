//! One file per probe.

mod cgroup_life;
mod charge;
mod charge_site;
mod dead_cgroups;
mod log_write;
mod task_life;
