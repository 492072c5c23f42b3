//! The matrix as text: a row for each way of attaching a probe, a column for each kernel, reasons below.

use std::fmt::Write as _;

use super::{Became, Cell, Column};

/// Longest target that is printed; what it begins with tells it.
const TARGET: usize = 26;

/// Columns in the order in which they are given.
pub(crate) fn table(columns: &[Column]) -> String {
    let mut rows: Vec<&Cell> = Vec::new();
    for cell in columns.iter().flat_map(|column| &column.alternatives) {
        if !rows.iter().any(|row| row.names_same(cell)) {
            rows.push(cell);
        }
    }
    rows.sort_by_key(|cell| cell.order);
    let mut reasons: Vec<&str> = Vec::new();
    let head: Vec<String> = columns.iter().map(Column::label).collect();
    let mut lines = vec![line(["probe", "attach", "target"], &head)];
    for row in rows {
        let mut cells = Vec::new();
        for column in columns {
            let cell = column.alternatives.iter().find(|cell| cell.names_same(row));
            cells.push(match cell.map(|cell| (cell.became, cell.why.as_deref())) {
                None => "not run".to_owned(),
                Some((Became::Served, _)) => "served".to_owned(),
                Some((Became::Unusable, why)) => format!("({})", numbered(&mut reasons, why)),
                Some((Became::Failed, why)) => format!("FAILED ({})", numbered(&mut reasons, why)),
            });
        }
        lines.push(line([&row.probe, &row.attach, &shortened(&row.target)], &cells));
    }
    lines.extend(reasons.iter().enumerate().map(|(at, why)| format!("({}) {why}", at + 1)));
    let tally = |column: &Column| format!("{}/{}/{}", column.passed, column.failed, column.skipped.len());
    let tallies: Vec<String> = columns.iter().map(tally).collect();
    lines.push(line(["tests passed/failed/skipped", "", ""], &tallies));
    lines.join("\n")
}

/// A reason's number, from 1, in the order in which they come up.
fn numbered<'a>(reasons: &mut Vec<&'a str>, why: Option<&'a str>) -> usize {
    let why = why.unwrap_or("no reason was told");
    let known = reasons.iter().position(|reason| *reason == why);
    known.unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    }) + 1
}

fn shortened(target: &str) -> String {
    if target.len() <= TARGET { target.to_owned() } else { format!("{}..", &target[..TARGET - 2]) }
}

fn line(names: [&str; 3], cells: &[String]) -> String {
    let [probe, attach, target] = names;
    let mut line = format!("{probe:<14} {attach:<10} {target:<TARGET$}");
    for cell in cells {
        // A `String` takes every write.
        let _ = write!(line, "  {cell:<10}");
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(order: usize, attach: &str, became: Became, why: Option<&str>) -> Cell {
        let [probe, target] = ["charge", "page_counter_try_charge+page_counter_charge"].map(str::to_owned);
        let why = why.map(str::to_owned);
        Cell { order, probe, attach: attach.to_owned(), target, became, why, attach_ms: None }
    }

    #[test]
    fn a_reason_has_one_number_and_what_did_not_run_says_so() {
        let column = |release: &str, alternatives| Column {
            release: release.to_owned(),
            emulated: true,
            cgroup: "v2".to_owned(),
            passed: 3,
            failed: 0,
            skipped: vec![String::new()],
            alternatives,
            facts: String::new(),
        };
        let old = column(
            "5.10.0-46",
            vec![
                cell(1, "kprobe", Became::Unusable, Some("refused")),
                cell(0, "fentry", Became::Unusable, Some("refused")),
            ],
        );
        let new = column("7.2.13", vec![cell(0, "fentry", Became::Served, None)]);
        let table = table(&[old, new]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["probe", "attach", "target", "5.10", "7.2"]);
        assert_eq!(lines[1], ["charge", "fentry", "page_counter_try_charge+..", "(1)", "served"]);
        assert_eq!(lines[2][3..], ["(1)", "not", "run"]);
        assert_eq!(lines[3], ["(1)", "refused"]);
        assert_eq!(lines[4][2..], ["3/0/1", "3/0/1"]);
    }
}
