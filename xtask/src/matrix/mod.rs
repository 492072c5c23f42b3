//! The kernel matrix: what became, on each kernel, of each way of attaching each probe. It is read from what the live
//! tests print (`tests/live/driver/matrix.rs`), shown as one table, and kept as fixtures for `docs/compatibility.md`.

mod table;

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub(crate) use self::table::table;
use crate::{test::tally::Tally, workspace};

/// One kernel's column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    /// As `uname -r` says there.
    pub(crate) release: String,
    /// In a machine of its own without the processor's help: times are ten times what they are elsewhere.
    pub(crate) emulated: bool,
    /// How the memory controller is mounted.
    pub(crate) cgroup: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// The tests that did not apply, with their reasons.
    pub(crate) skipped: Vec<String>,
    pub(crate) alternatives: Vec<Cell>,
    /// What the plan is made from, as `doctor --facts` wrote it; a fixture of its own.
    #[serde(skip)]
    pub(crate) facts: String,
}

/// One way of attaching one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Its place in the order in which `doctor` lists them.
    pub(crate) order: usize,
    pub(crate) probe: String,
    pub(crate) attach: String,
    pub(crate) target: String,
    pub(crate) became: Became,
    pub(crate) why: Option<String>,
    /// What attaching took; told, never asserted.
    pub(crate) attach_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Became {
    /// Forced, it told the truth.
    Served,
    /// This kernel does not allow it, and a sentence says why.
    Unusable,
    Failed,
}

impl Column {
    /// From a run of the live tests; `None` if they told nothing of any alternative.
    pub(crate) fn of(lines: &[String], tally: &Tally, emulated: bool) -> Option<Self> {
        let marked = |mark: &str| -> Vec<&str> {
            lines.iter().filter_map(|line| line.strip_prefix(mark)?.strip_prefix(' ')).collect()
        };
        let mut alternatives: Vec<Cell> = Vec::new();
        for cell in marked("matrix").into_iter().filter_map(|cell| serde_json::from_str::<Cell>(cell).ok()) {
            match alternatives.iter_mut().find(|known| known.names_same(&cell)) {
                // Told of twice, by two tests: the worse counts.
                Some(known) if cell.became == Became::Failed => *known = cell,
                Some(_) => {}
                None => alternatives.push(cell),
            }
        }
        alternatives.sort_by_key(|cell| cell.order);
        let kernel: Kernel = marked("kernel").into_iter().find_map(|line| serde_json::from_str(line).ok())?;
        Some(Self {
            release: kernel.release,
            emulated,
            cgroup: kernel.cgroup,
            passed: tally.passed,
            failed: tally.failed,
            skipped: tally.skips().map(str::to_owned).collect(),
            alternatives,
            facts: between(lines, "facts begin", "facts end"),
        })
    }

    /// Major and minor number, by which people and fixtures name it.
    pub(crate) fn label(&self) -> String {
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        let mut parts = self.release.split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{}.{}", digits(major), digits(minor))
    }

    /// Writes it and the facts, by the kernel's name and a suffix, where `docs/compatibility.md` and the tests of the plan find them.
    /// `partly`: only some tests ran, and what others told stays.
    pub(crate) fn record(&self, suffix: &str, partly: bool) -> Result<()> {
        let file = |folder: &str| {
            let dir = workspace::root().join("tests/fixtures").join(folder);
            dir.join(format!("{}{suffix}.json", self.label()))
        };
        let known = partly.then(|| fs::read_to_string(file("matrix")).ok()).flatten();
        let column = match known {
            Some(known) => {
                self.joined(serde_json::from_str(&known).context("a recorded column is not readable")?)
            }
            None => self.clone(),
        };
        let matrix = serde_json::to_string_pretty(&column).context("cannot write a column as JSON")? + "\n";
        for (folder, text) in [("matrix", &matrix), ("facts", &self.facts)] {
            let path = file(folder);
            // A run that broke off before its facts leaves those that are there.
            if !text.is_empty() {
                fs::create_dir_all(path.parent().unwrap_or(&path))
                    .and_then(|()| fs::write(&path, text))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                eprintln!("matrix: recorded {}", path.display());
            }
        }
        Ok(())
    }

    /// What this run told, in place of what was told of the same, and the rest of that.
    fn joined(&self, known: Self) -> Self {
        let told = |cell: &Cell| self.alternatives.iter().any(|own| own.names_same(cell));
        let mut alternatives = self.alternatives.clone();
        alternatives.extend(known.alternatives.into_iter().filter(|cell| !told(cell)));
        alternatives.sort_by_key(|cell| cell.order);
        Self {
            alternatives,
            passed: known.passed,
            failed: known.failed,
            skipped: known.skipped,
            ..self.clone()
        }
    }
}

/// The lines between two others, which are whole lines.
fn between(lines: &[String], begin: &str, end: &str) -> String {
    let inside = lines.iter().skip_while(|line| *line != begin).skip(1).take_while(|line| *line != end);
    inside.map(|line| format!("{line}\n")).collect()
}

/// What `doctor`'s test prints of the kernel that it runs on.
#[derive(Deserialize)]
struct Kernel {
    release: String,
    cgroup: String,
}

impl Cell {
    fn names_same(&self, other: &Self) -> bool {
        (&self.probe, &self.attach, &self.target) == (&other.probe, &other.attach, &other.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_read_from_what_the_tests_print() {
        let lines = [
            "test doctor::x ... ok",
            r#"kernel {"release":"6.12.117+deb12-cloud-amd64","cgroup":"v2"}"#,
            r#"matrix {"order":0,"probe":"charge","attach":"fentry","target":"a","became":"served","why":null,"attach_ms":1.5}"#,
            r#"matrix {"order":0,"probe":"charge","attach":"kprobe","target":"a","became":"unusable","why":"no kprobes","attach_ms":null}"#,
            r#"matrix {"order":0,"probe":"charge","attach":"fentry","target":"a","became":"failed","why":"wrong","attach_ms":1.5}"#,
            "skipping x: not here",
            "facts begin",
            "{}",
            "facts end",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s",
        ]
        .map(str::to_owned);
        let column = Column::of(&lines, &Tally::of(&lines, true), true).expect("the tests told");
        assert_eq!((column.label().as_str(), column.passed), ("6.12", 3));
        assert_eq!(column.skipped, ["x: not here"]);
        let became: Vec<Became> = column.alternatives.iter().map(|cell| cell.became).collect();
        assert_eq!(became, [Became::Failed, Became::Unusable], "the worse of two counts");
        assert_eq!(column.facts, "{}\n");
        assert!(Column::of(&[], &Tally::default(), false).is_none());
        let known = Column { passed: 41, ..column.clone() };
        let told = Column { alternatives: vec![column.alternatives[1].clone()], passed: 1, ..column };
        let joined = told.joined(known);
        assert_eq!((joined.passed, joined.alternatives.len()), (41, 2), "what was not told again stays");
    }
}
