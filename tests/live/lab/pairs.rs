//! Two of the five incidents at once, in all ten pairs: each is told for whom it is about, and nothing else is.

use serde_json::json;

use crate::{
    dead_cgroups, dirty_incident,
    driver::{
        disk, in_lab, in_vm, matrix,
        scene::{self, During, Wanted},
        skip_part,
    },
    endless_line, pileup, unstoppable,
};

type Incident = (&'static str, fn(During<'_>) -> Result<(), String>);

/// Those that last come first: the later one of a pair is made within the earlier.
const INCIDENTS: [Incident; 5] = [
    ("dead-cgroups", dead_cgroups::going),
    ("cannot-be-stopped", unstoppable::going),
    ("importer", dirty_incident::going),
    ("endless-line", endless_line::going),
    ("pileup", pileup::going),
];
/// What is looked at in any run of the tests: all of them take minutes.
const ALWAYS: [(&str, &str); 2] = [("cannot-be-stopped", "pileup"), ("importer", "endless-line")];

fn both(first: Incident, second: Incident) -> Result<(), String> {
    disk::drop_caches();
    let name = format!("{}+{}", first.0, second.0);
    let mut made = Ok(());
    first.1(&mut |one| {
        made = second.1(&mut |other| {
            let report = scene::diagnose(if in_vm() { "25" } else { "12" });
            let all: Vec<_> = one.iter().chain(&other).collect();
            let wanted: Vec<_> = all.iter().map(|(kind, path)| Wanted { kind, path }).collect();
            report.is(&name, &json!({ "both": all }), &wanted);
        });
    })?;
    made
}

#[test]
fn two_incidents_at_once_are_told_apart() {
    let mut failed = Vec::new();
    for (at, first) in INCIDENTS.iter().enumerate() {
        for second in &INCIDENTS[at + 1..] {
            if !in_lab() && !ALWAYS.contains(&(first.0, second.0)) {
                continue;
            }
            let name = format!("{}+{}", first.0, second.0);
            println!("  {name}");
            match matrix::caught(|| both(*first, *second)) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => skip_part(&name, &reason),
                Err(why) => failed.push(format!("{name}: {why}")),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
