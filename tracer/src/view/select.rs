//! Which rows a view shows and in what order: the same for every view. The host's sums are over all rows,
//! whatever is chosen here.

use std::{cmp::Ordering, sync::Arc};

use globset::{GlobBuilder, GlobMatcher};

use crate::{
    aggregator::row::Row,
    metric::{self, First, Metric},
    resolve::Container,
    snapshot::Snapshot,
    view::label,
};

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("pattern `{pattern}`: {reason}; `*`, `?`, `[ab]` and `{{a,b}}` are special")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

/// Rows by `-c PATTERN`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pattern: String,
    glob: Option<GlobMatcher>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.glob.as_ref().map(GlobMatcher::glob) == other.glob.as_ref().map(GlobMatcher::glob)
    }
}

impl Filter {
    /// A glob over container id, name, pod, `namespace/pod`, `namespace/pod/container`, cgroup path and unit.
    /// A pattern of at least four hexadecimal digits also matches ids that begin with it. Nothing matches all.
    pub fn new(pattern: &str) -> Result<Filter, BadPattern> {
        if pattern.is_empty() {
            return Ok(Filter::default());
        }
        // `*` crosses slashes: `prod/*` is every container of the namespace.
        let glob = GlobBuilder::new(pattern)
            .build()
            .map_err(|error| BadPattern { pattern: pattern.to_owned(), reason: error.kind().to_string() })?;
        Ok(Filter { pattern: pattern.to_owned(), glob: Some(glob.compile_matcher()) })
    }

    /// As typed into a prompt, letter by letter: without wildcards a part of a name is enough, letter case does
    /// not matter, and half of a pattern is a plain text.
    pub fn typed(text: &str) -> Filter {
        if text.is_empty() {
            return Filter::default();
        }
        let glob = |pattern: &str| GlobBuilder::new(pattern).case_insensitive(true).build();
        let part = |text: &str| glob(&format!("*{text}*"));
        let compiled = if has_wildcards(text) { glob(text) } else { part(text) }
            .or_else(|_| part(&globset::escape(text)))
            .ok();
        Filter { pattern: text.to_owned(), glob: compiled.map(|glob| glob.compile_matcher()) }
    }

    /// The pattern as given; empty when all rows pass.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// A name that is no container's.
    pub fn fits(&self, name: &str) -> bool {
        self.glob.as_ref().is_none_or(|glob| name == self.pattern || glob.is_match(name))
    }

    pub fn matches(&self, container: &Container) -> bool {
        let Some(glob) = &self.glob else {
            return true;
        };
        let by_id = self.pattern.len() >= 4
            && self.pattern.bytes().all(|byte| byte.is_ascii_hexdigit())
            && container
                .id
                .get(..self.pattern.len())
                .is_some_and(|id| id.eq_ignore_ascii_case(&self.pattern));
        // systemd writes `\x2d` into unit names: a name given exactly is not read as a glob.
        by_id || label::names(container).any(|name| name == self.pattern || glob.is_match(&name))
    }
}

fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    Name,
    Metric(&'static Metric),
}

impl Key {
    /// The key of a word of `--sort`.
    pub fn find(word: &str) -> Option<Key> {
        if word == metric::NAME { Some(Key::Name) } else { metric::find(word).map(Key::Metric) }
    }

    pub fn word(self) -> &'static str {
        match self {
            Key::Name => metric::NAME,
            Key::Metric(metric) => metric.name,
        }
    }
}

/// The order of rows: greatest first (names and times to a limit: least first), what is not known last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order {
    pub key: Key,
    pub reverse: bool,
}

impl Default for Order {
    /// Fastest growing first.
    fn default() -> Self {
        Order { key: Key::Metric(&metric::METRICS[0]), reverse: false }
    }
}

/// The rows that pass, sorted, at most `limit`.
pub fn select<'a>(
    snapshot: &'a Snapshot,
    filters: &[&Filter],
    order: Order,
    limit: Option<usize>,
) -> Vec<&'a Arc<Row>> {
    let rows = snapshot.rows.iter().filter(|row| filters.iter().all(|filter| filter.matches(&row.container)));
    // What is compared lies side by side; rows that are alike stay in the snapshot's order, which is by path.
    let mut rows: Vec<&Arc<Row>> = match order.key {
        Key::Name => {
            let mut keyed: Vec<_> = rows.map(|row| (label::label(&row.container), row)).collect();
            keyed.sort_by(|(a, _), (b, _)| directed(a.cmp(b), order.reverse));
            keyed.into_iter().map(|(_, row)| row).collect()
        }
        Key::Metric(metric) => {
            // Among rows that grow alike (most do not grow at all) the greater one first. No other number gets this:
            // rows with as many tasks would change places with every page.
            let by_size = metric == &metric::METRICS[0];
            let size = |row: &Row| if by_size { row.memory.current } else { None };
            let mut keyed: Vec<_> = rows.map(|row| (metric.of(row), size(row), row)).collect();
            let descending = (metric.first == First::Greatest) != order.reverse;
            keyed.sort_by(|(a, size_a, _), (b, size_b, _)| {
                known_first(*a, *b, descending).then_with(|| size_b.cmp(size_a))
            });
            keyed.into_iter().map(|(.., row)| row).collect()
        }
    };
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows
}

