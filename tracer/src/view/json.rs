//! `top --json`: one object an interval, on one line, as the interface promises. What is not known, and what is
//! not a finite number, is `null`.

use std::{collections::HashMap, io, sync::Arc};

use serde::Serialize;
use serde_json::{
    ser::{CompactFormatter, Formatter},
    value::RawValue,
};

use crate::{
    aggregator::row::Row,
    finding::{Change, Kind, Open, Severity},
    resolve::Container,
    snapshot::{Host, Snapshot},
    view::{host, site, text},
};

/// Changes only when a documented name or meaning changes.
pub const SCHEMA: &str = "memtrace/1";

#[derive(Serialize)]
struct Top<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    interval_s: f64,
    host: &'a Host,
    containers: Vec<&'a RawValue>,
    /// What is wrong, worst first; whole in `diagnose`.
    findings: Vec<Brief<'a>>,
    /// What became of findings since the interval before.
    finding_events: &'a [Change],
    /// `null` unless they were asked for.
    sites: Option<site::Json<'a>>,
}

#[derive(Serialize)]
struct Brief<'a> {
    id: &'a str,
    kind: Kind,
    severity: Severity,
    container: Option<&'a Container>,
    summary: &'a str,
    open_s: f64,
    unseen_s: Option<f64>,
}

impl<'a> From<&'a Open> for Brief<'a> {
    fn from(open: &'a Open) -> Brief<'a> {
        let Open { finding, open_s, unseen_s } = open;
        Brief {
            id: &finding.id,
            kind: finding.kind,
            severity: finding.severity,
            container: finding.container.as_deref(),
            summary: &finding.summary,
            open_s: *open_s,
            unseen_s: *unseen_s,
        }
    }
}

/// Writes one interval after the other. A row that is the same as before is not written anew.
#[derive(Default)]
pub struct Writer {
    written: HashMap<u64, (Arc<Row>, Box<RawValue>)>,
    /// The last event of a finding.
    told: u64,
}

impl Writer {
    /// The object, without the newline after it.
    pub fn top(&mut self, snapshot: &Snapshot, rows: &[&Arc<Row>]) -> String {
        let mut before = std::mem::take(&mut self.written);
        for row in rows {
            let id = row.container.cgroup.id;
            let known = before.remove(&id).filter(|(known, _)| Arc::ptr_eq(known, row));
            if let Some(written) = known.or_else(|| Some((Arc::clone(row), raw(row)?))) {
                self.written.insert(id, written);
            }
        }
        let texts = rows.iter().filter_map(|row| self.written.get(&row.container.cgroup.id));
        let events = &snapshot.finding_events;
        let known = events.partition_point(|event| event.number <= self.told);
        self.told = events.last().map_or(self.told, |event| event.number);
        let top = Top {
            schema: SCHEMA,
            kind: "top",
            ts: host::timestamp(snapshot.at),
            interval_s: snapshot.interval_s,
            host: &snapshot.host,
            containers: texts.map(|(_, text)| &**text).collect(),
            findings: snapshot.findings.iter().map(|open| open.as_ref().into()).collect(),
            finding_events: &events[known..],
            sites: snapshot.sites.as_deref().map(site::json),
        };
        written(&top, 1024 * (rows.len() + 1))
    }
}

fn raw(row: &Row) -> Option<Box<RawValue>> {
    let raw = RawValue::from_string(written(row, 1024));
    debug_assert!(raw.is_ok(), "{raw:?}");
    raw.ok()
}

