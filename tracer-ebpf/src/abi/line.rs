//! Streams of log lines and the lengths of their lines, as counted in the kernel.

/// What a stream is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Medium {
    /// A pipe or FIFO.
    Pipe = 1,
    /// A pseudo-terminal; `ino` is its number on its devpts, plus 3.
    Pty = 2,
    /// A stream socket that user space named.
    Socket = 3,
}

/// What is done with a stream's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Lines are counted.
    Scan = 0,
    /// Only bytes are: what a relay passes on, what processes of one container pass to each other.
    Count = 1,
}

/// One stream since it was first written to. Shared between CPUs, so changed by atomic additions and exchanges only.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    pub bytes: u64,
    pub lines: u64,
    /// Longest finished line, without its newline.
    pub max: u64,
    /// Bytes since the last newline.
    pub open: u64,
    pub max_open: u64,
    pub unscanned: u64,
    /// What its reader took.
    pub read: u64,
    /// kernfs id of the last writer's memory cgroup.
    pub writer_cgroup: u64,
    pub reader_cgroup: u64,
    pub ino: u64,
    /// Thread group of the last writer.
    pub writer: u32,
    /// Thread group of the last reader; 0 if none was seen.
    pub reader: u32,
    /// As the kernel writes it: `major << 20 | minor`.
    pub dev: u32,
    /// A [`Medium`].
    pub medium: u32,
    /// Writes, for looking up the mode now and then only.
    pub writes: u64,
    /// The tick in which user space was last told of it.
    pub epoch: u32,
    /// A [`Mode`].
    pub mode: u32,
}

/// Words of the bit map of readers.
pub const READER_WORDS: usize = 512;

/// A group of buckets of one stream.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LengthKey {
    pub stream: u64,
    pub group: u32,
    /// Always 0: the kernel compares keys byte by byte.
    pub padding: u32,
}

/// Buckets in a group: none is wider than 1/128 of its lower bound.
pub const SLOTS: usize = 128;
/// Lengths below 128 are group 0, each further one is an octave.
pub const GROUPS: usize = 58;

/// Lines of each bucket of a group.
pub type Counts = [u64; SLOTS];

/// Group and slot of a length.
#[inline(always)]
pub fn bucket(length: u64) -> (u32, u32) {
    if length < SLOTS as u64 {
        return (0, length as u32);
    }
    let octave = octave(length);
    (octave - 6, (length >> (octave - 7)) as u32 & (SLOTS as u32 - 1))
}

/// The greatest length that a bucket takes.
pub const fn upper(group: u32, slot: u32) -> u64 {
    if group == 0 {
        return slot as u64;
    }
    let width = 1_u64 << (group - 1);
    (SLOTS as u64 + slot as u64) * width + (width - 1)
}

/// Place of the highest bit. By hand, without a branch: the verifier would follow each of 64 ways through the rest.
#[inline(always)]
pub(super) fn octave(length: u64) -> u32 {
    let mut ones = length;
    ones |= ones >> 1;
    ones |= ones >> 2;
    ones |= ones >> 4;
    ones |= ones >> 8;
    ones |= ones >> 16;
    ones |= ones >> 32;
    // All bits below the highest are set: a de Bruijn sequence tells such numbers apart by six of its bits.
    u32::from(OCTAVES[(ones.wrapping_mul(0x03f6_eaf2_cd27_1461) >> 58) as usize & 63])
}

/// Place of the only bit.
#[inline(always)]
pub fn octave_of_power(power: u64) -> u32 {
    u32::from(POWERS[(power.wrapping_mul(0x03f7_9d71_b4cb_0a89) >> 58) as usize & 63])
}

static POWERS: [u8; 64] = powers();

const fn powers() -> [u8; 64] {
    let mut table = [0; 64];
    let mut place = 0;
    while place < 64 {
        table[((1_u64 << place).wrapping_mul(0x03f7_9d71_b4cb_0a89) >> 58) as usize] = place;
        place += 1;
    }
    table
}

static OCTAVES: [u8; 64] = octaves();

const fn octaves() -> [u8; 64] {
    let mut table = [0; 64];
    let mut place = 0;
    while place < 64 {
        let ones = if place == 63 { u64::MAX } else { (2 << place) - 1 };
        table[(ones.wrapping_mul(0x03f6_eaf2_cd27_1461) >> 58) as usize] = place;
        place += 1;
    }
    table
}

/// Key of a stream. A pty's number is soon another container's, in a devpts whose device number is soon another's:
/// there the writer's memory cgroup belongs to the key; of a pipe it is 0.
#[inline(always)]
pub fn key(dev: u32, ino: u64, cgroup: u64) -> u64 {
    // The finalizer of MurmurHash3, a word at a time.
    let mut key = 0_u64;
    let words = [ino, (dev as u64) << 32 | 0x6c6f_6773, cgroup];
    let mut at = 0;
    while at < words.len() {
        key ^= words[at];
        key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        key ^= key >> 33;
        at += 1;
    }
    key
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, eleven `u64` and six `u32` without padding, valid for any bit pattern.
unsafe impl aya::Pod for Stream {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, one `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for LengthKey {}
