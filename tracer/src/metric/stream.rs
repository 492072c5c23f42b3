//! One description per number of a stream of log lines, as `metric` has them of rows.

use super::{Metric, Unit, metric};
use crate::aggregator::{row::How, stream::Stream};

/// The default word of `--sort`: no number, but what to look at first.
pub const URGENT: &str = "urgent";

/// The metric of that name.
pub fn find(name: &str) -> Option<&'static Metric<Stream>> {
    STREAMS.iter().find(|metric| metric.name == name)
}

/// Every word that `--sort` of `lines` takes.
pub fn sort_words() -> impl Iterator<Item = &'static str> {
    [URGENT].into_iter().chain(STREAMS.iter().map(|metric| metric.name)).chain([super::NAME])
}

/// The part of `docs/metrics.md` on streams.
pub fn markdown() -> String {
    let mut page = String::from(
        "\n# The numbers of a stream of log lines\n\n\
         *Name* is the word of `--sort` of `memtrace lines`, *JSON* the place in an entry of `streams` of `memtrace lines \
         --json`. `--sort urgent`, the default, has streams whose line is over 1 MiB and still grows first, then the \
         busiest; `--sort name` goes by container. How to read them, and what JSON has beside: [lines.md](lines.md).\n\n",
    );
    page.push_str(&super::rows(STREAMS));
    page
}

fn percentile(stream: &Stream, q: f64) -> Option<f64> {
    stream.lengths.as_ref()?.percentile(q, stream.max).map(|length| length as f64)
}

/// A line that was under way at attach is at least as long as what was seen of it.
fn open_how(stream: &Stream) -> Option<How> {
    let begun_unseen = stream.first_line_partial && stream.lines == 0 && stream.open_line > 0;
    begun_unseen.then_some(How::AtLeast)
}

/// In the order of the documentation and of `--help`.
#[rustfmt::skip]
pub const STREAMS: &[Metric<Stream>] = &[
    metric("bytes", "BYTES/s", Unit::Traffic, "bytes_per_s",
        |stream: &Stream| stream.bytes_per_s,
        "bytes written to the stream in the last interval, newlines too"),
    metric("lines", "LINES/s", Unit::PerSecond, "lines_per_s",
        |stream: &Stream| stream.lines_per_s,
        "lines finished in the last interval"),
    metric("p50", "P50", Unit::Bytes, "p50",
        |stream: &Stream| percentile(stream, 0.5),
        "half of the finished lines since attach are no longer, without their newline; stated within 1 %"),
    metric("p90", "P90", Unit::Bytes, "p90",
        |stream: &Stream| percentile(stream, 0.9),
        "nine in ten are no longer"),
    metric("p99", "P99", Unit::Bytes, "p99",
        |stream: &Stream| percentile(stream, 0.99),
        "99 in a hundred are no longer"),
    metric("p999", "P99.9", Unit::Bytes, "p999",
        |stream: &Stream| percentile(stream, 0.999),
        "999 in a thousand are no longer"),
    metric("max", "MAX", Unit::Bytes, "max",
        |stream: &Stream| (stream.lines > 0).then_some(stream.max as f64),
        "the longest finished line since attach; unknown while none has ended"),
    metric("open_line", "OPEN LINE", Unit::Bytes, "open_line_bytes",
        |stream: &Stream| Some(stream.open_line as f64),
        "bytes since the last newline; `>=` where the line may have been under way before attach")
        .marked(open_how),
    metric("open_growth", "OPEN/s", Unit::BytesPerSecond, "open_line_per_s",
        |stream: &Stream| stream.open_line_per_s,
        "growth of the open line over the last interval"),
    metric("open_before", "BEFORE", Unit::Bytes, "open_line_before",
        |stream: &Stream| stream.open_line_before.map(|bytes| bytes as f64),
        "what stood in the open line before attach, at most; unknown once that line has ended")
        .marked(|stream: &Stream| stream.open_line_before.map(|_| How::Inferred)),
    metric("max_open_line", "MAX OPEN", Unit::Bytes, "max_open_line_bytes",
        |stream: &Stream| Some(stream.max_open_line as f64),
        "the longest that the open line ever was since attach"),
    metric("held", "HELD", Unit::Bytes, "held_bytes",
        |stream: &Stream| stream.held.map(|bytes| bytes as f64),
        "what the reader has taken from the stream and not written on")
        .marked(|stream: &Stream| stream.held_how),
    metric("total_lines", "LINES", Unit::Count, "lines",
        |stream: &Stream| Some(stream.lines as f64),
        "lines finished since attach"),
    metric("total_bytes", "BYTES", Unit::Bytes, "bytes",
        |stream: &Stream| Some(stream.bytes as f64),
        "bytes written since attach, newlines too"),
    metric("unscanned", "UNSCANNED", Unit::Bytes, "unscanned_bytes",
        |stream: &Stream| Some(stream.unscanned as f64),
        "of `total_bytes`, those that no program could look at: spliced, or beyond what one look takes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_the_page_has_each_once() {
        let page = markdown();
        for (index, metric) in STREAMS.iter().enumerate() {
            assert!(
                metric.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                "{metric:?}"
            );
            assert_eq!(STREAMS.iter().position(|other| other == metric), Some(index), "{metric:?} twice");
            assert!(!metric.help.contains('|'), "{metric:?} breaks the table");
            assert_eq!(page.matches(&format!("\n| `{}` |", metric.name)).count(), 1, "{metric:?}");
        }
    }
}
