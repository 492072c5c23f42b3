//! Golden blocks, keys, order, and names that would do harm.

use proptest::prelude::*;
use serde_json::Value;

use super::{
    table::{Table, table},
    *,
};
use crate::view::example;

fn with(report: CallReport) -> Snapshot {
    Snapshot { calls: Some(Arc::new(report)), ..example::snapshot() }
}

fn chosen<'a>(snapshot: &'a Snapshot, word: &str) -> Vec<Shown<'a>> {
    let report = snapshot.calls.as_deref().expect("the example has some");
    select(report, &Filter::default(), Key::find(word).expect("a word"), None)
}

fn json_of(snapshot: &Snapshot) -> Value {
    let text = json::syscalls(snapshot, &chosen(snapshot, metric::call::TIME));
    assert!(!text.contains('\n') && !text.chars().any(text::is_hostile), "one harmless line");
    serde_json::from_str(&text).unwrap()
}

fn shown(snapshot: &Snapshot, width: Option<usize>, charset: Charset) -> String {
    let word = metric::call::TIME;
    let key = Key::find(word).expect("the default word");
    table(&Table { snapshot, rows: &chosen(snapshot, word), key, calls: 3, width, charset })
}

#[test]
fn golden() {
    let snapshot = with(example::calls());
    example::golden("syscalls_table", &shown(&snapshot, None, Charset::Unicode));
    example::golden("syscalls_table_80", &shown(&snapshot, Some(80), Charset::Unicode));
    let ascii = shown(&snapshot, Some(120), Charset::Ascii);
    assert!(ascii.is_ascii(), "{ascii}");
    let mut value = json_of(&snapshot);
    value["host"] = Value::from("as of top");
    example::golden("syscalls_json", &serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn the_documented_keys_are_there() {
    let value = json_of(&with(example::calls()));
    assert_eq!((value["schema"].as_str(), value["kind"].as_str()), (Some("memtrace/1"), Some("syscalls")));
    let call = &value["containers"][0]["calls"][0];
    for key in ["name", "count", "errors", "total_s", "p50_us", "p99_us", "max_us"] {
        assert!(!call[key].is_null(), "{key}");
    }
    let failing = value["containers"][0]["calls"].as_array().unwrap().iter().find(|call| call["errors"] != 0);
    let failing = failing.expect("one of the example's fails");
    let by_errno = failing["errors_by_errno"].as_object().unwrap();
    assert_eq!(by_errno.values().filter_map(Value::as_u64).sum::<u64>(), failing["errors"].as_u64().unwrap());
}

/// The documentation's "JSON" column is true.
#[test]
fn every_metric_is_where_it_says() {
    let snapshot = with(example::calls());
    let value = json_of(&snapshot);
    let rows = chosen(&snapshot, metric::call::TIME);
    for metric in metric::call::CALLS {
        let path = metric.json.expect("none is derived");
        let told = value["containers"].as_array().unwrap().iter();
        let told = told.flat_map(|row| row["calls"].as_array().unwrap()).map(|call| call[path].as_f64());
        let expected = rows.iter().flat_map(|row| &row.calls).map(|call| metric.of(call));
        assert!(told.eq(expected), "{path}");
    }
}

#[test]
fn every_word_sorts() {
    let snapshot = with(example::calls());
    for word in metric::call::sort_words() {
        let rows = chosen(&snapshot, word);
        let Some(Key::Metric(metric)) = Key::find(word) else { continue };
        for row in rows {
            assert!(row.calls.windows(2).all(|pair| metric.of(pair[0]) >= metric.of(pair[1])), "{word}");
        }
    }
    assert!(Key::find("beauty").is_none());
    let report = example::calls();
    assert!(select(&report, &Filter::new("nobody").unwrap(), Key::Name, None).is_empty());
}

#[test]
fn a_missing_probe_is_told_with_its_reason() {
    assert_eq!(missing(&with(example::calls())), None);
    let refused = CallReport { how: "syscall: no BTF".to_owned(), ..CallReport::default() };
    assert_eq!(missing(&with(refused)).as_deref(), Some("syscall: no BTF"));
}

proptest! {
    #[test]
    fn no_name_breaks_a_line(name in any::<String>(), count in any::<u64>(), time in any::<f64>()) {
        let mut report = example::calls();
        let mut row = RowCalls::clone(&report.rows[0]);
        row.calls[0].count = count;
        row.calls[0].total_s = time;
        let mut container = (*row.container).clone();
        container.name = Some(name);
        row.container = Arc::new(container);
        report.rows = vec![Arc::new(row)];
        let snapshot = with(report);
        json_of(&snapshot);
        for width in [None, Some(80)] {
            let text = shown(&snapshot, width, Charset::Unicode);
            prop_assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{:?}", text);
            prop_assert!(text.lines().all(|line| width.is_none_or(|width| text::width(line) <= width)), "{}", text);
        }
    }
}
