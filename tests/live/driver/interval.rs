//! One object of `top --json`: an interval, its rows, and the moment it speaks of.

use std::time::SystemTime;

use serde_json::Value;

use super::{cgroup::Cgroup, moment};

#[derive(Debug, Clone)]
pub struct Interval(pub Value);

impl Interval {
    pub fn seconds(&self) -> f64 {
        self.0["interval_s"].as_f64().expect("an interval has a length")
    }

    pub fn rows(&self) -> impl Iterator<Item = &Value> {
        self.0["containers"].as_array().expect("containers are a list").iter()
    }

    /// The row of a cgroup that lives.
    pub fn row(&self, cgroup: &Cgroup) -> Option<&Value> {
        self.rows().find(|row| row["container"]["cgroup"]["path"] == cgroup.path && row["removed"].is_null())
    }

    /// The row of a cgroup that was removed in this interval.
    pub fn removed(&self, path: &str) -> Option<&Value> {
        self.rows().find(|row| row["container"]["cgroup"]["path"] == path && !row["removed"].is_null())
    }

    /// Bytes of a kind that the row says it has grown by.
    pub fn grown(&self, cgroup: &Cgroup, kind: &str) -> Option<f64> {
        Some(self.row(cgroup)?["growth_per_s"][kind].as_f64()? * self.seconds())
    }

    /// The moment it speaks of.
    pub fn at(&self) -> SystemTime {
        moment::of(&self.0["ts"])
    }
}
