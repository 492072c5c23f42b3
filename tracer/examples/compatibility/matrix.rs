//! What the live tests recorded (`cargo xtask vm --all --record`), as a table with numbered reasons.

use std::fmt::Write as _;

use serde::Deserialize;

/// One kernel, as `xtask` records it.
#[derive(Deserialize)]
pub struct Column {
    #[serde(skip)]
    name: String,
    release: String,
    emulated: bool,
    cgroup: String,
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    alternatives: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    order: usize,
    probe: String,
    attach: String,
    target: String,
    became: String,
    why: Option<String>,
    attach_ms: Option<f64>,
}

impl Cell {
    fn key(&self) -> (&str, &str, &str) {
        (&self.probe, &self.attach, &self.target)
    }
}

pub fn columns(files: &[(String, String)]) -> Vec<Column> {
    let parse = |(name, text): &(String, String)| {
        let column: Column =
            serde_json::from_str(text).expect("a column as `cargo xtask vm --record` writes it");
        Column { name: name.clone(), ..column }
    };
    files.iter().map(parse).collect()
}

const HEAD: &str = "## Every way of attaching, tried

Each alternative of each probe was forced on each kernel and its numbers compared with a workload of known size: \
*served* means that it told the truth; the time is what attaching took there, the verifier included (on emulated kernels \
about ten times what it is elsewhere). A number is a reason below.

";

pub fn page(columns: &[Column]) -> String {
    let mut out = String::from(HEAD);
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    // A `String` takes every write.
    let _ = writeln!(out, "| probe | attach | first hook | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|---|---|{}", "---|".repeat(columns.len()));
    let mut rows: Vec<&Cell> = Vec::new();
    for cell in columns.iter().flat_map(|column| &column.alternatives) {
        if !rows.iter().any(|row| row.key() == cell.key()) {
            rows.push(cell);
        }
    }
    rows.sort_by_key(|row| row.order);
    let mut reasons: Vec<&str> = Vec::new();
    for row in rows {
        let first = row.target.split('+').next().unwrap_or_default();
        let _ = write!(out, "| {} | {} | `{first}` |", row.probe, row.attach);
        for column in columns {
            let cell = column.alternatives.iter().find(|cell| cell.key() == row.key());
            let _ = write!(
                out,
                " {} |",
                cell.map_or_else(|| "not run".to_owned(), |cell| text(cell, &mut reasons))
            );
        }
        out.push('\n');
    }
    out.push('\n');
    for (at, reason) in reasons.iter().enumerate() {
        let _ = writeln!(out, "{}. {reason}", at + 1);
    }
    out.push_str("\n| kernel | release | cgroups | live tests passed | failed | did not apply |\n|---|---|---|---|---|---|\n");
    for column in columns {
        let _ = writeln!(
            out,
            "| {} | {}{} | {} | {} | {} | {} |",
            column.name,
            column.release,
            if column.emulated { ", emulated" } else { "" },
            column.cgroup,
            column.passed,
            column.failed,
            column.skipped.len()
        );
    }
    out.push_str("\nWhat did not apply:\n\n");
    let mut skips: Vec<(&str, Vec<&str>)> = Vec::new();
    for column in columns {
        for skip in &column.skipped {
            match skips.iter_mut().find(|(known, _)| known == skip) {
                Some((_, on)) => on.push(&column.name),
                None => skips.push((skip, vec![&column.name])),
            }
        }
    }
    for (skip, on) in skips {
        let _ = writeln!(out, "- {skip} ({})", on.join(", "));
    }
    out
}

fn text<'a>(cell: &'a Cell, reasons: &mut Vec<&'a str>) -> String {
    if cell.became == "served" {
        return cell.attach_ms.map_or_else(|| "served".to_owned(), |took| format!("served, {took:.0} ms"));
    }
    let why = cell.why.as_deref().unwrap_or("no reason was told");
    let known = reasons.iter().position(|reason| *reason == why);
    let at = known.unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    });
    if cell.became == "failed" { format!("FAILED ({})", at + 1) } else { format!("({})", at + 1) }
}
