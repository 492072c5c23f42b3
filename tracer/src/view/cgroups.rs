//! Removed memory cgroups that the kernel keeps: as rows for people and as JSON for scripts.

use serde::Serialize;

use crate::{
    aggregator::{
        dead::{DeadReport, Heir, Maker, kinds::Pinned, name, origin::Origin},
        row::How,
    },
    metric::Unit,
    snapshot::{Host, Snapshot},
    view::{
        host, json,
        select::Filter,
        text::{self, Charset},
        unit,
    },
};

/// Rows that plain output has where no number is asked for.
const ROWS: usize = 30;
/// What cannot be known of anything inherited but by taking away.
const INHERITED: How = How::Inferred;

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    interval_s: f64,
    host: &'a Host,
    dead: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_how: Option<How>,
    pinned: &'a Pinned,
    inherited_slab: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inherited_slab_how: Option<How>,
    made_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_per_s_how: Option<How>,
    by_origin: Vec<&'a Origin>,
    makers: &'a [Maker],
    reparents: bool,
    heirs: &'a [Heir],
    walk: Walk,
}

/// How the dead were looked for.
#[derive(Serialize)]
struct Walk {
    /// Living memory cgroups that it came by.
    live: u64,
    took_s: f64,
    /// More than one where cgroups came or went meanwhile.
    walks: u32,
}

/// Origins that pass the filter, at most so many.
pub fn select<'a>(report: &'a DeadReport, filter: &Filter, rows: Option<usize>) -> Vec<&'a Origin> {
    let passes = report.by_origin.iter().filter(|origin| filter.fits(&origin.origin));
    passes.take(rows.unwrap_or(usize::MAX)).collect()
}

/// The object, without the newline after it.
pub fn json(snapshot: &Snapshot, report: &DeadReport, origins: Vec<&Origin>) -> String {
    let length = 512 * (origins.len() + 4);
    let object = Json {
        schema: json::SCHEMA,
        kind: "cgroups",
        ts: host::timestamp(snapshot.at),
        interval_s: snapshot.interval_s,
        host: &snapshot.host,
        dead: report.dead,
        dead_how: report.dead_how,
        pinned: &report.pinned,
        inherited_slab: report.inherited_slab,
        inherited_slab_how: report.inherited_slab.map(|_| INHERITED),
        made_per_s: report.made_per_s,
        made_per_s_how: report.made_per_s_how,
        by_origin: origins,
        makers: &report.makers,
        reparents: report.reparents,
        heirs: &report.heirs,
        walk: Walk { live: report.live, took_s: report.walk_took.as_secs_f64(), walks: report.walks },
    };
    json::written(&object, length)
}

/// One interval, with the empty line after it.
pub fn table(snapshot: &Snapshot, report: &DeadReport, origins: &[&Origin], limit: Option<usize>) -> String {
    let clean = |text: &str| text::clean(text, Charset::Unicode).into_owned();
    let marked = |bytes: Option<u64>, how| unit::format_marked(Unit::Bytes, bytes.map(|b| b as f64), how);
    let pinned = &report.pinned;
    let mut out = format!(
        "{} {}: {}{} dead memory cgroups ({} alive) pin {}: anon {}, file {} (shmem {}), swap {}; slab inherited from the dead {}; {} made a second\n",
        host::timestamp(snapshot.at),
        clean(&snapshot.hostname),
        report.dead_how.map_or("", unit::mark),
        report.dead,
        report.live,
        marked(pinned.total, pinned.total_how),
        marked(pinned.anon, pinned.anon_how),
        marked(pinned.file, pinned.file_how),
        marked(pinned.shmem, pinned.shmem_how),
        host::size(pinned.swap),
        marked(report.inherited_slab, Some(INHERITED)),
        unit::format_marked(Unit::PerSecond, report.made_per_s, report.made_per_s_how),
    );
    if report.dead == 0 {
        out.push_str("no removed memory cgroup is kept by the kernel\n");
    }
    if report.reparents {
        out.push_str(
            "this kernel hands the pages of removed cgroups to the one around them: look for them there\n",
        );
        for heir in &report.heirs {
            let growth = heir.growth.map_or_else(|| String::from("-"), |bytes| unit::bytes(bytes as f64));
            let held = host::size(heir.current);
            let line = format!("  {} holds {held}, {growth} more than before", name(&heir.container));
            out.push_str(&clean(&line));
            out.push('\n');
        }
    }
    if !origins.is_empty() {
        out.push_str("   PINNED  COUNT    OLDEST  ORIGIN\n");
    }
    let shown = limit.unwrap_or(ROWS);
    for origin in origins.iter().take(shown) {
        let oldest = unit::format_marked(Unit::Seconds, origin.oldest_s, origin.oldest_s_how);
        out.push_str(&format!(
            "{:>9} {:>6} {:>9}  {}{}\n",
            marked(origin.pinned, origin.pinned_how),
            unit::format(Unit::Count, Some(origin.count as f64)),
            oldest,
            clean(&origin.origin),
            if origin.seen_alive { "" } else { " (died before memtrace saw it)" }
        ));
    }
    if origins.len() > shown {
        out.push_str(&format!("  and {} more origins: -n shows more, --json all\n", origins.len() - shown));
    }
    for maker in &report.makers {
        out.push_str(&clean(&made(maker)));
        out.push('\n');
    }
    out.push('\n');
    out
}

