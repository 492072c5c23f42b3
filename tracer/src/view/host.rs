//! The host's sums in words, for the views that people read.

pub use crate::quantity::timestamp;
use crate::{
    aggregator::row::How,
    metric::Unit,
    snapshot::{Host, Unattributed},
    view::unit,
};

/// Less than this until memory is used up is told.
const SOON: f64 = 600.0;

/// The greatest known part of the memory outside every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub bytes: i64,
    pub how: Option<How>,
}

impl Part {
    /// `slab 4.1 GiB`, with a mark where it is not simply measured.
    pub fn text(&self) -> String {
        let mark = self.how.map_or("", unit::mark);
        format!("{} {mark}{}", self.name, unit::bytes(self.bytes as f64))
    }
}

/// Every part with its name.
pub fn parts(unattributed: &Unattributed) -> [(&'static str, Option<i64>, Option<How>); 9] {
    let of = unattributed;
    [
        ("root anon", of.root_anon, None),
        ("root file", of.root_file, None),
        ("slab", of.slab, of.slab_how),
        ("percpu", of.percpu, of.percpu_how),
        ("vmalloc", of.vmalloc, of.vmalloc_how),
        ("page tables", of.page_tables, of.page_tables_how),
        ("kernel stacks", of.kernel_stack, of.kernel_stack_how),
        ("huge pages", of.hugetlb, None),
        ("other", of.other, of.other_how),
    ]
}

pub fn largest_part(unattributed: &Unattributed) -> Option<Part> {
    parts(unattributed)
        .into_iter()
        .filter_map(|(name, bytes, how)| Some(Part { name, bytes: bytes?, how }))
        .max_by_key(|part| part.bytes)
        .filter(|part| part.bytes > 0)
}

/// `unattributed 8.9 GiB (most: slab 4.1 GiB)`.
pub fn unattributed(unattributed: &Unattributed) -> String {
    let total = size_signed(unattributed.total);
    match largest_part(unattributed) {
        Some(part) => format!("unattributed {total} (most: {})", part.text()),
        None => format!("unattributed {total}"),
    }
}

pub fn dead_cgroups(host: &Host) -> String {
    match host.dead_cgroups {
        Some(count) => format!("{}{count}", host.dead_cgroups_how.map_or("", unit::mark)),
        None => String::from("-"),
    }
}

/// `, none left in ~4 min (3 min to 7 min)`, where that is soon.
pub fn exhaustion(host: &Host) -> Option<String> {
    let seconds = host.seconds_to_exhaustion.filter(|seconds| *seconds < SOON)?;
    let from = unit::format(Unit::Seconds, host.seconds_to_exhaustion_low);
    let to = host.seconds_to_exhaustion_high.map_or_else(|| String::from("never"), unit::seconds);
    let seconds = unit::format_marked(Unit::Seconds, Some(seconds), host.seconds_to_exhaustion_how);
    Some(format!("none left in {seconds} ({from} to {to})"))
}

/// Used memory as a share of the host's.
pub fn used_share(host: &Host) -> Option<f64> {
    Some(host.used? as f64 / host.mem_total.filter(|total| *total > 0)? as f64)
}

pub fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| String::from("-"), |bytes| unit::bytes(bytes as f64))
}

fn size_signed(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| String::from("-"), |bytes| unit::bytes(bytes as f64))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_largest_part_is_named_with_its_mark() {
        let mut memory = Unattributed { total: Some(9 << 30), ..Unattributed::default() };
        assert_eq!(unattributed(&memory), "unattributed 9.0 GiB");
        memory.percpu = Some(1 << 30);
        memory.slab = Some(4 << 30);
        memory.slab_how = Some(How::Inferred);
        assert_eq!(unattributed(&memory), "unattributed 9.0 GiB (most: slab ~4.0 GiB)");
        assert_eq!(unattributed(&Unattributed::default()), "unattributed -");
    }

    #[test]
    fn time_stamps_are_utc_with_milliseconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_236_765_007);
        assert_eq!(timestamp(at), "2026-01-01T03:06:05.007Z");
    }
}
