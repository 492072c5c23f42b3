//! VIEWS. What a person or a script is shown of an immutable `Snapshot`. No view knows how a number is
//! collected, none locks, none writes to the kernel.
//!
//! - `text` makes foreign text harmless and fits it to a width; `unit` writes numbers for people.
//! - `label` says what a row is called; `composition` what it grows of; `severity` whether to look at it now;
//!   `host` puts the host's sums into words.
//! - `demand` is what a view may ask of the run it shows.
//! - `finding` is one finding whole: who, by which mechanism, on what evidence, what to do; `diagnose` the report of all.
//! - `doctor` reports on the kernel and the probes.
//! - `select` filters and sorts rows, the same for every view.
//! - `site` tells charges by process and kernel site.
//! - `cgroups` tells of removed memory cgroups that the kernel keeps.
//! - `dirty` tells who makes page cache dirty: table, JSON.
//! - `lines` tells of log lines: table, histogram, flow, JSON.
//! - `oom` tells of OOM kills; `stuck` of tasks in uninterruptible sleep.
//! - `json` is one object an interval, for scripts; `table` plain rows for a pipe; `tui` the full screen.

pub mod cgroups;
pub mod composition;
pub mod demand;
pub mod diagnose;
pub mod dirty;
pub mod doctor;
pub mod finding;
pub mod host;
pub mod json;
pub mod label;
pub mod lines;
pub mod oom;
pub mod select;
pub mod severity;
pub mod site;
pub mod stuck;
pub mod syscalls;
pub mod table;
pub mod text;
pub mod tui;
pub mod unit;

#[cfg(test)]
mod example;
