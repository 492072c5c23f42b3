//! What was really written to a stream, counted from what each system call took: memtrace must tell the same.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    bytes: u64,
    /// Since the last newline.
    open: u64,
    /// The most that was open after any system call.
    max_open: u64,
    /// Moved, not written: nobody could look at it.
    unscanned: u64,
    /// Finished lines by their length without the newline.
    lengths: BTreeMap<u64, u64>,
}

impl Truth {
    /// One system call took these.
    pub(super) fn wrote(&mut self, taken: &[u8]) {
        self.bytes += taken.len() as u64;
        let mut lines = taken.split(|byte| *byte == b'\n');
        // The rest after the last newline; before it stand finished lines.
        let rest = lines.next_back().map_or(0, |rest| rest.len() as u64);
        for line in lines {
            *self.lengths.entry(self.open + line.len() as u64).or_default() += 1;
            self.open = 0;
        }
        self.open += rest;
        self.max_open = self.max_open.max(self.open);
    }

    /// One system call moved so many, whatever they were.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.unscanned += bytes;
    }

    /// What another process wrote to the same stream, whole lines at a time.
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.unscanned += other.unscanned;
        for (length, count) in &other.lengths {
            *self.lengths.entry(*length).or_default() += count;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn lines(&self) -> u64 {
        self.lengths.values().sum()
    }

    /// The least length such that at least so many of a thousand lines are no longer.
    fn permille(&self, q: u64) -> Option<u64> {
        let wanted = (self.lines() * q).div_ceil(1000);
        let mut seen = 0;
        let reached = self.lengths.iter().find(|(_, count)| {
            seen += *count;
            seen >= wanted
        });
        reached.map(|(length, _)| *length)
    }

    pub(super) fn json(&self) -> String {
        let percentile = |q| self.permille(q).map_or("null".to_owned(), |length| length.to_string());
        let (p50, p90, p99, p999) = (percentile(500), percentile(900), percentile(990), percentile(999));
        let max = self.lengths.keys().next_back().copied().unwrap_or(0);
        let Self { bytes, open, max_open, unscanned, .. } = self;
        format!(
            r#"{{"done_bytes":{bytes},"pid":{},"lines":{},"bytes":{bytes},"max":{max},"open":{open},"max_open":{max_open},"unscanned":{unscanned},"p50":{p50},"p90":{p90},"p99":{p99},"p999":{p999}}}"#,
            std::process::id(),
            self.lines(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_newlines_whatever_the_writes() {
        let text = b"one\n\ntwo three\nopen";
        let mut at_once = Truth::default();
        at_once.wrote(text);
        let mut in_pieces = Truth::default();
        text.chunks(2).for_each(|piece| in_pieces.wrote(piece));
        assert_eq!(at_once.lengths, BTreeMap::from([(0, 1), (3, 1), (9, 1)]));
        assert_eq!(in_pieces.lengths, at_once.lengths);
        assert_eq!((at_once.open, in_pieces.open), (4, 4));
        assert_eq!((at_once.max_open, in_pieces.max_open), (4, 9));
    }

    #[test]
    fn percentiles_are_lengths_that_occur() {
        let mut truth = Truth::default();
        assert_eq!(truth.permille(500), None);
        truth.lengths = BTreeMap::from([(10, 1), (20, 1), (30, 8)]);
        assert_eq!(
            [0, 100, 101, 200, 201, 1000].map(|q| truth.permille(q)),
            [10, 10, 20, 20, 30, 30].map(Some)
        );
    }
}
