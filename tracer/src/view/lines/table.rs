//! Plain rows of streams: each interval is a line on the whole, a line of titles, one line a stream, what is to be said
//! of some of them, and an empty line.

use std::sync::Arc;

use crate::{
    aggregator::stream::{Logs, Stream},
    metric::Unit,
    snapshot::Snapshot,
    view::{
        host, label, lines,
        lines::{
            column::{self, Kit, READER, ROLE, Wanted},
            select::Order,
        },
        severity,
        text::{self, Charset},
        unit,
    },
};

/// In the order shown.
const KIT: Kit = &[
    (ROLE, 1),
    ("lines", 8),
    ("bytes", 2),
    ("p50", 7),
    ("p90", 9),
    ("p99", 5),
    ("max", 3),
    ("open_line", 0),
    ("held", 4),
    (READER, 6),
];

/// Streams of which something is said below the table.
const REMARKS: usize = 4;

/// What is shown, and how.
pub struct Shown<'a> {
    pub snapshot: &'a Snapshot,
    pub logs: &'a Logs,
    /// Those that are shown, in order.
    pub streams: &'a [&'a Arc<Stream>],
    pub order: Order,
    /// Columns of the terminal; a pipe has none.
    pub width: Option<usize>,
    pub charset: Charset,
}

impl Shown<'_> {
    /// The text in the terminal's width; whole where there is none.
    pub fn fit(&self, text: &str) -> String {
        match self.width {
            Some(width) => text::fit(text, width, self.charset),
            None => text::clean(text, self.charset).into_owned(),
        }
    }

    /// A sentence over as many lines as it takes, with blanks before each.
    pub fn say(&self, indent: usize, sentence: &str) -> String {
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
        let lines = text::wrap(sentence, room, self.charset);
        lines.into_iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
    }
}

/// One interval, without the empty line after it.
pub fn table(shown: &Shown<'_>) -> String {
    let mut out = head(shown);
    let wanted = Wanted {
        kit: KIT,
        streams: shown.streams,
        order: shown.order,
        width: shown.width,
        beside_title: 0,
        charset: shown.charset,
    };
    let layout = wanted.layout();
    let mut line = text::left("CONTAINER", layout.name, shown.charset);
    for column in &layout.columns {
        line.push(' ');
        line.push_str(&column::aligned(column.title(layout.short), column, shown.charset));
    }
    push(&mut out, &line);
    for stream in shown.streams {
        let mut line = column::name(stream, layout.name, shown.charset);
        for column in &layout.columns {
            let cell = column::cell(stream, column, layout.short, shown.charset);
            line.push(' ');
            line.push_str(&column::aligned(&cell, column, shown.charset));
        }
        push(&mut out, &line);
    }
    out.push_str(&remarks(shown));
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// When, where, how much in all, what was lost.
fn head(shown: &Shown<'_>) -> String {
    let Shown { snapshot, logs, streams, .. } = shown;
    let sum = |of: fn(&Stream) -> Option<f64>| {
        let known: Vec<f64> = logs.streams.iter().filter_map(|stream| of(stream)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    let count = match streams.len() == logs.streams.len() {
        true => plural(streams.len(), "stream"),
        false => format!("{} of {}", streams.len(), plural(logs.streams.len(), "stream")),
    };
    let mut words = format!(
        "{} {}: {count}, in all {} in {} lines/s, lost {}",
        host::timestamp(snapshot.at),
        text::clean(&snapshot.hostname, shown.charset),
        unit::format(Unit::Traffic, sum(|stream| stream.bytes_per_s)),
        unit::format(Unit::PerSecond, sum(|stream| stream.lines_per_s)),
        snapshot.host.lost_events,
    );
    let lost: Vec<String> = snapshot
        .host
        .losses
        .iter()
        .filter(|loss| loss.count > 0)
        .map(|loss| format!("{} {}", loss.count, loss.what))
        .collect();
    if !lost.is_empty() {
        words.push_str(&format!(" ({})", lost.join("; ")));
    }
    shown.say(0, &words)
}

pub fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `production/web-1/app stdout`, not yet cleaned.
pub fn title(stream: &Stream) -> String {
    format!("{} {}", label::label(&stream.container), stream.role.as_str())
}

/// Alarms, then doubts, of the first streams that have any.
fn remarks(shown: &Shown<'_>) -> String {
    let mut remarks = Vec::new();
    for stream in shown.streams {
        let alarm = severity::stream(stream, lines::reader(shown.logs, stream));
        let alarm = alarm.map(|alarm| (alarm.level.mark(), alarm.why));
        let doubts = lines::doubts(stream);
        let words: Vec<String> = alarm.iter().map(|(_, why)| why.clone()).chain(doubts).collect();
        if !words.is_empty() {
            let mark = alarm.map_or("", |(mark, _)| mark);
            remarks.push(format!("{mark:2} {}: {}", title(stream), words.join("; ")));
        }
    }
    let left = remarks.len().saturating_sub(REMARKS);
    let mut out: String = remarks.iter().take(REMARKS).map(|remark| shown.remark(remark)).collect();
    if left > 0 {
        out.push_str(&format!("   and {left} more with remarks: --json has them all\n"));
    }
    out
}

impl Shown<'_> {
    /// A mark of two columns, and a sentence beside it.
    fn remark(&self, remark: &str) -> String {
        let (mark, sentence) = remark.split_at(3);
        let said = self.say(3, sentence);
        format!("{mark}{}", said.get(3..).unwrap_or_default())
    }
}
