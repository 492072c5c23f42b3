//! One file per probe.

mod cgroup_life;
mod charge;
mod task_life;
