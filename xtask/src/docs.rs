//! `cargo xtask docs`: the pages that are derived from the tool's own registries, so that they cannot go stale.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    command::{cargo, command, output, run, shown},
    workspace,
};

/// The subjects that `memtrace generate-docs` knows; each is a page in `docs/`. `compatibility` rests on fixtures, which
/// are not the tool's own: an example of the library prints it.
const PAGES: &[&str] = &["probes", "metrics"];

/// Write the generated pages in docs/
#[derive(Args)]
pub(crate) struct Docs {
    /// Only say whether they are fresh
    #[arg(long)]
    check: bool,
}

impl Docs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.check {
            check()?
        } else {
            write()?
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn write() -> Result<()> {
    for (path, text) in generated()? {
        fs::create_dir_all(path.parent().unwrap_or(workspace::root()))
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("docs: wrote {}", path.display());
    }
    Ok(())
}

pub(crate) fn check() -> Result<()> {
    for (path, text) in generated()? {
        let there = fs::read_to_string(&path).unwrap_or_default();
        if there != text {
            bail!("{} is not what the code says; run `cargo xtask docs` and commit it", path.display());
        }
    }
    Ok(())
}

fn generated() -> Result<Vec<(PathBuf, String)>> {
    run(cargo().args(["build", "--quiet", "--package", "tracer", "--bin", "memtrace"]))?;
    let memtrace = workspace::target().join("debug/memtrace");
    let mut generators: Vec<(&str, Command)> = Vec::new();
    for page in PAGES {
        let mut generate = command(&memtrace);
        generate.args(["generate-docs", page]);
        generators.push((page, generate));
    }
    let mut example = cargo();
    example.args(["run", "--quiet", "--package", "tracer", "--example", "compatibility"]);
    generators.push(("compatibility", example));
    generators
        .into_iter()
        .map(|(page, mut generate)| {
            let text = output(&mut generate).with_context(|| format!("cannot generate the page `{page}`"))?;
            if text.is_empty() {
                bail!("`{}` printed nothing", shown(&generate));
            }
            Ok((workspace::root().join("docs").join(format!("{page}.md")), text))
        })
        .collect()
}