/// Turned round where asked.
pub fn directed(order: Ordering, reverse: bool) -> Ordering {
    if reverse { order.reverse() } else { order }
}

/// What is not known comes last, whichever way it goes.
pub fn known_first(a: Option<f64>, b: Option<f64>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => directed(a.total_cmp(&b), descending),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    fn labels(rows: &[&Arc<Row>]) -> Vec<String> {
        rows.iter().map(|row| label::label(&row.container)).collect()
    }

    #[test]
    fn the_default_is_fastest_growing_first_and_unknown_last() {
        let snapshot = example::snapshot();
        let rows = select(&snapshot, &[], Order::default(), None);
        assert_eq!(rows.len(), snapshot.rows.len());
        let growth: Vec<_> = rows.iter().map(|row| row.growth_ewma_per_s.current).collect();
        let known: Vec<_> = growth.iter().copied().take_while(Option::is_some).flatten().collect();
        assert!(known.is_sorted_by(|a, b| a >= b));
        assert!(growth[known.len()..].iter().all(Option::is_none));
        assert!(known.len() < growth.len(), "the example has unknown growth");
        assert_eq!(select(&snapshot, &[], Order::default(), Some(2)).len(), 2);
    }

    #[test]
    fn every_word_sorts_both_ways_with_unknown_last() {
        let snapshot = example::snapshot();
        for word in metric::sort_words() {
            let key = Key::find(word).unwrap();
            assert_eq!(key.word(), word);
            for reverse in [false, true] {
                let rows = select(&snapshot, &[], Order { key, reverse }, None);
                let Key::Metric(metric) = key else { continue };
                let values: Vec<_> = rows.iter().map(|row| metric.of(row)).collect();
                let known: Vec<_> = values.iter().copied().take_while(Option::is_some).flatten().collect();
                assert!(values[known.len()..].iter().all(Option::is_none), "{word}: unknown last");
                let descending = (metric.first == First::Greatest) != reverse;
                assert!(known.is_sorted_by(|a, b| if descending { a >= b } else { a <= b }), "{word}");
            }
        }
        assert!(Key::find("nonsense").is_none());
    }

    #[test]
    fn patterns_name_a_row_in_many_ways() {
        let snapshot = example::snapshot();
        let found = |pattern: &str| {
            let filter = Filter::new(pattern).unwrap();
            labels(&select(&snapshot, &[&filter], Order::default(), None))
        };
        let importer = "production/importer-7d9f8c6b5-x2x4z/importer";
        for pattern in [
            "importer",
            "importer-7d9*",
            "production/*/importer",
            "production/importer-7d9f8c6b5-x2x4z/importer",
        ] {
            assert!(found(pattern).contains(&importer.to_owned()), "{pattern}");
        }
        assert_eq!(found("/system.slice/containerd.service"), ["/system.slice/containerd.service"]);
        assert_eq!(found("containerd.service"), ["/system.slice/containerd.service"]);
        assert_eq!(
            found(r"/system.slice/system-serial\x2dgetty.slice"),
            [r"/system.slice/system-serial\x2dgetty.slice"]
        );
        assert_eq!(found(""), found("*"));
        assert!(found("port").is_empty(), "a part of a name is not a name");
        let id = &snapshot.rows[0].container.id;
        assert_eq!(found(&id[..4]).len(), 1, "four digits of an id");
        assert!(found(&id[..3]).is_empty(), "three are too few");
        assert!(Filter::new("a[").unwrap_err().to_string().contains("a["));
    }

    #[test]
    fn typed_text_finds_parts_and_survives_half_patterns() {
        let snapshot = example::snapshot();
        let found = |text: &str| select(&snapshot, &[&Filter::typed(text)], Order::default(), None).len();
        assert!(found("PORT") >= 1);
        assert_eq!(found(""), snapshot.rows.len());
        for half in ["[", "{", "a{b", "[z-a]", "**[", "\\"] {
            found(half);
        }
    }
}
