//! What is known of a container, so that what memtrace tells of it can be compared.

use std::ops::Range;

use serde_json::Value;

use super::{MIB, cgroup::Cgroup, interval::Interval, wait_for};

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

    /// Waits until the kernel says that it holds so much.
    pub fn filled(&self, bytes: u64) {
        wait_for("a container to fill its memory", || {
            (self.cgroup.dir().exists() && self.cgroup.reading()["anon"] >= bytes).then_some(())
        });
    }
}

/// What a container that only waits may hold: amounts that tell containers apart differ by more.
pub const BESIDE: u64 = 2 * MIB;
