//! What earlier ticks were like, as far as rules need it: growth is over the run, or over the time an unfinished line
//! was watched, never over one tick.

use std::{collections::HashMap, time::Duration};

use crate::aggregator::stream::{Logs, Process, Reader, Stream};

/// All that is kept. What is not in the present `Logs` is forgotten.
#[derive(Default)]
pub(super) struct Past {
    streams: HashMap<u64, StreamPast>,
    readers: HashMap<Process, ReaderPast>,
    last: Option<Duration>,
    ticks: u64,
}

/// A stream's.
pub(super) struct StreamPast {
    /// Since when its bytes count.
    pub since: Duration,
    pub line: LinePast,
    /// When it was last found to be trouble, and how long its line was then.
    pub alarmed: Option<(Duration, u64)>,
    reader: Option<Process>,
    held: Option<u64>,
    seen: u64,
}

/// An unfinished line's, with one reader.
pub(super) struct LinePast {
    /// Lines finished before it.
    number: u64,
    pub intervals: u32,
    /// What it had when it was first watched,
    pub open: u64,
    /// and what the reader held then.
    pub held: Option<u64>,
    pub mark: Option<Mark>,
}

/// The reader when its memory was first known during the line.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub anon: u64,
    /// What it held of this stream, and of all.
    pub held: Option<u64>,
    pub held_of_all: i64,
}

/// A reader's.
#[derive(Default)]
pub(super) struct ReaderPast {
    anon: Option<u64>,
    /// Of all its streams, also of those that are gone.
    pub held_of_all: i64,
    /// When the free space of its disk was first known, and what it was.
    pub disk: Option<(Duration, u64)>,
    seen: u64,
}

impl Past {
    /// Takes a tick in.
    pub fn note(&mut self, at: Duration, logs: &Logs) {
        self.ticks += 1;
        // What is new has counted since it began, which was after the last tick.
        let before = self.last.replace(at).unwrap_or(at);
        let mut held: Vec<(&Process, i64)> = Vec::new();
        for stream in &logs.streams {
            let readers = &self.readers;
            let past = self.streams.entry(stream.id).or_insert_with(|| {
                let reader = stream.reader().and_then(|process| readers.get(process));
                StreamPast::new(stream, before, reader)
            });
            past.seen = self.ticks;
            let more = past.follow(stream, at > before);
            held.extend(stream.reader().zip(more).filter(|(_, more)| *more != 0));
        }
        for reader in &logs.readers {
            if !self.readers.contains_key(&reader.process) {
                self.readers.insert(reader.process.clone(), ReaderPast::default());
            }
            let Some(past) = self.readers.get_mut(&reader.process) else { continue };
            past.seen = self.ticks;
            past.anon = reader.anon;
            past.disk = past.disk.or(reader.disk_free.map(|free| (at, free)));
        }
        for (reader, more) in held {
            if let Some(past) = self.readers.get_mut(reader) {
                past.held_of_all += more;
            }
        }
        for stream in &logs.streams {
            if let Some(past) = self.streams.get_mut(&stream.id)
                && past.line.mark.is_none_or(|mark| mark.held.is_none() && stream.held.is_some())
                && let Some(reader) = stream.reader().and_then(|process| self.readers.get(process))
            {
                past.line.mark = reader.mark(stream.held);
            }
        }
        self.streams.retain(|_, past| past.seen == self.ticks);
        self.readers.retain(|_, past| past.seen == self.ticks);
    }

    pub fn stream(&mut self, id: u64) -> Option<(&mut StreamPast, &HashMap<Process, ReaderPast>)> {
        Some((self.streams.get_mut(&id)?, &self.readers))
    }

    /// Since when the stream's bytes count.
    pub fn since(&self, stream: &Stream) -> Option<Duration> {
        self.streams.get(&stream.id).map(|past| past.since)
    }

    pub fn reader(&self, reader: &Reader) -> Option<&ReaderPast> {
        self.readers.get(&reader.process)
    }
}

impl StreamPast {
    /// Counts of a stream are since attach: one that is new had nothing at the tick before.
    fn new(stream: &Stream, before: Duration, reader: Option<&ReaderPast>) -> StreamPast {
        let mark = reader.and_then(|reader| reader.mark(Some(0)));
        StreamPast {
            since: before,
            line: LinePast { number: stream.lines, intervals: 0, open: 0, held: Some(0), mark },
            alarmed: None,
            reader: stream.reader().cloned(),
            held: Some(0),
            seen: 0,
        }
    }

    /// What the reader holds more of it than a tick ago.
    fn follow(&mut self, stream: &Stream, elapsed: bool) -> Option<i64> {
        let other_reader = stream.reader().is_some() && self.reader.as_ref() != stream.reader();
        let changed = other_reader && self.reader.is_some();
        if other_reader {
            self.reader = stream.reader().cloned();
        }
        let held = self.held.filter(|_| !changed);
        self.held = stream.held.or(held);
        if changed || stream.lines != self.line.number || stream.open_line < self.line.open {
            let (number, open, held) = (stream.lines, stream.open_line, stream.held);
            self.line = LinePast { number, intervals: 0, open, held, mark: None };
        } else {
            self.line.intervals += u32::from(elapsed);
            self.line.held = self.line.held.or(stream.held);
        }
        Some(stream.held? as i64 - held? as i64)
    }
}

impl ReaderPast {
    fn mark(&self, held: Option<u64>) -> Option<Mark> {
        self.anon.map(|anon| Mark { anon, held, held_of_all: self.held_of_all })
    }
}
