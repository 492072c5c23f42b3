//! Files by device and inode: what a process calls one that it has open or mapped, and which are behind loop devices. Never
//! waits for a file system: nothing is asked of a server (`AT_STATX_DONT_SYNC`).

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use tracer_ebpf::abi::dirty::NO_DEVICE;

use super::stream::Node;
use crate::kernel::proc;

/// Descriptors looked at per process.
const DESCRIPTORS: usize = 4096;
/// Of a process's list of mappings, and of its mounts.
const TEXT: u64 = 1 << 20;
/// A path longer than the kernel's own limit is cut.
const PATH: usize = 4096;

/// A device as the kernel writes it.
fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// A regular file that a process has open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As its file system's inodes are known to the kernel.
    pub node: Node,
    pub path: String,
    /// Bytes that it takes on its disk.
    pub allocated: u64,
}

/// One mount of a process.
struct Mount {
    dev: u32,
    /// Of an overlay: the device of the layer that is written to.
    upper: Option<u32>,
}

/// What a process has open, and how its mounts lead to devices. Looked at once, however many files it is asked for.
pub struct Process {
    pid: u32,
    root: String,
    mounts: OnceCell<HashMap<u64, Mount>>,
    open: OnceCell<Vec<Descriptor>>,
    maps: OnceCell<String>,
}

/// A descriptor of a regular file, as stat tells.
struct Descriptor {
    number: u32,
    shown: Node,
    deleted: bool,
    allocated: u64,
}

impl Process {
    /// `None`: it is gone, or a thread of the kernel, which has no files.
    pub fn new(pid: u32) -> Option<Process> {
        let root = fs::read_link(format!("/proc/{pid}/root")).ok()?;
        Some(Process {
            pid,
            root: root.to_string_lossy().into_owned(),
            mounts: OnceCell::new(),
            open: OnceCell::new(),
            maps: OnceCell::new(),
        })
    }

    /// The path of this file, as the process sees it.
    pub fn path(&self, wanted: Node) -> Option<String> {
        self.descriptors().iter().find_map(|open| self.path_of(open, wanted))
    }

    /// The same of a file that it has mapped.
    pub fn mapped_path(&self, wanted: Node) -> Option<String> {
        let maps = self
            .maps
            .get_or_init(|| proc::text(&format!("/proc/{}/maps", self.pid), TEXT).unwrap_or_default());
        maps.lines().find_map(|line| self.mapped(line, wanted))
    }

    /// Regular files that it has open for writing.
    pub fn written(&self) -> Vec<Open> {
        let mut seen = HashSet::new();
        let open = self.descriptors().iter().filter_map(|open| {
            let place = self.place(open.number);
            if fs::symlink_metadata(&place).ok()?.mode() & 0o200 == 0 {
                return None;
            }
            let node = Node { dev: self.device_of(open.number).unwrap_or(open.shown.dev), ..open.shown };
            let path = self.seen(&fs::read_link(&place).ok()?, open.deleted);
            Some(Open { node, path, allocated: open.allocated })
        });
        open.filter(|open| seen.insert(open.node)).collect()
    }

    fn place(&self, number: u32) -> String {
        format!("/proc/{}/fd/{number}", self.pid)
    }

    fn descriptors(&self) -> &[Descriptor] {
        self.open.get_or_init(|| {
            let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
            let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            numbers.take(DESCRIPTORS).filter_map(|number| self.descriptor(number)).collect()
        })
    }

