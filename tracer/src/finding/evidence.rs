//! Evidence of a finding: numbers in order, each with what it is, its unit, and how it is known.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{account::Cause, growth::Grower};
use crate::{
    aggregator::{
        call::Call,
        daemon::Client,
        row::How,
        stream::Process,
        work::flight::{Child, Peer},
    },
    resolve::Container,
};

/// A value with its unit; `None` is "not known here".
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Word(&'static str),
    Bytes(Option<u64>),
    /// Bytes, signed.
    Growth(Option<i64>),
    /// Bytes a second.
    Rate(Option<f64>),
    PerSecond(Option<f64>),
    Seconds(Option<f64>),
    Count(Option<u64>),
    /// Of counts, signed.
    Difference(Option<i64>),
    Processes(Vec<Process>),
    /// Bytes a second of each kind.
    Parts(#[serde(serialize_with = "parts")] Vec<(&'static str, Option<f64>)>),
    Grower(Option<Grower>),
    Containers(Vec<ContainerRate>),
    Dirtiers(Vec<Dirtier>),
    /// Who is connected, by how many connections.
    Clients(Option<Vec<Client>>),
    /// A number, signed.
    Change(Option<i64>),
    /// Of one.
    Share(Option<f64>),
    Peers(Vec<Peer>),
    Child(Option<SlowChild>),
    /// `None`: not counted.
    Calls(Option<Vec<SlowCall>>),
    /// What explains how much of something that grew.
    Causes(Vec<Cause>),
    /// For programs, as another view writes it; its numbers stand beside it for people.
    Record(serde_json::Value),
}

/// Processes of one name that keep requests waiting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowChild {
    pub comm: Arc<str>,
    pub running: u64,
    /// Of those that ended.
    pub p50_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_s_how: Option<How>,
    /// Of these, too, and those that run.
    pub max_s: Option<f64>,
    pub ended: Option<u64>,
}

/// A system call in which time goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowCall {
    pub name: Arc<str>,
    pub count: u64,
    pub total_s: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
}

impl From<&Call> for SlowCall {
    fn from(call: &Call) -> SlowCall {
        let Call { count, total_s, p50_us, p99_us, .. } = *call;
        SlowCall { name: Arc::clone(&call.name), count, total_s, p50_us, p99_us }
    }
}

impl From<&Child> for SlowChild {
    fn from(child: &Child) -> SlowChild {
        let Child { running, p50_s, p50_s_how, max_s, ended, .. } = *child;
        SlowChild { comm: Arc::clone(&child.comm), running, p50_s, p50_s_how, max_s, ended }
    }
}

/// Who makes how much of what dirty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dirtier {
    #[serde(flatten)]
    pub process: Process,
    pub path: Option<Arc<str>>,
    pub dirtied: u64,
}

/// A container and how fast it grows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContainerRate {
    pub container: Arc<Container>,
    pub bytes_per_s: f64,
}

fn parts<S: Serializer>(parts: &[(&'static str, Option<f64>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().copied())
}

impl Value {
    pub fn record(value: &impl Serialize) -> Value {
        // What is a plain record becomes JSON.
        Value::Record(serde_json::to_value(value).unwrap_or_default())
    }

    pub fn is_known(&self) -> bool {
        match self {
            Value::Record(record) => !record.is_null(),
            Value::Word(_) | Value::Processes(_) | Value::Containers(_) | Value::Dirtiers(_) => true,
            Value::Peers(_) | Value::Causes(_) => true,
            Value::Child(child) => child.is_some(),
            Value::Calls(calls) => calls.is_some(),
            Value::Parts(parts) => parts.iter().any(|(_, rate)| rate.is_some()),
            Value::Grower(grower) => grower.is_some(),
            Value::Bytes(number) | Value::Count(number) => number.is_some(),
            Value::Clients(clients) => clients.is_some(),
            Value::Growth(number) | Value::Difference(number) | Value::Change(number) => number.is_some(),
            Value::Rate(number)
            | Value::PerSecond(number)
            | Value::Seconds(number)
            | Value::Share(number) => number.is_some_and(f64::is_finite),
        }
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Its key in JSON.
    pub key: &'static str,
    /// The same in a few words, for people.
    pub says: &'static str,
    pub value: Value,
    /// `None`: measured.
    pub how: Option<How>,
}

/// What a finding rests on, in the order in which it is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence(Vec<Fact>);

impl Evidence {
    /// With one more measured fact.
    pub fn with(self, key: &'static str, says: &'static str, value: Value) -> Evidence {
        self.with_how(key, says, value, None)
    }

    pub fn with_how(
        mut self,
        key: &'static str,
        says: &'static str,
        value: Value,
        how: Option<How>,
    ) -> Evidence {
        self.0.push(Fact { key, says, value, how });
        self
    }

    pub fn facts(&self) -> &[Fact] {
        &self.0
    }
}

impl Serialize for Evidence {
    /// An object: a number that is not simply measured has its sibling `<key>_how` behind it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for fact in &self.0 {
            map.serialize_entry(fact.key, &fact.value)?;
            if let Some(how) = fact.how.filter(|_| fact.value.is_known()) {
                map.serialize_entry(&format!("{}_how", fact.key), &how)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_in_order_with_marks_and_nulls() {
        let evidence = Evidence::default()
            .with("stream", "stream", Value::Word("stdout"))
            .with_how("held_bytes", "held", Value::Bytes(Some(7)), Some(How::Inferred))
            .with_how("daemon_rss", "anonymous memory", Value::Bytes(None), Some(How::Sampled))
            .with("bytes_per_s", "rate", Value::Rate(Some(f64::NAN)));
        assert_eq!(
            serde_json::to_string(&evidence).unwrap(),
            r#"{"stream":"stdout","held_bytes":7,"held_bytes_how":"inferred","daemon_rss":null,"bytes_per_s":null}"#
        );
    }
}
