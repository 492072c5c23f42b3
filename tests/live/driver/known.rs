//! What is known of a container, so that what memtrace tells of it can be compared.

use std::{fs, ops::Range};

use serde_json::Value;

use super::{MIB, cgroup::Cgroup, interval::Interval};

#[derive(Debug, Clone)]
pub struct Known {
    pub runtime: &'static str,
    pub id: String,
    pub name: Option<String>,
    pub pod: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub sandbox: bool,
    pub cgroup: Cgroup,
}

impl Known {
    /// One with an id and a cgroup only.
    pub fn new(runtime: &'static str, id: &str, path: &str) -> Known {
        Known {
            runtime,
            id: id.to_owned(),
            name: None,
            pod: None,
            namespace: None,
            image: None,
            sandbox: false,
            cgroup: Cgroup { path: path.to_owned() },
        }
    }

    /// Whether this is the container that a row speaks of, by all that is known of it.
    pub fn is(&self, row: &Value) -> Result<(), String> {
        let told = &row["container"];
        let text =
            |value: &Option<String>| value.as_ref().map_or(Value::Null, |text| Value::from(text.as_str()));
        for (key, truth) in [
            ("runtime", Value::from(self.runtime)),
            ("id", Value::from(self.id.as_str())),
            ("name", text(&self.name)),
            ("pod", text(&self.pod)),
            ("namespace", text(&self.namespace)),
            ("image", text(&self.image)),
            ("sandbox", Value::from(self.sandbox)),
        ] {
            if told[key] != truth {
                return Err(format!("{key} of {} is {truth}, told as {}", self.cgroup.path, told[key]));
            }
        }
        let id = self.cgroup.dir().exists().then(|| self.cgroup.id());
        match id {
            Some(id) if told["cgroup"]["id"] != id => {
                Err(format!("the cgroup of {} is {id}, told as {}", self.cgroup.path, told["cgroup"]["id"]))
            }
            _ => Ok(()),
        }
    }

    /// Its row in an interval, which must be there, once, and must speak of it.
    pub fn row<'a>(&self, interval: &'a Interval) -> &'a Value {
        let row = interval.row(&self.cgroup).unwrap_or_else(|| panic!("no row for {}", self.cgroup.path));
        if let Err(wrong) = self.is(row) {
            panic!("{wrong}");
        }
        row
    }

    /// The anonymous memory that its row tells.
    pub fn anon(&self, interval: &Interval) -> u64 {
        self.row(interval)["memory"]["anon"].as_u64().expect("it is known")
    }

    /// Its row tells what it holds, and what runtime and kernel hold with it: less than `BESIDE`.
    pub fn holds(&self, interval: &Interval, bytes: u64) {
        let anon = self.anon(interval);
        let right: Range<u64> = bytes..bytes + BESIDE;
        assert!(right.contains(&anon), "{} holds {bytes}, told as {anon}", self.cgroup.path);
    }

    /// The first of its processes.
    pub fn process(&self) -> u32 {
        let procs = fs::read_to_string(self.cgroup.dir().join("cgroup.procs")).expect("the cgroup is there");
        procs.lines().next().and_then(|pid| pid.parse().ok()).expect("a container has a process")
    }

    /// The process that holds it up: the parent of its first one.
    pub fn shim(&self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.and_then(|pid| pid.trim().parse().ok()).expect("every process has a parent")
    }
}

/// What a container that only waits may hold: amounts that tell containers apart differ by more.
pub const BESIDE: u64 = 2 * MIB;
