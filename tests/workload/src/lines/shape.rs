//! What log lines look like: the bytes of one write after the other, the same for the same seed.

use clap::ValueEnum;

/// What the writes hold
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Lines of `--length`, newline included, one a write
    Fixed,
    /// Lines of half around a hundred bytes and a long tail, one a write
    LogNormal,
    /// Short lines, and one in ten of 20 KB, one a write
    Bimodal,
    /// Writes of `--length` with lines of many lengths, which begin and end where they will
    Blocks,
    /// Writes of `--length` that are nothing but newlines
    Newlines,
    /// Empty lines, lines that end in CR LF, and lines of all other bytes there are
    Bytes,
    /// One line in writes of `--length`; the last of `--writes` ends it
    Pieces,
    /// The same without an end
    Endless,
}

/// The bytes of writes.
pub(crate) struct Writer {
    shape: Shape,
    length: usize,
    text: Vec<u8>,
    random: Random,
    /// Of the current line of `Blocks`.
    left: usize,
}

/// Longer lines of `LogNormal` are cut: a write of so many is taken whole, also beside another process's.
const PIPE_BUF: usize = 4096;

impl Writer {
    pub(crate) fn new(shape: Shape, length: usize, text: &str, seed: u64) -> Self {
        let mut random = Random(seed);
        let left = random.log_normal();
        Self { shape, length, text: text.as_bytes().to_vec(), random, left }
    }

    /// The bytes of the next write, in the place of those of the one before.
    pub(crate) fn next(&mut self, is_last: bool, write: &mut Vec<u8>) {
        write.clear();
        match self.shape {
            Shape::Fixed => self.line(self.length - 1, write),
            Shape::LogNormal => {
                let length = self.random.log_normal().min(PIPE_BUF - 1);
                self.line(length, write);
            }
            Shape::Bimodal => {
                let length = if self.random.below(10) == 0 { 20_000 } else { 60 + self.random.below(60) };
                self.line(length, write);
            }
            Shape::Blocks => self.block(write),
            Shape::Newlines => write.resize(self.length, b'\n'),
            Shape::Bytes => self.bytes(write),
            Shape::Pieces if is_last => self.line(self.length - 1, write),
            Shape::Pieces | Shape::Endless => self.fill(self.length, write),
        }
    }

    fn fill(&self, count: usize, write: &mut Vec<u8>) {
        write.extend(self.text.iter().copied().cycle().take(count));
    }

    fn line(&self, length: usize, write: &mut Vec<u8>) {
        self.fill(length, write);
        write.push(b'\n');
    }

    fn block(&mut self, write: &mut Vec<u8>) {
        while write.len() < self.length {
            let room = self.length - write.len();
            if self.left >= room {
                self.left -= room;
                self.fill(room, write);
            } else {
                self.line(self.left, write);
                self.left = self.random.log_normal();
            }
        }
    }

    /// What a search for newlines eight bytes at a time could take for one, too: neighbours of its code, the same with
    /// the highest bit, NUL.
    fn bytes(&mut self, write: &mut Vec<u8>) {
        match self.random.below(4) {
            0 => {}
            1 => {
                self.fill(self.length, write);
                write.push(b'\r');
            }
            kind => {
                for _ in 0..self.random.below(200) {
                    let byte = if kind == 2 {
                        self.random.below(256) as u8
                    } else {
                        [0, 0x09, 0x0b, 0x8a, 0x0d, 0xff][self.random.below(6)]
                    };
                    write.push(if byte == b'\n' { 0x0b } else { byte });
                }
            }
        }
        write.push(b'\n');
    }
}

/// SplitMix64: <https://doi.org/10.1145/2660193.2660195>
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In 0..1, neither of them.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// The median is 100, one in a hundred is over 1000, one in a thousand over 2000.
    fn log_normal(&mut self) -> usize {
        let normal = (-2.0 * self.fraction().ln()).sqrt() * (std::f64::consts::TAU * self.fraction()).cos();
        (100.0 * normal.exp()) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(shape: Shape, length: usize, count: usize) -> Vec<Vec<u8>> {
        let mut writer = Writer::new(shape, length, "text ", 7);
        let write = |at| {
            let mut write = Vec::new();
            writer.next(at + 1 == count, &mut write);
            write
        };
        (0..count).map(write).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        for shape in Shape::value_variants() {
            assert_eq!(writes(*shape, 80, 50), writes(*shape, 80, 50), "{shape:?}");
        }
    }

    #[test]
    fn shapes_are_what_they_say() {
        let newlines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        for shape in [Shape::Fixed, Shape::LogNormal, Shape::Bimodal, Shape::Bytes] {
            for write in writes(shape, 80, 500) {
                assert_eq!((newlines(&write), write.last()), (1, Some(&b'\n')), "{shape:?}");
            }
        }
        assert!(writes(Shape::Fixed, 80, 3).iter().all(|write| write.len() == 80));
        assert!(writes(Shape::LogNormal, 80, 5000).iter().all(|write| write.len() <= PIPE_BUF));
        let blocks = writes(Shape::Blocks, 65536, 3);
        assert!(blocks.iter().all(|write| write.len() == 65536 && newlines(write) > 100));
        let pieces = writes(Shape::Pieces, 10, 4).concat();
        assert_eq!((pieces.len(), newlines(&pieces), pieces.last()), (40, 1, Some(&b'\n')));
        assert_eq!(newlines(&writes(Shape::Endless, 10, 4).concat()), 0);
        assert_eq!(newlines(&writes(Shape::Newlines, 10, 4).concat()), 40);
        let bytes = writes(Shape::Bytes, 8, 500);
        assert!(
            bytes.iter().any(|write| write == b"\n") && bytes.iter().any(|write| write.ends_with(b"\r\n"))
        );
    }
}
