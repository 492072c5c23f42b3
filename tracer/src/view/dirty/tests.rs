//! Golden blocks, keys, and names that would do harm.

use proptest::prelude::*;
use serde_json::Value;

use super::{
    table::{Shown, table},
    *,
};
use crate::view::example;

fn with(dirty: Dirty) -> Snapshot {
    Snapshot { dirty: Arc::new(dirty), ..example::snapshot() }
}

fn all(snapshot: &Snapshot, idle: bool) -> Vec<&Arc<DirtyRow>> {
    let key = Key::find(RATE).expect("the default word");
    select(&snapshot.dirty, &Filter::default(), key, None, idle)
}

fn json_of(snapshot: &Snapshot) -> Value {
    let text = json::dirty(snapshot, &all(snapshot, true));
    assert!(!text.contains('\n') && !text.chars().any(text::is_hostile), "one harmless line");
    serde_json::from_str(&text).unwrap()
}

fn shown(snapshot: &Snapshot, width: Option<usize>, charset: Charset) -> String {
    table(&Shown { snapshot, rows: &all(snapshot, false), width, charset })
}

#[test]
fn golden() {
    let snapshot = with(example::dirty());
    example::golden("dirty_table", &shown(&snapshot, None, Charset::Unicode));
    example::golden("dirty_table_80", &shown(&snapshot, Some(80), Charset::Unicode));
    let ascii = shown(&snapshot, Some(120), Charset::Ascii);
    assert!(ascii.is_ascii(), "{ascii}");
    let mut value = json_of(&snapshot);
    value["host"] = Value::from("as of top");
    example::golden("dirty_json", &serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn the_documented_keys_are_there() {
    let value = json_of(&with(example::dirty()));
    assert_eq!((value["schema"].as_str(), value["kind"].as_str()), (Some("memtrace/1"), Some("dirty")));
    let row = &value["containers"][0];
    for key in [
        "container",
        "dirtied_per_s",
        "written_per_s",
        "dirtied",
        "written",
        "dirty",
        "writeback",
        "throttled_s",
    ] {
        assert!(!row[key].is_null(), "{key}");
    }
    for key in ["pid", "comm", "dirtied"] {
        assert!(!row["processes"][0][key].is_null(), "{key}");
    }
    for key in ["path", "dev", "ino", "dirtied", "backing"] {
        assert!(!row["files"][0][key].is_null(), "{key}");
    }
    assert_eq!(row["files"][0]["before_attach_how"], "inferred");
    // Rows of which as much is known come by their sums.
    let other = value["containers"].as_array().unwrap().iter().find(|row| row["removed"] == true).unwrap();
    assert_eq!((&other["dirtied_how"], &other["written_how"]), (&"at_least".into(), &"inferred".into()));
    assert_eq!((&other["throttled_s"], &other["files"][1]["path"]), (&Value::Null, &Value::Null));
}

/// The documentation's "JSON" column is true.
#[test]
fn every_metric_is_where_it_says() {
    let snapshot = with(example::dirty());
    let value = json_of(&snapshot);
    for metric in metric::dirty::DIRTY {
        let path = metric.json.expect("none is derived");
        let rows = all(&snapshot, true);
        let told: Vec<_> =
            value["containers"].as_array().unwrap().iter().map(|row| row[path].as_f64()).collect();
        assert_eq!(told, rows.iter().map(|row| metric.of(row)).collect::<Vec<_>>(), "{path}");
        assert!(told.iter().any(Option::is_some), "{path} is known in no row of the example");
    }
}

#[test]
fn every_word_sorts_with_unknown_last() {
    let dirty = example::dirty();
    for word in metric::dirty::sort_words() {
        let key = Key::find(word).expect("a word of the help");
        let rows = select(&dirty, &Filter::default(), key, Some(2), true);
        assert_eq!(rows.len(), 2);
        let Key::Metric(metric) = key else { continue };
        let values: Vec<_> = rows.iter().map(|row| metric.of(row)).collect();
        assert!(values[0] >= values[1], "{word}: {values:?}");
    }
    assert!(Key::find("beauty").is_none());
    let none = select(&dirty, &Filter::new("nobody").unwrap(), Key::Name, None, true);
    assert!(none.is_empty());
}

#[test]
fn a_missing_probe_is_told_with_its_reason() {
    let mut snapshot = with(example::dirty());
    assert_eq!(missing(&snapshot), None);
    snapshot.dirty = Arc::default();
    snapshot.probes = Arc::new(["dirty: not attached: no BTF".to_owned()]);
    assert_eq!(missing(&snapshot).as_deref(), Some("dirty: not attached: no BTF"));
}

proptest! {
    #[test]
    fn no_name_breaks_a_line(name in any::<String>(), comm in any::<String>(), bytes in any::<u64>(), rate in any::<f64>()) {
        let mut dirty = example::dirty();
        let mut row = DirtyRow::clone(&dirty.rows[0]);
        row.processes[0].process = example::process(7, &comm);
        row.files[0].path = Some(Arc::from(name.as_str()));
        row.files[0].dirtied = bytes;
        row.dirtied = Some(bytes);
        row.dirtied_per_s = Some(rate);
        dirty.rows = vec![Arc::new(row)];
        let snapshot = with(dirty);
        let value = json_of(&snapshot);
        prop_assert_eq!(value["containers"][0]["files"][0]["path"].as_str(), Some(name.as_str()));
        for width in [None, Some(80)] {
            let text = shown(&snapshot, width, Charset::Unicode);
            prop_assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{:?}", text);
            prop_assert!(text.lines().all(|line| width.is_none_or(|width| text::width(line) <= width)), "{}", text);
        }
    }
}
