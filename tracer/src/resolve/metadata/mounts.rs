//! What a container's mounts give away: files that its runtime keeps beside its records, and the layers of its root.

use std::path::{Path, PathBuf};

use super::{Places, Told, docker, storage};
use crate::resolve::container::Shape;

/// Where the files that docker mounts show up; podman's and cri-o's are the same.
const TARGETS: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// The directories that the container's own /etc files and its root come from.
pub(super) fn learn(places: &mut Places, shape: &Shape, pid: u32) -> Told {
    let Some(inside) = places.tree.proc(&format!("/proc/{pid}/mountinfo")) else { return Told::Nothing };
    let mut new = false;
    let mut host = None;
    for mount in inside.lines().filter_map(Mount::parse) {
        if let Some(storage) = mount.upper.as_deref().and_then(storage::root_of_layer)
            && mount.point == Path::new("/")
            && places.tree.exists(&storage.join(&shape.id))
        {
            new |= places.storage.learn(&storage);
        }
        if !TARGETS.iter().any(|target| mount.point == Path::new(target)) {
            continue;
        }
        let host = host.get_or_insert_with(|| {
            let host =
                places.tree.proc("/proc/1/mountinfo").or_else(|| places.tree.proc("/proc/self/mountinfo"));
            host.unwrap_or_default()
        });
        for source in mount.on_host(host) {
            if let Some(root) = docker::root_of(&source, &shape.id)
                && places.tree.exists(&source)
            {
                new |= places.docker.learn(&root);
            }
            if let Some(root) = storage::root_of(&source)
                && places.tree.exists(&source)
            {
                new |= places.storage.learn(&root);
            }
        }
    }
    if new { Told::Places } else { Told::Nothing }
}

/// A line of mountinfo: <https://www.kernel.org/doc/Documentation/filesystems/proc.rst>, section 3.5.
struct Mount<'a> {
    device: &'a str,
    /// What is mounted: a path within that file system.
    root: PathBuf,
    point: PathBuf,
    /// Where an overlay keeps what is written.
    upper: Option<PathBuf>,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let upper = line.split(" - overlay ").nth(1).and_then(|options| {
            options.split([' ', ',']).find_map(|option| option.strip_prefix("upperdir=")).map(unescape)
        });
        Some(Mount { device, root: unescape(fields.next()?), point: unescape(fields.next()?), upper })
    }

    /// Where the host sees what is mounted here; a file system may be mounted in several places.
    fn on_host(&self, host: &str) -> Vec<PathBuf> {
        let same = host.lines().filter_map(Mount::parse).filter(|mount| mount.device == self.device);
        same.filter_map(|mount| Some(mount.point.join(self.root.strip_prefix(&mount.root).ok()?)))
            .take(8)
            .collect()
    }
}

/// The kernel writes space, tab, newline and backslash as octal.
fn unescape(field: &str) -> PathBuf {
    let field = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    PathBuf::from(field.replace("\\134", "\\"))
}
