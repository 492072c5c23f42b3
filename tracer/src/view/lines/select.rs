//! Which streams a view shows and in what order: the same for every view.

use std::{cmp::Reverse, sync::Arc};

use crate::{
    aggregator::stream::{Logs, Stream},
    metric::{
        self, First, Metric,
        stream::{URGENT, find},
    },
    view::{
        label, lines,
        select::{Filter, directed, known_first},
        severity::{self, Level},
    },
};

/// What streams are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Key {
    /// What needs a person first, then the busiest.
    #[default]
    Urgent,
    /// By container, its streams together.
    Name,
    Metric(&'static Metric<Stream>),
}

impl Key {
    /// The key of a word of `--sort`.
    pub fn find(word: &str) -> Option<Key> {
        match word {
            URGENT => Some(Key::Urgent),
            metric::NAME => Some(Key::Name),
            word => find(word).map(Key::Metric),
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Key::Urgent => URGENT,
            Key::Name => metric::NAME,
            Key::Metric(metric) => metric.name,
        }
    }
}

/// The order of streams: greatest first, names least first, what is not known last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Order {
    pub key: Key,
    pub reverse: bool,
}

impl Order {
    /// Whether the sorted column's numbers fall from the top.
    pub fn is_falling(self) -> bool {
        match self.key {
            Key::Metric(metric) => (metric.first == First::Greatest) != self.reverse,
            Key::Urgent => !self.reverse,
            Key::Name => self.reverse,
        }
    }
}

/// How urgent: its level, how long a line it has that does not end, how busy it is.
type Urgency = (Option<Level>, u64, Option<f64>);

fn urgency(logs: &Logs, stream: &Stream) -> Urgency {
    let level = severity::stream(stream, lines::reader(logs, stream)).map(|severity| severity.level);
    let endless = if severity::is_endless(stream) { stream.open_line } else { 0 };
    (level, endless, stream.bytes_per_s)
}

/// The streams that pass, sorted, at most `limit`.
pub fn select<'a>(
    logs: &'a Logs,
    filters: &[&Filter],
    order: Order,
    limit: Option<usize>,
) -> Vec<&'a Arc<Stream>> {
    let passes = |stream: &&Arc<Stream>| filters.iter().all(|filter| filter.matches(&stream.container));
    let streams = logs.streams.iter().filter(passes);
    // Streams that are alike stay in the snapshot's order, which is by container and role.
    let mut streams: Vec<&Arc<Stream>> = match order.key {
        Key::Urgent => {
            let mut keyed: Vec<_> = streams.map(|stream| (urgency(logs, stream), stream)).collect();
            keyed.sort_by(|((level_a, endless_a, busy_a), a), ((level_b, endless_b, busy_b), b)| {
                let first =
                    (Reverse(level_a), Reverse(endless_a)).cmp(&(Reverse(level_b), Reverse(endless_b)));
                let then = first.then_with(|| known_first(*busy_a, *busy_b, true));
                directed(then.then_with(|| b.open_line.cmp(&a.open_line)), order.reverse)
            });
            keyed.into_iter().map(|(_, stream)| stream).collect()
        }
        Key::Name => {
            let mut keyed: Vec<_> =
                streams.map(|stream| ((label::label(&stream.container), stream.role), stream)).collect();
            keyed.sort_by(|(a, _), (b, _)| directed(a.cmp(b), order.reverse));
            keyed.into_iter().map(|(_, stream)| stream).collect()
        }
        Key::Metric(metric) => {
            let mut keyed: Vec<_> = streams.map(|stream| (metric.of(stream), stream)).collect();
            keyed.sort_by(|(a, _), (b, _)| known_first(*a, *b, order.is_falling()));
            keyed.into_iter().map(|(_, stream)| stream).collect()
        }
    };
    streams.truncate(limit.unwrap_or(usize::MAX));
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::example;

    #[test]
    fn a_line_without_an_end_comes_first_then_the_busiest() {
        let logs = example::logs();
        let streams = select(&logs, &[], Order::default(), None);
        assert_eq!(streams.len(), logs.streams.len(), "idle ones too");
        assert_eq!(streams[0].open_line, 412 << 20);
        let rates: Vec<f64> = streams[1..].iter().map_while(|stream| stream.bytes_per_s).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b) && rates.len() == streams.len() - 2, "{rates:?}");
        let filter = Filter::new("production/*").unwrap();
        assert_eq!(select(&logs, &[&filter], Order::default(), None).len(), 3);
        assert_eq!(select(&logs, &[], Order::default(), Some(2)).len(), 2);
    }

    #[test]
    fn every_word_sorts_both_ways_with_unknown_last() {
        let logs = example::logs();
        for word in metric::stream::sort_words() {
            let key = Key::find(word).unwrap();
            assert_eq!(key.word(), word);
            for reverse in [false, true] {
                let order = Order { key, reverse };
                let streams = select(&logs, &[], order, None);
                let Key::Metric(metric) = key else { continue };
                let values: Vec<_> = streams.iter().map(|stream| metric.of(stream)).collect();
                let known: Vec<_> = values.iter().copied().take_while(Option::is_some).flatten().collect();
                assert!(values[known.len()..].iter().all(Option::is_none), "{word}: unknown last");
                assert!(
                    known.is_sorted_by(|a, b| if order.is_falling() { a >= b } else { a <= b }),
                    "{word}"
                );
            }
        }
        assert!(Key::find("nonsense").is_none());
    }
}