/// One line of JSON, about as long.
pub fn written(value: &impl Serialize, length: usize) -> String {
    let mut out = Vec::with_capacity(length);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Harmless);
    // Neither a buffer in memory nor these types, whose keys are all field names, can fail to be written.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "{written:?}");
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Writes characters that a terminal would obey as `\uXXXX`: the same JSON, safe to look at.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| text::is_hostile(*c)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::{metric, view::example};

    fn parsed(snapshot: &Snapshot) -> Value {
        let rows: Vec<&Arc<Row>> = snapshot.rows.iter().collect();
        let text = Writer::default().top(snapshot, &rows);
        assert!(!text.contains('\n'), "one line");
        serde_json::from_str(&text).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().map(Map::keys).into_iter().flatten().map(String::as_str).collect()
    }

    #[test]
    fn the_documented_keys_are_there() {
        let value = parsed(&example::snapshot());
        assert_eq!(
            keys(&value),
            [
                "containers",
                "finding_events",
                "findings",
                "host",
                "interval_s",
                "kind",
                "schema",
                "sites",
                "ts"
            ]
        );
        assert_eq!(value["schema"], "memtrace/1");
        assert_eq!(value["kind"], "top");
        assert_eq!(value["ts"], "2026-01-01T03:12:45.250Z");
        for key in ["mem_total", "used", "attributed", "unattributed", "dead_cgroups", "lost_events", "own"] {
            assert!(!value["host"][key].is_null(), "{key}");
        }
        let row = &value["containers"][0];
        for key in ["container", "memory", "growth_per_s", "growth_ewma_per_s", "tasks", "log", "oom_kills"] {
            assert!(keys(row).contains(&key), "{key}");
        }
    }

    #[test]
    fn golden() {
        let pretty = serde_json::to_string_pretty(&parsed(&example::snapshot())).unwrap();
        example::golden("top_json", &pretty);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut snapshot = example::snapshot();
        snapshot.interval_s = f64::NAN;
        let mut row = example::row(example::container(crate::resolve::Runtime::Docker, None));
        row.seconds_to_limit = Some(f64::INFINITY);
        row.growth_per_s.anon = Some(f64::NAN);
        snapshot.rows = vec![Arc::new(row)];
        let value = parsed(&snapshot);
        assert!(value["interval_s"].is_null());
        let row = &value["containers"][0];
        for path in ["/seconds_to_limit", "/growth_per_s/anon", "/memory/current", "/container/name", "/log"]
        {
            assert_eq!(row.pointer(path), Some(&Value::Null), "{path}");
        }
    }

    #[test]
    fn what_is_the_same_is_written_the_same_and_what_changed_is_not() {
        let mut snapshot = example::snapshot();
        let mut writer = Writer::default();
        let mut write = |snapshot: &Snapshot| writer.top(snapshot, &snapshot.rows.iter().collect::<Vec<_>>());
        let first = write(&snapshot);
        assert_eq!(write(&snapshot), first);
        let mut row = snapshot.rows[0].as_ref().clone();
        row.memory.current = Some(4711);
        snapshot.rows[0] = Arc::new(row);
        snapshot.rows.truncate(2);
        let second = write(&snapshot);
        assert!(second.contains("4711") && second != first);
        assert_eq!(second, Writer::default().top(&snapshot, &snapshot.rows.iter().collect::<Vec<_>>()));
        assert_eq!(writer.written.len(), 2, "who is gone is forgotten");
    }

    #[test]
    fn each_event_of_a_finding_is_told_once() {
        let mut standing = crate::finding::Standing::new(std::time::Duration::ZERO);
        let mut writer = Writer::default();
        let mut told = |second: u64, intervals: bool| {
            let at = std::time::Duration::from_secs(second);
            let found = if second < 5 { crate::finding::example::incident(15) } else { Vec::new() };
            let findings = standing.tick(at, found);
            let finding_events = Arc::clone(standing.changes());
            let snapshot = Snapshot { findings, finding_events, ..example::snapshot() };
            let written = intervals.then(|| writer.top(&snapshot, &[]));
            written.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
        };
        let first = told(0, true);
        assert_eq!(first["findings"][0]["kind"], "unterminated-line");
        assert_eq!(first["findings"][0]["unseen_s"], Value::Null);
        assert_eq!(first["finding_events"][0]["became"], "opened");
        assert_eq!(told(1, true)["finding_events"], serde_json::json!([]));
        // An interval that nobody printed loses none.
        told(5, false);
        let last = told(6, true);
        assert_eq!(last["finding_events"][0]["became"], "closed");
        assert_eq!(last["finding_events"][0]["finding"], "unterminated-line");
        assert_eq!(last["findings"], serde_json::json!([]));
    }

    /// The documentation's "JSON" column is true.
    #[test]
    fn every_metric_is_where_it_says() {
        let snapshot = example::snapshot();
        let value = parsed(&snapshot);
        for metric in metric::METRICS {
            let Some(path) = metric.json else { continue };
            let pointer = format!("/{}", path.replace('.', "/"));
            let mut known = 0;
            for (row, json) in snapshot.rows.iter().zip(value["containers"].as_array().unwrap()) {
                let told = json.pointer(&pointer).and_then(Value::as_f64);
                assert_eq!(told, metric.of(row), "{path} of {}", row.container.id);
                known += usize::from(told.is_some());
            }
            assert!(known > 0, "{path} is known in no row of the example");
        }
    }

    #[test]
    fn hostile_names_are_escaped_and_kept() {
        let snapshot = example::snapshot();
        let text = Writer::default().top(&snapshot, &snapshot.rows.iter().collect::<Vec<_>>());
        assert!(!text.chars().any(text::is_hostile));
        assert!(text.contains(r"\u001b") && text.contains(r"\u202e"));
    }

    proptest! {
        #[test]
        fn any_name_survives(name in any::<String>()) {
            let mut snapshot = example::snapshot();
            let row = example::row(example::container(crate::resolve::Runtime::Docker, Some(&name)));
            snapshot.rows = vec![Arc::new(row)];
            let value = parsed(&snapshot);
            prop_assert_eq!(value["containers"][0]["container"]["name"].as_str(), Some(name.as_str()));
        }
    }
}
