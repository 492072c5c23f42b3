//! Where memory is accounted on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    version: u8,
}

impl Hierarchy {
    pub(crate) fn of_memory() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        Self::find(&mounts).context(
            "no cgroup file system with the memory controller is mounted; mount cgroup2 on /sys/fs/cgroup",
        )
    }

    /// A hybrid machine has the controller on v1 and an empty v2 beside it.
    fn find(mounts: &str) -> Option<Self> {
        let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut found = None;
        for fields in mounts {
            let [_, dir, kind, options, ..] = fields[..] else { continue };
            match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => {
                    return Some(Self { mount: dir.into(), version: 1 });
                }
                "cgroup2" if found.is_none() => found = Some(Self { mount: dir.into(), version: 2 }),
                _ => {}
            }
        }
        found
    }

    pub(crate) fn is_v1(&self) -> bool {
        self.version == 1
    }

    /// Limits the parent and, on v2, hands the controller down to it and its children.
    pub(crate) fn limit(&self, parent: &Path, bytes: &str) -> Result<()> {
        let write = |path: PathBuf, text: &str| {
            fs::write(&path, text).with_context(|| format!("cannot write `{text}` to {}", path.display()))
        };
        if self.version == 1 {
            return write(parent.join("memory.limit_in_bytes"), bytes);
        }
        write(self.mount.join("cgroup.subtree_control"), "+memory")?;
        write(parent.join("memory.max"), bytes)?;
        write(parent.join("cgroup.subtree_control"), "+memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_on_v1_before_v2() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n";
        assert_eq!(
            Hierarchy::find(hybrid),
            Some(Hierarchy { mount: "/sys/fs/cgroup/memory".into(), version: 1 })
        );
        let pure = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(Hierarchy::find(pure), Some(Hierarchy { mount: "/sys/fs/cgroup".into(), version: 2 }));
        assert_eq!(Hierarchy::find("proc /proc proc rw 0 0\n"), None);
    }
}
