//! Where the lines go: from the container through its relays to the last reader, who is shown with all streams it takes,
//! what it holds of them and how its own memory grows.

use std::sync::Arc;

use crate::{
    aggregator::stream::{Hop, Reader, Stream},
    metric::Unit,
    view::{
        host, label, lines,
        lines::table::{Shown, title},
        text::{self, Charset},
        unit,
    },
};

/// Streams shown below one reader.
const STREAMS: usize = 20;
/// Columns where no terminal sets them: a chain is one line.
const WIDE: usize = 200;

/// Readers, the one that takes most first, each with its streams; at last those that nobody reads.
pub fn flow(shown: &Shown<'_>) -> String {
    let mut out = shown.say(0, "flow: container -> relays -> reader, with bytes a second into each");
    let mut left: Vec<&Arc<Stream>> = shown.streams.to_vec();
    for reader in &shown.logs.readers {
        let pid = reader.process.pid;
        let (its, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|stream| stream.reader().is_some_and(|process| process.pid == pid));
        left = others;
        if !its.is_empty() {
            out.push_str(&about(shown, reader));
            out.push_str(&chains(shown, &its));
        }
    }
    let (unread, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|stream| stream.hops.is_empty());
    for (streams, words) in [(rest, "reader of which no more is known"), (unread, "no reader seen yet")] {
        if !streams.is_empty() {
            out.push_str(&shown.say(0, words));
            out.push_str(&chains(shown, &streams));
        }
    }
    out
}

/// The reader's own numbers.
fn about(shown: &Shown<'_>, reader: &Reader) -> String {
    let mut out = shown.say(
        0,
        &format!(
            "{}: anonymous memory {}, {} since attach, {} now; took {}, wrote {}",
            lines::process(&reader.process, Charset::Unicode),
            host::size(reader.anon),
            grown(reader.anon_growth),
            unit::format(Unit::BytesPerSecond, reader.anon_per_s),
            host::size(Some(reader.taken)),
            host::size(reader.written),
        ),
    );
    if let Some(words) = explained(reader) {
        out.push_str(&shown.say(2, &words));
    }
    out
}

/// `+416 MiB`.
pub fn grown(bytes: Option<i64>) -> String {
    let sign = if bytes.is_some_and(|bytes| bytes > 0) { "+" } else { "" };
    format!("{sign}{}", unit::format(Unit::Bytes, bytes.map(|bytes| bytes as f64)))
}

/// How much of its growth unfinished lines explain, and whose they are.
pub fn explained(reader: &Reader) -> Option<String> {
    let all: u64 = reader.explained.iter().map(|(bytes, _)| bytes).sum();
    let grown = reader.anon_growth.filter(|grown| *grown > 0 && all > 0)?;
    let whose: Vec<String> = reader
        .explained
        .iter()
        .take(3)
        .map(|(bytes, container)| format!("{} {}", label::label(container), host::size(Some(*bytes))))
        .collect();
    let more = reader.explained.len().saturating_sub(whose.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "unfinished lines explain {} of its growth: {}{more}",
        unit::share(all as f64 / grown as f64),
        whose.join(", ")
    ))
}

fn chains(shown: &Shown<'_>, streams: &[&Arc<Stream>]) -> String {
    let mut out = String::new();
    for stream in streams.iter().take(STREAMS) {
        let room = shown.width.unwrap_or(WIDE);
        out.push_str(&format!("  {}\n", text::fit(&title(stream), room.saturating_sub(2), shown.charset)));
        for line in text::flow(pieces(stream, shown.charset), " ", room.saturating_sub(4), shown.charset) {
            out.push_str(&format!("    {line}\n"));
        }
    }
    if streams.len() > STREAMS {
        out.push_str(&format!("  and {} more\n", streams.len() - STREAMS));
    }
    out
}

/// The way of a stream, in pieces that are not to be broken.
pub fn pieces(stream: &Stream, charset: Charset) -> Vec<String> {
    let traffic = |rate: Option<f64>| unit::format(Unit::Traffic, rate);
    let arrow = |hop: &Hop| {
        let process = lines::process(&hop.process, charset);
        match charset {
            Charset::Unicode => format!("─ {} → {process}", traffic(hop.taken_per_s)),
            Charset::Ascii => format!("-- {} --> {process}", traffic(hop.taken_per_s)),
        }
    };
    let mut pieces = vec![format!("writes {}", traffic(stream.bytes_per_s))];
    pieces.extend(stream.hops.iter().map(arrow));
    let held = stream.held.map(|held| held as f64);
    if !stream.hops.is_empty() {
        let held = unit::format_marked(Unit::Bytes, held, stream.held_how);
        pieces.push(if held == "-" { String::from("(held: not known)") } else { format!("(holds {held})") });
    }
    pieces
}
