//! Dirty pages of the example: the writer of incident 4, what was before attach, a loop device, a file without a name.

use std::sync::Arc;

use super::{MIB, process, snapshot};
use crate::{
    aggregator::{
        dirty::row::{Dirty, DirtyRow, File, Recent, Writer},
        row::How,
    },
    resolve::stream::Node,
};

fn file(path: Option<&str>, ino: u64, dirtied: u64) -> File {
    File {
        path: path.map(Arc::from),
        node: Node { dev: 259 << 20 | 1, ino },
        dirtied,
        backing: false,
        before_attach: None,
        open_before: false,
    }
}

/// For rows of the example's interval.
pub fn dirty() -> Dirty {
    let snapshot = snapshot();
    let row = |at: usize| DirtyRow {
        row: snapshot.rows[at].container.cgroup.id,
        container: Arc::clone(&snapshot.rows[at].container),
        removed: false,
        dirtied: Some(0),
        dirtied_how: None,
        written: Some(0),
        written_how: None,
        cleaned: Some(0),
        dirtied_per_s: Some(0.0),
        written_per_s: Some(0.0),
        dirty: Some(0),
        writeback: Some(0),
        throttled_s: Some(0.0),
        throttled_per_s: Some(0.0),
        processes: Vec::new(),
        files: Vec::new(),
        recent: Vec::new(),
        before_attach: None,
    };
    let importer = DirtyRow {
        dirtied: Some(812 * MIB),
        written: Some(271 * MIB),
        dirtied_per_s: Some(96.5 * MIB as f64),
        written_per_s: Some(38.0 * MIB as f64),
        dirty: Some(493 * MIB),
        writeback: Some(48 * MIB),
        throttled_s: Some(4.25),
        throttled_per_s: Some(0.71),
        processes: vec![
            Writer { process: process(4711, "qemu-img"), dirtied: 811 * MIB, before_attach: Some(120 * MIB) },
            Writer { process: process(4712, "sh\u{1b}[2J"), dirtied: MIB, before_attach: None },
        ],
        files: vec![
            File {
                before_attach: Some(120 * MIB),
                open_before: true,
                ..file(Some("/data/disk.img"), 131, 811 * MIB)
            },
            file(Some("/data/\u{202e}gpj.exe"), 132, MIB),
        ],
        recent: vec![Recent {
            process: process(4711, "qemu-img"),
            path: Some(Arc::from("/data/disk.img")),
            node: Node { dev: 259 << 20 | 1, ino: 131 },
            backing: false,
            dirtied: 811 * MIB,
        }],
        before_attach: Some(120 * MIB),
        ..row(0)
    };
    let inferred = DirtyRow {
        written: Some(64 * MIB),
        written_how: Some(How::Inferred),
        cleaned: None,
        dirtied: Some(66 * MIB),
        dirtied_how: Some(How::AtLeast),
        dirty: None,
        writeback: None,
        throttled_s: None,
        throttled_per_s: None,
        removed: true,
        files: vec![
            File { backing: true, ..file(Some("/var/lib/images/loop.img"), 9, 65 * MIB) },
            file(None, 4242, MIB),
        ],
        ..row(1)
    };
    Dirty { rows: vec![Arc::new(importer), Arc::new(inferred), Arc::new(row(2))] }
}
