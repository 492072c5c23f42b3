//! The mounts of a task, by its mountinfo: which one a file is on, and what it is called.

use std::path::Path;

use super::parse::bounded;

/// So many mounts are looked at.
const MOUNTS: usize = 16_384;

/// One line: <https://www.kernel.org/doc/Documentation/filesystems/proc.rst>, section 3.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub point: String,
    /// `ext4`, `fuse.sshfs`.
    pub kind: String,
    /// `/dev/loop3`, `nas:/vol`.
    pub source: String,
    /// Where an overlay keeps what is written, as the host calls it.
    pub upper: Option<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, of) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let id = fields.next()?.parse().ok()?;
        let point = unescaped(fields.nth(3)?);
        let mut fields = of.split(' ');
        let (kind, source) = (fields.next()?.to_owned(), unescaped(fields.next()?));
        let options = fields.next().unwrap_or_default();
        let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(unescaped);
        Some(Mount { id, point, kind, source, upper: upper.filter(|path| path.starts_with('/')) })
    }

    /// `ext4 at /mnt/data (/dev/loop3)`.
    pub fn title(&self) -> String {
        let (kind, point) = (bounded(&self.kind), bounded(&self.point));
        match self.tells_source() {
            true => format!("{kind} at {point} ({})", bounded(&self.source)),
            false => format!("{kind} at {point}"),
        }
    }

    pub fn is_of_device(&self) -> bool {
        self.source.starts_with('/') && !self.is_fuse()
    }

    fn tells_source(&self) -> bool {
        self.is_of_device() || self.source.contains(':')
    }

    /// `fuseblk` is a block device's server's.
    pub fn is_fuse(&self) -> bool {
        matches!(self.kind.as_str(), "fuse" | "fuseblk" | "virtiofs") || self.kind.starts_with("fuse.")
    }

    /// Whether functions of `family` are of this file system's kind.
    pub fn is_kind(&self, family: &str) -> bool {
        match family {
            "fuse" => self.is_fuse(),
            "nfs" => matches!(self.kind.as_str(), "nfs" | "nfs4"),
            "cifs" => matches!(self.kind.as_str(), "cifs" | "smb3"),
            "ext4" => matches!(self.kind.as_str(), "ext2" | "ext3" | "ext4"),
            _ => self.kind == family,
        }
    }
}

/// All mounts that a mountinfo lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    pub fn parse(mountinfo: &str) -> Mounts {
        Mounts(mountinfo.lines().take(MOUNTS).filter_map(Mount::parse).collect())
    }

    pub fn by_id(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// The mount that a path is on: of those with the longest mount point the one mounted last, which hides the others.
    pub fn of(&self, path: &str) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| Path::new(path).starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.len())
    }

    /// The only one of its kind. The same one in several places is several: which was used is not known.
    pub fn only(&self, family: &str) -> Option<&Mount> {
        let mut those = self.0.iter().filter(|mount| mount.is_kind(family));
        those.next().filter(|_| those.next().is_none())
    }
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescaped(field: &str) -> String {
    let field = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    field.replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/root rw
42 27 7:0 / /tmp/run/mnt rw,relatime shared:3 - ext4 /dev/loop0 rw
43 42 0:39 / /tmp/run/mnt/a\\040b rw,nosuid - fuse.sshfs nas: rw,user_id=0
44 27 0:50 / /srv/a rw - nfs4 nas:/vol rw,vers=4.2,addr=10.0.0.1
45 27 0:50 / /srv/b rw - nfs4 nas:/vol rw,vers=4.2,addr=10.0.0.1
46 27 0:61 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/var/up,workdir=/var/work
47 42 7:1 / /tmp/run/mnt rw - xfs /dev/loop1 rw
broken
48 27 0:24 / /dev rw";

    #[test]
    fn the_longest_point_above_a_path_is_its_mount() {
        let mounts = Mounts::parse(TEXT);
        assert_eq!(mounts.of("/tmp/run/mnt/f").expect("is").source, "/dev/loop1", "mounted over the other");
        assert_eq!(mounts.of("/tmp/run/mntx/f").expect("is").point, "/");
        assert_eq!(
            mounts.of("/tmp/run/mnt/a b/f (deleted)").expect("is").title(),
            "fuse.sshfs at /tmp/run/mnt/a b (nas:)"
        );
        assert_eq!(mounts.of("/merged/x").expect("is").upper.as_deref(), Some("/var/up"));
        assert_eq!(mounts.of("pipe:[166530]"), None);
        assert_eq!(mounts.by_id(42).expect("is").title(), "ext4 at /tmp/run/mnt (/dev/loop0)");
        assert_eq!(mounts.by_id(48), None);
    }

    #[test]
    fn among_several_none_is_guessed() {
        let mounts = Mounts::parse(TEXT);
        assert_eq!(mounts.only("nfs"), None);
        assert_eq!(mounts.only("ext4"), None);
        assert_eq!(mounts.only("xfs").expect("is").id, 47);
        assert_eq!(mounts.only("fuse").expect("is").id, 43);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC{0,200}") {
            Mounts::parse(&text).of(&text);
        }
    }
}
