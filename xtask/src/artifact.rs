//! What the tests run: the tool as it is shipped, the live tests and the workload.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    command::{cargo, output, run},
    workspace,
};

/// The workload runs in containers that hold nothing else, so it is static; in a folder of its own, since other flags
/// would have the rest built anew.
const WORKLOAD_TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) struct Artifacts {
    pub(crate) memtrace: PathBuf,
    pub(crate) workload: PathBuf,
    pub(crate) live_tests: Option<PathBuf>,
}

impl Artifacts {
    /// Builds what is not there; the live tests only on demand.
    pub(crate) fn build(with_live_tests: bool) -> Result<Self> {
        if with_live_tests && !has_live_tests()? {
            bail!(
                "the package `tracer` has no test target `live` yet; give a command: `cargo xtask vm -- CMD`"
            );
        }
        Ok(Self {
            memtrace: memtrace()?,
            workload: workload()?,
            live_tests: if with_live_tests { Some(live_tests()?) } else { None },
        })
    }
}

/// The tool, with the profile in which it is shipped: emulated, an unoptimised one would be too slow to measure.
pub(crate) fn memtrace() -> Result<PathBuf> {
    run(cargo().args(["build", "--package", "tracer", "--bin", "memtrace", "--release"]))?;
    Ok(workspace::target().join("release/memtrace"))
}

pub(crate) fn workload() -> Result<PathBuf> {
    let dir = workspace::target().join("static");
    let mut build = cargo();
    build.args(["build", "--package", "workload", "--release", "--target", WORKLOAD_TARGET, "--target-dir"]);
    run(build.arg(&dir).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(workload_path())
}

pub(crate) fn workload_path() -> PathBuf {
    workspace::target().join("static").join(WORKLOAD_TARGET).join("release/workload")
}

fn live_tests() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["test", "--package", "tracer", "--features", "live", "--test", "live", "--no-run"]);
    // The messages for people go on on standard error.
    build.arg("--message-format=json-render-diagnostics").stderr(std::process::Stdio::inherit());
    let messages = output(&mut build)?;
    executable(&messages, "live").context("cargo built the live tests but did not say where they are")
}

pub(crate) fn has_live_tests() -> Result<bool> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("cannot read what `cargo metadata` printed")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    let mut targets = packages.iter().filter_map(|package| package["targets"].as_array()).flatten();
    Ok(targets.any(|target| target["name"] == "live" && target["kind"][0] == "test"))
}

/// The path of a test's executable among cargo's messages, one JSON object a line.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == test && message["target"]["kind"][0] == "test")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"live","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"live","kind":["test"]},"executable":"/t/live-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "live"), Some(PathBuf::from("/t/live-1")));
        assert_eq!(executable(messages, "plan"), None);
    }
}
