//! Golden blocks, every width, and names that would do harm.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::{
    flow::flow,
    histogram::histogram,
    select::{Key, Order, select},
    table::{Shown, table},
    *,
};
use crate::{
    aggregator::stream::{Hop, Role},
    metric,
    resolve::Runtime,
    view::example,
};

fn shown(logs: &Logs, width: Option<usize>, charset: Charset, draw: fn(&Shown<'_>) -> String) -> String {
    let snapshot = example::snapshot();
    let streams = select(logs, &[], Order::default(), None);
    draw(&Shown { snapshot: &snapshot, logs, streams: &streams, order: Order::default(), width, charset })
}

fn json_of(logs: &Logs) -> Value {
    let text = json::lines(&example::snapshot(), logs, &select(logs, &[], Order::default(), None));
    assert!(!text.contains('\n') && !text.chars().any(text::is_hostile), "one harmless line");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn golden() {
    let logs = example::logs();
    for (name, draw) in
        [("table", table as fn(&Shown<'_>) -> String), ("histogram", histogram), ("flow", flow)]
    {
        example::golden(&format!("lines_{name}"), &shown(&logs, None, Charset::Unicode, draw));
        example::golden(&format!("lines_{name}_80"), &shown(&logs, Some(80), Charset::Unicode, draw));
        let ascii = shown(&logs, Some(100), Charset::Ascii, draw);
        assert!(ascii.is_ascii(), "{ascii}");
        example::golden(&format!("lines_{name}_ascii"), &ascii);
    }
    example::golden("lines_table_160", &shown(&logs, Some(160), Charset::Unicode, table));
}

#[test]
fn golden_json() {
    let mut value = json_of(&example::logs());
    value["host"] = Value::from("as of top");
    // Buckets are many: the first of each stream.
    for stream in value["streams"].as_array_mut().unwrap() {
        stream["buckets"].as_array_mut().unwrap().truncate(2);
    }
    example::golden("lines_json", &serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn the_documented_keys_are_there() {
    let value = json_of(&example::logs());
    assert_eq!((value["schema"].as_str(), value["kind"].as_str()), (Some("memtrace/1"), Some("lines")));
    let stream = value["streams"][0].as_object().unwrap();
    for key in [
        "container",
        "stream",
        "lines",
        "bytes",
        "p50",
        "p90",
        "p99",
        "p999",
        "max",
        "open_line_bytes",
        "max_open_line_bytes",
        "unscanned_bytes",
        "first_line_partial",
        "reader",
        "via",
        "held_bytes",
        "buckets",
    ] {
        assert!(stream.contains_key(key), "{key}");
    }
    assert_eq!(value["streams"][0]["held_bytes_how"], "inferred");
    assert_eq!(value["streams"][0]["max"], Value::Null, "no line has ended");
    let idle =
        value["streams"].as_array().unwrap().iter().find(|s| s["container"]["name"] == "cron").unwrap();
    assert_eq!(
        (&idle["reader"], &idle["via"], &idle["p50"]),
        (&Value::Null, &Value::from(Vec::<Value>::new()), &Value::Null)
    );
}

/// The documentation's "JSON" column is true.
#[test]
fn every_metric_is_where_it_says() {
    let logs = example::logs();
    let value = json_of(&logs);
    let streams = select(&logs, &[], Order::default(), None);
    for metric in metric::stream::STREAMS {
        let Some(path) = metric.json else { continue };
        let mut known = 0;
        for (stream, json) in streams.iter().zip(value["streams"].as_array().unwrap()) {
            let told = json.get(path).and_then(Value::as_f64);
            assert_eq!(told, metric.of(stream), "{path} of {}", stream.container.id);
            known += usize::from(told.is_some());
        }
        assert!(known > 0, "{path} is known in no stream of the example");
    }
}

/// A line that is longer than the terminal would be broken by it, and nothing would align.
#[test]
fn no_line_is_wider_than_the_terminal() {
    let logs = example::logs();
    for draw in [table as fn(&Shown<'_>) -> String, histogram, flow] {
        for width in 60..220 {
            for line in shown(&logs, Some(width), Charset::Unicode, draw).lines() {
                assert!(text::width(line) <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn the_sorted_column_is_always_there() {
    let (snapshot, logs) = (example::snapshot(), example::logs());
    for word in metric::stream::sort_words() {
        let order = Order { key: Key::find(word).unwrap(), reverse: false };
        let streams = select(&logs, &[], order, None);
        for width in [60, 80, 100, 160] {
            let charset = Charset::Unicode;
            let shown = Shown {
                snapshot: &snapshot,
                logs: &logs,
                streams: &streams,
                order,
                width: Some(width),
                charset,
            };
            let text = table(&shown);
            assert!(text.lines().all(|line| text::width(line) <= width), "{word} at {width}:\n{text}");
            let Key::Metric(metric) = order.key else { continue };
            let short = match metric.name {
                "bytes" => "B/s",
                "open_line" => "OPEN",
                _ => metric.title,
            };
            assert!(text.contains(metric.title) || text.contains(short), "{word} at {width}:\n{text}");
        }
    }
}

#[test]
fn what_an_incident_needs_is_there_at_80_columns() {
    let text = shown(&example::logs(), Some(80), Charset::Unicode, table);
    for title in ["CONTAINER", "STREAM", "B/s", "P99", "MAX", "OPEN", "HELD", "READER"] {
        assert!(text.contains(title), "{title}:\n{text}");
    }
}

#[test]
fn a_missing_probe_is_told_with_its_reason() {
    assert_eq!(missing(&example::snapshot()), "log lines are not counted: log lines: none (not asked for)");
}

proptest! {
    #[test]
    fn no_name_breaks_a_line(name in any::<String>(), comm in any::<String>(), numbers in any::<[u64; 4]>(), rate in any::<f64>()) {
        let container = Arc::new(example::container(Runtime::Docker, Some(&name)));
        let mut stream = example::stream(&container, Role::Stdout, &[(numbers[0] >> 24, 3)]);
        stream.open_line = numbers[1];
        stream.held = Some(numbers[2]);
        stream.unscanned = numbers[3];
        stream.bytes_per_s = Some(rate);
        stream.open_line_per_s = Some(rate);
        stream.hops = vec![Hop { process: example::process(7, &comm), taken: numbers[0], taken_per_s: Some(rate) }];
        let logs = Logs { streams: vec![Arc::new(stream)], readers: Vec::new() };
        let value = json_of(&logs);
        prop_assert_eq!(value["streams"][0]["container"]["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(value["streams"][0]["reader"]["comm"].as_str(), Some(comm.as_str()));
        for draw in [table as fn(&Shown<'_>) -> String, histogram, flow] {
            for width in [None, Some(80)] {
                let text = shown(&logs, width, Charset::Unicode, draw);
                prop_assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{:?}", text);
                prop_assert!(text.lines().all(|line| width.is_none_or(|width| text::width(line) <= width)), "{}", text);
            }
        }
    }
}