    fn descriptor(&self, number: u32) -> Option<Descriptor> {
        let flags = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK | StatxFlags::BLOCKS;
        let stat = statx(CWD, self.place(number), AtFlags::STATX_DONT_SYNC, flags).ok()?;
        let regular = FileType::from_raw_mode(u32::from(stat.stx_mode) as _) == FileType::RegularFile;
        regular.then(|| Descriptor {
            number,
            shown: Node { dev: device(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino },
            deleted: stat.stx_nlink == 0,
            allocated: stat.stx_blocks.saturating_mul(512),
        })
    }

    fn path_of(&self, open: &Descriptor, wanted: Node) -> Option<String> {
        if open.shown.ino != wanted.ino {
            return None;
        }
        // Its mount is looked at only where the device that it shows is another.
        let same = wanted.dev == open.shown.dev
            || wanted.dev == NO_DEVICE
            || self.device_of(open.number) == Some(wanted.dev);
        let link = fs::read_link(self.place(open.number)).ok().filter(|_| same)?;
        Some(self.seen(&link, open.deleted))
    }

    fn mounts(&self) -> &HashMap<u64, Mount> {
        self.mounts.get_or_init(|| {
            let mounts = proc::text(&format!("/proc/{}/mountinfo", self.pid), TEXT).unwrap_or_default();
            mounts.lines().filter_map(mount).collect()
        })
    }

    /// The device of the inodes behind a descriptor: that of its file system, which btrfs and overlays do not show.
    fn device_of(&self, number: u32) -> Option<u32> {
        let info = proc::text(&format!("/proc/{}/fdinfo/{number}", self.pid), TEXT)?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
        let mount = self.mounts().get(&id)?;
        Some(mount.upper.unwrap_or(mount.dev))
    }

    /// `from-to rwxs offset major:minor inode path`
    fn mapped(&self, line: &str, wanted: Node) -> Option<String> {
        let mut fields = line.splitn(6, ' ');
        let (major, minor) = fields.nth(3)?.split_once(':')?;
        let dev = device(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        if fields.next()?.parse::<u64>().ok()? != wanted.ino {
            return None;
        }
        let above =
            || self.mounts().values().any(|mount| mount.dev == dev && mount.upper == Some(wanted.dev));
        if dev != wanted.dev && wanted.dev != NO_DEVICE && !above() {
            return None;
        }
        let path = fields.next()?.trim_start();
        let kept = path.strip_suffix(" (deleted)");
        path.starts_with('/').then(|| self.seen(Path::new(kept.unwrap_or(path)), false))
    }

    /// A path as the kernel tells it to us is that of the process, unless it has changed its root within our mounts.
    fn seen(&self, link: &Path, deleted: bool) -> String {
        let path = link.to_string_lossy();
        let path = if deleted { path.strip_suffix(" (deleted)").unwrap_or(&path) } else { &path };
        let within = path.strip_prefix(self.root.trim_end_matches('/')).filter(|rest| rest.starts_with('/'));
        within.unwrap_or(path).chars().take(PATH).collect()
    }
}

/// `id parent major:minor root point options... - type source options`
fn mount(line: &str) -> Option<(u64, Mount)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let dev = device(major.parse().ok()?, minor.parse().ok()?);
    let mut end = line.split_once(" - ")?.1.split(' ');
    let upper = match end.next()? {
        "overlay" => end.nth(1)?.split(',').find_map(|option| option.strip_prefix("upperdir=")),
        _ => None,
    };
    Some((id, Mount { dev, upper: upper.and_then(|dir| node(Path::new(dir))).map(|node| node.dev) }))
}

/// A file's device and inode by its path.
fn node(path: &Path) -> Option<Node> {
    let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    Some(Node { dev: device(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino })
}

/// Files behind loop devices, with their paths on the host.
pub fn backing() -> HashMap<Node, String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let loops = devices.filter(|entry| entry.file_name().to_string_lossy().starts_with("loop"));
    let files = loops.filter_map(|entry| {
        let path = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        let path = path.trim_end_matches('\n').to_owned();
        Some((node(Path::new(&path))?, path))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn own() -> Process {
        Process::new(std::process::id()).expect("we live")
    }

    fn nobody(root: &str) -> Process {
        let mounts = OnceCell::from(HashMap::new());
        Process { pid: 0, root: root.to_owned(), mounts, open: OnceCell::new(), maps: OnceCell::new() }
    }

    #[test]
    fn an_open_file_has_its_path_also_when_it_is_deleted() {
        let path = std::env::temp_dir().join(format!("memtrace (deleted) {}", std::process::id()));
        let mut file = fs::File::create(&path).expect("it can be made");
        file.write_all(b"x").expect("it can be written");
        let own = own();
        let open = own.written().into_iter().find(|open| Path::new(&open.path) == path);
        let open = open.expect("it is open for writing");
        assert_eq!(own.path(open.node).as_deref(), path.to_str());
        fs::remove_file(&path).expect("it is there");
        let own = self::own();
        assert_eq!(own.path(open.node).as_deref(), path.to_str());
        let other = Node { dev: open.node.dev, ino: u64::MAX };
        assert_eq!(own.path(other), None);
        assert_eq!(own.path(Node { dev: 1, ino: open.node.ino }), None, "another device's");
    }

    #[test]
    fn a_mapped_file_is_found_by_its_line() {
        let own = nobody("/");
        let line = "7f10-7f20 rw-s 00000000 103:00 4711                       /data/a b (deleted)";
        let wanted = Node { dev: device(0x103, 0), ino: 4711 };
        assert_eq!(own.mapped(line, wanted).as_deref(), Some("/data/a b"));
        assert_eq!(own.mapped(line, Node { dev: 1, ..wanted }), None);
        assert_eq!(own.mapped("7f10-7f20 rw-p 00000000 00:00 0", wanted), None);
        assert_eq!(own.mapped("", wanted), None);
    }

    #[test]
    fn a_changed_root_is_taken_off() {
        let own = nobody("/srv/jail");
        assert_eq!(own.seen(Path::new("/srv/jail/data/x"), false), "/data/x");
        assert_eq!(own.seen(Path::new("/srv/jailed/x (deleted)"), true), "/srv/jailed/x");
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_no_panic(line in "\\PC{0,200}") {
            mount(&line);
            nobody("/").mapped(&line, Node { dev: 1, ino: 1 });
        }
    }
}
