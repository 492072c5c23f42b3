//! Streams of log lines: which are shown and in what order, their table, the histogram of line lengths, where the lines
//! flow, and the same as JSON. Text of the streams is nowhere: only counts of it ever leave the kernel.
//!
//! - `select` filters and sorts; `column` says what fits a width; `table` is the rows; `histogram` and `flow` the
//!   drawings; `json` what scripts read.

pub mod column;
pub mod flow;
pub mod histogram;
pub mod json;
pub mod select;
pub mod table;

use crate::{
    aggregator::stream::{Logs, Process, Reader, Stream},
    snapshot::Snapshot,
    view::text::{self, Charset},
};

/// `containerd[812]`, cleaned.
pub fn process(process: &Process, charset: Charset) -> String {
    format!("{}[{}]", text::clean(&process.comm, charset), process.pid)
}

/// What is known of the process that reads a stream last.
pub fn reader<'a>(logs: &'a Logs, stream: &Stream) -> Option<&'a Reader> {
    let last = stream.reader()?;
    logs.readers.iter().find(|reader| reader.process.pid == last.pid)
}

/// Why no log lines are counted, in the words of the probes.
pub fn missing(snapshot: &Snapshot) -> String {
    let why: Vec<&str> =
        snapshot.probes.iter().map(String::as_str).filter(|probe| probe.starts_with("log")).collect();
    let why = if why.is_empty() { String::from("no probe for them is attached") } else { why.join("; ") };
    text::clean(&format!("log lines are not counted: {why}"), Charset::Unicode).into_owned()
}

/// What is to be said of a stream before its numbers are believed.
pub fn doubts(stream: &Stream) -> Vec<String> {
    let size = |bytes: u64| super::host::size(Some(bytes));
    let mut doubts = Vec::new();
    if stream.unscanned > 0 {
        doubts.push(format!(
            "{} of {} were not looked at (spliced, or beyond what one look takes): it may have more lines, and shorter ones",
            size(stream.unscanned),
            size(stream.bytes)
        ));
    }
    if let Some(before) = stream.open_line_before {
        doubts.push(format!("its open line was under way before attach: up to ~{} more", size(before)));
    }
    doubts
}

#[cfg(test)]
mod tests;