fn made(maker: &Maker) -> String {
    let rate = unit::format(Unit::PerSecond, maker.per_s);
    let around = maker.parent.as_ref().map_or_else(String::new, |parent| format!(" in {}", name(parent)));
    let again = maker.workload.as_ref().map_or("", |_| ", which runs again now");
    format!("  made lately: {} ({rate} a second){around}, most from {}{again}", maker.made, maker.origin)
}

/// Why they cannot be told, in the words of the probes.
pub fn missing(snapshot: &Snapshot) -> String {
    let why: Vec<&str> = snapshot
        .probes
        .iter()
        .map(String::as_str)
        .filter(|probe| probe.starts_with("dead_cgroups"))
        .collect();
    let why = if why.is_empty() { String::from("no probe for them is attached") } else { why.join("; ") };
    text::clean(&format!("dead cgroups cannot be told one by one: {why}"), Charset::Unicode).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::view::example;

    fn report(origin: &str) -> DeadReport {
        DeadReport {
            dead: 3,
            pinned: Pinned {
                total: Some(5 << 20),
                file: Some(5 << 20),
                file_how: Some(How::Inferred),
                ..Pinned::default()
            },
            inherited_slab: Some(1 << 20),
            made_per_s: Some(0.4),
            by_origin: vec![Origin {
                origin: origin.to_owned(),
                count: 3,
                pinned: Some(5 << 20),
                oldest_s: Some(80.0),
                oldest_s_how: Some(How::AtLeast),
                ..Origin::default()
            }],
            live: 12,
            walks: 1,
            walk_took: Duration::from_millis(1),
            ..DeadReport::default()
        }
    }

    #[test]
    fn golden() {
        let report = report("shop/web-1/app");
        let snapshot = example::snapshot();
        let origins = select(&report, &Filter::default(), None);
        example::golden("cgroups_table", &table(&snapshot, &report, &origins, None));
        let text = json(&snapshot, &report, origins);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["by_origin"][0]["oldest_s_how"], "at_least");
        assert_eq!(value["pinned"]["anon"], serde_json::Value::Null, "not known is not 0");
        assert_eq!(value["inherited_slab_how"], "inferred");
    }

    #[test]
    fn where_nothing_is_dead_it_says_so() {
        let text = table(&example::snapshot(), &DeadReport::default(), &[], None);
        assert!(text.contains("no removed memory cgroup is kept"), "{text}");
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_line(name in any::<String>()) {
            let report = report(&name);
            let origins = select(&report, &Filter::default(), None);
            let text = table(&example::snapshot(), &report, &origins, None);
            prop_assert_eq!(text.lines().count(), 4);
            prop_assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{:?}", text);
            let text = json(&example::snapshot(), &report, origins);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
