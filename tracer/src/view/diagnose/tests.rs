//! The report over hand-made runs: what it says, how it fits, that no name does harm.

use std::sync::Arc;

use serde_json::{Map, Value as Parsed};

use super::*;
use crate::{
    aggregator::stream::Logs,
    finding::{
        Finding,
        evidence::Value,
        example::{incident, stream},
    },
    view::example,
};

fn snapshot(findings: Vec<Arc<Finding>>) -> Snapshot {
    let logs = Logs { streams: vec![Arc::new(stream(1, "web-7"))], readers: Vec::new() };
    let findings = findings.into_iter().map(|finding| Arc::new(Open::from(finding))).collect();
    Snapshot { findings, logs: Some(Arc::new(logs)), ..example::snapshot() }
}

fn report<'a>(last: &'a Snapshot, filter: &'a Filter) -> Report<'a> {
    let duration = Duration::from_millis(15_040);
    Report { started: last.at - duration, duration, last, filter }
}

fn text(last: &Snapshot) -> String {
    report(last, &Filter::default()).text(Charset::Unicode)
}

#[test]
fn golden_text() {
    let snapshot = snapshot(incident(15));
    let text = text(&snapshot);
    example::golden("diagnose_text", &text);
    assert!(text.lines().all(|line| text::width(line) <= COLUMNS), "{text}");
    assert!(text.starts_with("CRITICAL shop/web-7/app"));
}

/// Kept, with how long ago; a single look may be chance.
#[test]
fn what_was_found_until_moments_ago_is_reported_unless_at_one_look_only() {
    let told = |open_s, unseen_s| {
        let open = |finding| Arc::new(Open { open_s, unseen_s, ..Open::from(finding) });
        let findings = incident(15).into_iter().map(open).collect();
        text(&Snapshot { findings, ..snapshot(Vec::new()) })
    };
    assert!(told(6.0, Some(3.0)).contains("3.0 s  not found any more for so long"));
    assert!(told(3.0, Some(3.0)).starts_with("Nothing is wrong"));
    assert!(told(0.0, None).starts_with("CRITICAL"), "it may be the first of many");
}

#[test]
fn golden_json() {
    let snapshot = snapshot(incident(15));
    let text = report(&snapshot, &Filter::default()).json();
    assert!(!text.contains('\n'), "one line");
    let value: Parsed = serde_json::from_str(&text).unwrap();
    let keys = |value: &Parsed| -> Vec<String> {
        value.as_object().map(Map::keys).into_iter().flatten().cloned().collect()
    };
    for key in ["schema", "kind", "ts", "started", "duration_s", "host", "findings"] {
        assert!(keys(&value).contains(&key.to_owned()), "{key}");
    }
    let finding = &value["findings"][0];
    for key in [
        "id",
        "kind",
        "severity",
        "container",
        "daemon",
        "summary",
        "advice",
        "refuted_by",
        "evidence",
        "also",
    ] {
        assert!(keys(finding).contains(&key.to_owned()), "{key}");
    }
    example::golden("diagnose_json", &serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn that_nothing_is_wrong_is_said_with_what_was_watched() {
    let mut snapshot = snapshot(Vec::new());
    assert_eq!(
        text(&snapshot),
        "Nothing is wrong that memtrace can see.\n\n\
         Watched for 15 s from 2026-01-01T03:12:30.210Z: 1 stream of log lines, 10 rows\n\
         on node-17, kernel 6.12.57.\n\
         Lost: 12 events did not fit into the ring buffer\n"
    );
    snapshot.logs = None;
    snapshot.host.losses.clear();
    let unseen = text(&snapshot);
    assert!(unseen.starts_with("Nothing was found, but log lines could not be watched.\n"));
    assert!(
        unseen.contains("\nNot seen: log lines are not counted: log lines: none (not asked for)\n"),
        "{unseen}"
    );
    let json: Parsed = serde_json::from_str(&report(&snapshot, &Filter::default()).json()).unwrap();
    assert!(json["watched"]["streams"].is_null());
    assert_eq!(json["findings"], Parsed::Array(Vec::new()));
}

#[test]
fn a_missing_probe_is_named() {
    let mut snapshot = snapshot(Vec::new());
    snapshot.probes =
        Arc::new(["charge: fentry x (y)".to_owned(), "oom: not attached: no BTF; kills".to_owned()]);
    assert!(text(&snapshot).contains("\nNot seen: oom: not attached: no BTF; kills\n"));
    assert!(!text(&snapshot).contains("fentry"));
}

#[test]
fn the_filter_chooses() {
    let snapshot = snapshot(incident(15));
    let of = |pattern: &str| report(&snapshot, &Filter::new(pattern).unwrap()).is_critical();
    assert!(of("web-7") && of("shop/*") && of(""));
    assert!(!of("api-*"));
    let text = report(&snapshot, &Filter::new("api-*").unwrap()).text(Charset::Unicode);
    assert!(text.starts_with("Nothing is wrong with what matches api-* that memtrace can see.\n"), "{text}");
}

#[test]
fn it_is_told_when_it_opens_and_when_it_gets_worse() {
    let mut teller = Teller::default();
    let mut finding = incident(15)[0].as_ref().clone();
    let mut tell = |finding: &Finding| {
        teller.news(&snapshot(vec![Arc::new(finding.clone())]), &Filter::default(), Charset::Unicode)
    };
    finding.severity = Severity::Info;
    assert_eq!(tell(&finding), "");
    finding.severity = Severity::Warning;
    assert!(tell(&finding).starts_with("found: warning: shop/web-7/app has written 750 MiB"));
    assert_eq!(tell(&finding), "");
    finding.severity = Severity::Critical;
    assert_eq!(tell(&finding).lines().count(), 1);
    finding.severity = Severity::Warning;
    assert_eq!(tell(&finding), "");
    let news = teller.news(&snapshot(Vec::new()), &Filter::default(), Charset::Unicode);
    assert!(news.starts_with("over: critical: shop/web-7/app has written 750 MiB"), "{news}");
    assert_eq!(teller.news(&snapshot(Vec::new()), &Filter::default(), Charset::Unicode), "");
}

#[test]
fn hostile_names_are_escaped_everywhere() {
    let mut finding = incident(15)[0].as_ref().clone();
    let bad = "\x1b[2J\u{202e}\n";
    finding.summary.push_str(bad);
    finding.advice.push(format!("$ kill {bad}"));
    finding.advice.push(bad.to_owned());
    finding.refuted_by.push_str(bad);
    finding.id.push_str(bad);
    let process = crate::finding::example::process(7, bad);
    finding.evidence = finding.evidence.with("shims", "shims", Value::Processes(vec![process]));
    let snapshot = snapshot(vec![Arc::new(finding)]);
    let page = text(&snapshot);
    assert!(!page.chars().any(|c| c != '\n' && text::is_hostile(c)), "{page:?}");
    let json = report(&snapshot, &Filter::default()).json();
    assert!(!json.chars().any(text::is_hostile));
    let news = Teller::default().news(&snapshot, &Filter::default(), Charset::Ascii);
    assert_eq!(news.lines().count(), 1);
    assert!(!news.trim_end().chars().any(text::is_hostile));
}
