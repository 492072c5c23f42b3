//! File sizes: a file aims at 100 lines, is worth another look at 400, and may not pass 600 unless it is a table.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

const LOOK_AGAIN: usize = 400;
const LIMIT: usize = 600;

/// Tables, which are read by looking up, not from top to bottom; each with the reason why it is one.
const TABLES: &[(&str, &str)] = &[];

const FOLDERS: &[&str] = &["tracer", "tracer-ebpf", "xtask", "tests"];

pub(super) fn check() -> Result<()> {
    let mut too_long = Vec::new();
    for folder in FOLDERS {
        for path in rust_files(&workspace::root().join(folder))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let shown = path.strip_prefix(workspace::root()).unwrap_or(&path).display().to_string();
            let lines = text.lines().count();
            if lines > LIMIT && !TABLES.iter().any(|(table, _)| *table == shown) {
                too_long.push(format!("{shown} has {lines} lines"));
            } else if lines > LOOK_AGAIN {
                eprintln!("check: {shown} has {lines} lines; are these two things?");
            }
        }
    }
    if !too_long.is_empty() {
        bail!("a file may have {LIMIT} lines; split by subject:\n{}", too_long.join("\n"));
    }
    Ok(())
}

/// All Rust files below a folder, in order.
pub(super) fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
