//! One description per number of a row's dirty pages, as `metric` has them of rows.

use super::{Metric, Unit, metric};
use crate::aggregator::{dirty::row::DirtyRow, row::How};

/// The default word of `--sort`.
pub const RATE: &str = "dirtied_rate";

/// The metric of that name.
pub fn find(name: &str) -> Option<&'static Metric<DirtyRow>> {
    DIRTY.iter().find(|metric| metric.name == name)
}

/// Every word that `--sort` of `dirty` takes.
pub fn sort_words() -> impl Iterator<Item = &'static str> {
    DIRTY.iter().map(|metric| metric.name).chain([super::NAME])
}

/// The part of `docs/metrics.md` on dirty pages.
pub fn markdown() -> String {
    let mut page = String::from(
        "\n# The numbers of dirty pages\n\n\
         *Name* is the word of `--sort` of `memtrace dirty`, *JSON* the place in an entry of `containers` of `memtrace dirty \
         --json`. Rows of which as much becomes dirty are sorted by what is dirty now; `--sort name` goes by container. How \
         to read them, and what JSON has beside: [dirty.md](dirty.md).\n\n",
    );
    page.push_str(&super::rows(DIRTY));
    page
}

fn bytes(value: Option<u64>) -> Option<f64> {
    value.map(|bytes| bytes as f64)
}

/// In the order of the documentation and of `--help`.
#[rustfmt::skip]
pub const DIRTY: &[Metric<DirtyRow>] = &[
    metric(RATE, "DIRTIED/s", Unit::Traffic, "dirtied_per_s",
        |row: &DirtyRow| row.dirtied_per_s,
        "page cache of files that became dirty in the last interval; the default order")
        .marked(|row| row.dirtied_how),
    metric("written_rate", "WRITTEN/s", Unit::Traffic, "written_per_s",
        |row: &DirtyRow| row.written_per_s,
        "page cache whose write-back ended in the last interval")
        .marked(|row| row.written_how),
    metric("dirty", "DIRTY", Unit::Bytes, "dirty",
        |row: &DirtyRow| bytes(row.dirty),
        "cache not yet written to its file, now; cannot be dropped"),
    metric("writeback", "WRITEBACK", Unit::Bytes, "writeback",
        |row: &DirtyRow| bytes(row.writeback),
        "cache being written now; cannot be dropped"),
    metric("dirtied", "DIRTIED", Unit::Bytes, "dirtied",
        |row: &DirtyRow| bytes(row.dirtied),
        "what became dirty since attach: a page counts when it was clean before")
        .marked(|row| row.dirtied_how),
    metric("written", "WRITTEN", Unit::Bytes, "written",
        |row: &DirtyRow| bytes(row.written),
        "what was written back since attach")
        .marked(|row| row.written_how),
    metric("cleaned", "CLEANED", Unit::Bytes, "cleaned",
        |row: &DirtyRow| bytes(row.cleaned),
        "what was dirty and is not any more without having been written: truncated files"),
    metric("throttled", "THROTTLED", Unit::Seconds, "throttled_s",
        |row: &DirtyRow| row.throttled_s,
        "time that tasks were made to sleep since attach because too much is dirty, summed over tasks"),
    metric("throttled_rate", "SLEEP/s", Unit::Seconds, "throttled_per_s",
        |row: &DirtyRow| row.throttled_per_s,
        "the same per second of the last interval"),
    metric("before", "BEFORE", Unit::Bytes, "before_attach",
        |row: &DirtyRow| bytes(row.before_attach),
        "what the row's processes had written to files before attach, by their own counters; direct writes count, too")
        .marked(|row| row.before_attach.map(|_| How::Inferred)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_the_page_has_each_once() {
        let page = markdown();
        for (index, metric) in DIRTY.iter().enumerate() {
            assert!(metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{metric:?}");
            assert_eq!(DIRTY.iter().position(|other| other == metric), Some(index), "{metric:?} twice");
            assert!(!metric.help.contains('|'), "{metric:?} breaks the table");
            assert_eq!(page.matches(&format!("\n| `{}` |", metric.name)).count(), 1, "{metric:?}");
        }
        assert!(find(RATE).is_some());
    }
}
