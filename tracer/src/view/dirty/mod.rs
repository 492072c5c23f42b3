//! Who makes page cache dirty: which rows are shown and in what order, their table, and the same as JSON.

pub mod json;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    aggregator::dirty::row::{Dirty, DirtyRow},
    metric::{self, Metric, dirty::RATE},
    snapshot::Snapshot,
    view::{
        label,
        select::{Filter, known_first},
        text::{self, Charset},
    },
};

/// What rows are sorted by; greatest first, names least first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    Name,
    Metric(&'static Metric<DirtyRow>),
}

impl Key {
    /// The key of a word of `--sort`.
    pub fn find(word: &str) -> Option<Key> {
        if word == metric::NAME { Some(Key::Name) } else { metric::dirty::find(word).map(Key::Metric) }
    }
}

/// The rows that pass, sorted, at most `limit`; those of which there is nothing to say only if `idle`.
pub fn select<'a>(
    dirty: &'a Dirty,
    filter: &Filter,
    key: Key,
    limit: Option<usize>,
    idle: bool,
) -> Vec<&'a Arc<DirtyRow>> {
    let mut rows: Vec<&Arc<DirtyRow>> =
        dirty.rows.iter().filter(|row| filter.matches(&row.container) && (idle || !row.is_idle())).collect();
    match key {
        Key::Name => rows.sort_by_cached_key(|row| label::label(&row.container)),
        Key::Metric(metric) => rows.sort_by(|a, b| {
            let by = known_first(metric.of(a), metric.of(b), true);
            // Rows that are alike stay in the snapshot's order, which is by path.
            let then = |row: &DirtyRow| {
                let outstanding = row.dirty.unwrap_or(0) + row.writeback.unwrap_or(0);
                (metric.name == RATE).then_some((outstanding, row.dirtied, row.before_attach))
            };
            by.then_with(|| then(b).cmp(&then(a)))
        }),
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows
}

/// Why it is not known who makes pages dirty, in the words of the probes.
pub fn missing(snapshot: &Snapshot) -> Option<String> {
    let known = snapshot.dirty.rows.iter().any(|row| row.dirtied.is_some());
    let why = snapshot.probes.iter().find(|probe| probe.starts_with("dirty: "))?;
    (!known).then(|| text::clean(why, Charset::Unicode).into_owned())
}
