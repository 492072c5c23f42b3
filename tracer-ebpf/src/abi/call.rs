//! System calls of memory cgroups, as counted in the kernel.
//!
//! What is counted lies in arrays of which each CPU has a stretch of its own: nothing is shared, so nothing is atomic, and
//! a host of many CPUs does not fight for a line of cache. User space maps the arrays and reads them in place.

/// A call under way, by the lowest bits of the task's id.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// When it began, ns.
    pub at: u64,
    /// kernfs id of the task's memory cgroup.
    pub cgroup: u64,
    /// The task; 0: free.
    pub tid: u32,
    /// As [`code`] makes it.
    pub call: u32,
    /// Two share a line of cache, none lies across two.
    pub padding: u64,
}

/// How many calls can be told apart while they are under way; a power of two.
pub const STARTS: u32 = 1 << 15;

/// By which table a number is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Table {
    Native = 0,
    /// The 32-bit one of a 64-bit kernel.
    Compat = 1,
    /// That of 64-bit processors with 32-bit pointers.
    X32 = 2,
}

/// A call's number with its table.
#[inline(always)]
pub const fn code(table: Table, number: u32) -> u32 {
    let number = if number > 0xffff { 0xffff } else { number };
    (table as u32) << 16 | number
}

/// The table and the number of a [`code`].
pub const fn decode(code: u32) -> (Table, u32) {
    let table = match code >> 16 {
        1 => Table::Compat,
        2 => Table::X32,
        _ => Table::Native,
    };
    (table, code & 0xffff)
}

/// What is counted apart: calls of a cgroup, and of these those that failed for one reason.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Key {
    /// kernfs id; 0: free.
    pub cgroup: u64,
    /// A [`code`], and in the upper half the error.
    pub call: u64,
}

/// Groups of durations: those below 32 ns, then each octave up to five hours.
pub const GROUPS: usize = 40;
/// Durations of a group: none is wider than 1/32 of its lower bound, so its middle is within 1.6 % of all in it.
pub const SLOTS: usize = 32;

/// Calls of one key on one CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub count: u64,
    /// ns
    pub total: u64,
    pub max: u64,
    /// Where the durations of each group are counted, from 1 on; 0: nowhere yet. More than there are groups, so that a
    /// mask of bits bounds it.
    pub blocks: [u16; 64],
}

/// Keys that share a place.
pub const WAYS: usize = 4;

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// One line of cache.
    pub keys: [Key; WAYS],
    pub entries: [Entry; WAYS],
}

/// Calls of one entry and one group of durations.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// 0: free.
    pub taken: u64,
    pub counts: [u64; SLOTS],
}

/// Memory cgroups that are wanted and share a place: one line of cache. 0: free.
pub type Targets = [u64; 8];
/// Places for them; a power of two.
pub const TARGET_PLACES: u32 = 256;

/// Where a memory cgroup stands among those that are wanted.
#[inline(always)]
pub const fn target_place(cgroup: u64) -> u32 {
    (cgroup as u32 ^ (cgroup >> 32) as u32) & (TARGET_PLACES - 1)
}

/// Group and slot of a duration.
#[inline(always)]
pub fn bucket(nanoseconds: u64) -> (u32, u32) {
    const LONGEST: u64 = (1 << 44) - 1;
    let time = if nanoseconds > LONGEST { LONGEST } else { nanoseconds };
    if time < SLOTS as u64 {
        return (0, time as u32);
    }
    let octave = super::line::octave(time);
    (octave - 4, (time >> (octave - 5)) as u32 & (SLOTS as u32 - 1))
}

/// Lower and upper bound of a bucket, both in it.
pub const fn bounds(group: usize, slot: usize) -> (u64, u64) {
    if group == 0 {
        return (slot as u64, slot as u64);
    }
    let width = 1_u64 << (group - 1);
    let lower = (SLOTS as u64 + slot as u64) * width;
    (lower, lower + (width - 1))
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, three `u64` and two `u32`, no padding, valid for any bit pattern.
unsafe impl aya::Pod for Start {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, arrays of `u64` and `u16` that fill whole words, valid for any bit pattern.
unsafe impl aya::Pod for Bucket {}
#[cfg(feature = "user")]
// SAFETY: `repr(C)`, 33 `u64`, valid for any bit pattern.
unsafe impl aya::Pod for Block {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_within_its_bucket_and_buckets_are_narrow() {
        for shift in 0..44 {
            for near in [0, 1, 2, 3, 7, 1000] {
                let time = (1_u64 << shift) + near;
                let (group, slot) = bucket(time);
                let (lower, upper) = bounds(group as usize, slot as usize);
                assert!((group as usize) < GROUPS && lower <= time && time <= upper, "{time}");
                assert!((upper - lower) * 32 <= lower, "{time}: {lower}-{upper}");
            }
        }
        assert_eq!(bucket(u64::MAX), bucket((1 << 44) - 1));
    }

    #[test]
    fn a_code_holds_table_and_number() {
        for (table, number) in [(Table::Native, 0), (Table::Compat, 252), (Table::X32, 512)] {
            assert_eq!(decode(code(table, number)), (table, number));
        }
        assert_eq!(decode(code(Table::Native, u32::MAX)), (Table::Native, 0xffff));
    }
}
