//! Reads streams of log lines once a tick: only those that the kernel told of since the last time.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{self, Array, MapData, MapError},
};
use tracer_ebpf::abi::line::{self, Counts, LengthKey, Medium, Mode, READER_WORDS, Stream};

use super::Event;

/// Marked in the kernel, a reader's reads are looked at.
type ReaderBits = [u64; READER_WORDS];

/// The maps, taken out of the loaded object.
pub struct Streams {
    streams: maps::HashMap<MapData, u64, Stream>,
    modes: maps::HashMap<MapData, u64, u32>,
    /// Only where lengths are wanted.
    lengths: Option<maps::HashMap<MapData, LengthKey, Counts>>,
    epoch: Array<MapData, u32>,
    readers: Array<MapData, ReaderBits>,
    bits: ReaderBits,
    sockets: Array<MapData, u32>,
    socket_count: u32,
    looks: u32,
    /// Told of since the last look.
    told: HashSet<u64>,
    /// Groups of lengths of each stream that were seen.
    groups: HashMap<u64, HashSet<u32>>,
}

impl Streams {
    pub fn take(ebpf: &mut Ebpf, lengths: bool) -> Result<Streams, MapError> {
        let mut map =
            |name: &str| ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() });
        let mut streams = Streams {
            streams: maps::HashMap::try_from(map("STREAMS")?)?,
            modes: maps::HashMap::try_from(map("STREAM_MODES")?)?,
            lengths: lengths.then(|| maps::HashMap::try_from(map("LENGTHS")?)).transpose()?,
            epoch: Array::try_from(map("LOG_EPOCH")?)?,
            readers: Array::try_from(map("LOG_READERS")?)?,
            bits: [0; READER_WORDS],
            sockets: Array::try_from(map("LOG_SOCKETS")?)?,
            socket_count: 0,
            looks: 1,
            told: HashSet::new(),
            groups: HashMap::new(),
        };
        // A new stream has epoch 0: the first look must be another.
        streams.epoch.set(0, streams.looks, 0)?;
        Ok(streams)
    }

    /// A socket is a stream from now on; `true` if it is the first.
    pub fn add_socket(&mut self, dev: u32, ino: u64) -> bool {
        let new = Stream { dev, ino, medium: Medium::Socket as u32, ..Stream::default() };
        // BPF_NOEXIST: what was counted stays.
        if self.streams.insert(line::key(dev, ino, 0), new, 1).is_err() {
            return false;
        }
        self.socket_count += 1;
        let _ = self.sockets.set(0, self.socket_count, 0);
        self.socket_count == 1
    }

    /// The kernel told of a stream.
    pub fn told(&mut self, key: u64) {
        self.told.insert(key);
    }

    /// Events may have been lost: the next look is at all.
    pub fn look_at_all(&mut self) {
        self.told.extend(self.streams.keys().filter_map(Result::ok));
    }

    /// One stream now.
    pub fn stream(&self, key: u64) -> Option<Stream> {
        self.streams.get(&key, 0).ok()
    }

    /// Totals of every stream that was told of.
    pub fn read(&mut self, events: &mut Vec<Event>) {
        // What is written from here on is told of again.
        self.looks = self.looks.wrapping_add(1).max(1);
        let _ = self.epoch.set(0, self.looks, 0);
        let told = std::mem::take(&mut self.told);
        for key in &told {
            if let Some(stream) = self.stream(*key) {
                events.push(Event::Stream { key: *key, stream: Box::new(stream) });
            }
        }
        let Some(lengths) = &self.lengths else { return };
        if told.is_empty() {
            return;
        }
        for key in lengths.keys().filter_map(Result::ok).filter(|key| told.contains(&key.stream)) {
            self.groups.entry(key.stream).or_default().insert(key.group);
            if let Ok(counts) = lengths.get(&key, 0) {
                events.push(Event::Lengths { key: key.stream, group: key.group, counts: Box::new(counts) });
            }
        }
    }

    /// Its bytes are counted from now on, its lines no more.
    pub fn count_only(&mut self, key: u64) {
        let _ = self.modes.insert(key, Mode::Count as u32, 0);
    }

    /// Drops a stream; written to again, it begins anew.
    pub fn forget(&mut self, key: u64) {
        let _ = self.streams.remove(&key);
        let _ = self.modes.remove(&key);
        self.told.remove(&key);
        for group in self.groups.remove(&key).unwrap_or_default() {
            if let Some(lengths) = &mut self.lengths {
                let _ = lengths.remove(&LengthKey { stream: key, group, padding: 0 });
            }
        }
    }

    /// Of these alone: bits of those that are gone are others' soon.
    pub fn watch_only(&mut self, pids: &HashSet<u32>) {
        self.bits = [0; READER_WORDS];
        for pid in pids {
            self.mark(*pid);
        }
        let _ = self.readers.set(0, self.bits, 0);
    }

    /// Reads of this thread group matter, where every read of the host comes by.
    pub fn watch_reader(&mut self, pid: u32) {
        if self.mark(pid) {
            let _ = self.readers.set(0, self.bits, 0);
        }
    }

    /// `true` if its bit is new.
    fn mark(&mut self, pid: u32) -> bool {
        let bit = pid as usize % (READER_WORDS * 64);
        let word = &mut self.bits[bit / 64];
        let marked = *word | 1 << (bit % 64);
        std::mem::replace(word, marked) != marked
    }
}
