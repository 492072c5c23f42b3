//! Where the cgroup controllers of this host are: v1, hybrid or v2, from `/proc/self/mountinfo` and
//! `/proc/cgroups`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the host's cgroups are laid out as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    /// v1 controllers with a v2 tree beside them.
    Hybrid,
    V2,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::Hybrid => "hybrid",
            Version::V2 => "v2",
        }
    }
}

/// The mounts that matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub version: Version,
    /// Where the memory controller's hierarchy is mounted.
    pub memory: PathBuf,
    /// Whether the memory controller is on v2.
    pub memory_v2: bool,
    /// Hierarchy id of the memory controller; 0 on v2.
    pub memory_hierarchy: u32,
    /// Part of the hierarchy that the mount shows: `/`, unless memtrace runs in a cgroup namespace.
    pub memory_root: String,
    /// Some cgroup below the root has the memory controller; on v2 the root may keep it for itself.
    #[serde(default = "handed_on")]
    pub memory_handed_on: bool,
    pub cpu: Option<PathBuf>,
    pub pids: Option<PathBuf>,
}

/// As in facts that were recorded before this was asked.
fn handed_on() -> bool {
    true
}

#[derive(Debug, Error)]
pub enum LayoutError {
    #[error("cannot read {0}: {1}; mount proc")]
    Proc(&'static str, io::Error),
    #[error(
        "no cgroup hierarchy with the memory controller is mounted; boot with cgroup_enable=memory and mount \
         cgroup2 on /sys/fs/cgroup"
    )]
    NoMemory,
}

impl Layout {
    pub fn of_self() -> Result<Layout, LayoutError> {
        let read = |path| fs::read_to_string(path).map_err(|error| LayoutError::Proc(path, error));
        let cgroups = read("/proc/cgroups").unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo")?, &cgroups, &|mount, file| {
            fs::read_to_string(mount.join(file)).unwrap_or_default()
        })
    }

    /// What is not known because of how the cgroups are.
    pub fn lost(&self) -> Vec<String> {
        let unsplit = "cgroup v1 does not tell slab and sock of a cgroup, and of OOM kills only its own";
        self.blind().into_iter().chain((!self.memory_v2).then(|| unsplit.to_owned())).collect()
    }

    /// Why no container's memory can be told at all, and what to do about it.
    pub fn blind(&self) -> Option<String> {
        (!self.memory_handed_on).then(|| {
            format!(
                "no cgroup below {0} has the memory controller, so no container's memory is known; \
                 `echo +memory > {0}/cgroup.subtree_control` hands it on",
                self.memory.display()
            )
        })
    }

    /// Pure; `file` reads a file of a v2 mount's root.
    pub fn parse(
        mountinfo: &str,
        cgroups: &str,
        file: &dyn Fn(&Path, &str) -> String,
    ) -> Result<Layout, LayoutError> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let v1 = |controller: &str| mounts.iter().find(|mount| !mount.v2 && mount.has(controller));
        let v2 = mounts.iter().find(|mount| mount.v2);
        let lists = |mount: &Mount, name: &str, controller: &str| {
            file(&mount.place, name).split_whitespace().any(|word| word == controller)
        };
        let on_v2 = |controller: &str| v2.filter(|mount| lists(mount, "cgroup.controllers", controller));
        // A v1 controller in use cannot be on v2 as well.
        let memory = v1("memory").or_else(|| on_v2("memory")).ok_or(LayoutError::NoMemory)?;
        let any_v1 = mounts.iter().any(|mount| !mount.v2 && !mount.options.contains("name="));
        let place =
            |controller: &str| v1(controller).or_else(|| on_v2(controller)).map(|mount| mount.place.clone());
        Ok(Layout {
            version: match (v2.is_some(), any_v1) {
                (true, false) => Version::V2,
                (true, true) => Version::Hybrid,
                _ => Version::V1,
            },
            memory: memory.place.clone(),
            memory_v2: memory.v2,
            memory_hierarchy: if memory.v2 { 0 } else { hierarchy(cgroups, "memory") },
            memory_root: memory.root.clone(),
            memory_handed_on: !memory.v2 || lists(memory, "cgroup.subtree_control", "memory"),
            cpu: place("cpu"),
            pids: place("pids"),
        })
    }
}

/// Columns: name, hierarchy, number of cgroups, enabled.
fn hierarchy(cgroups: &str, controller: &str) -> u32 {
    cgroups
        .lines()
        .find_map(|line| line.strip_prefix(controller)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

struct Mount {
    root: String,
    place: PathBuf,
    v2: bool,
    options: String,
}

impl Mount {
    /// `id parent major:minor root place options [optional...] - type source super-options`
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, place) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1).unwrap_or_default();
        matches!(kind, "cgroup" | "cgroup2").then(|| Mount {
            root: root.to_owned(),
            place: PathBuf::from(unescape(place)),
            v2: kind == "cgroup2",
            options: options.to_owned(),
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|word| word == controller)
    }
}

/// mountinfo writes space, tab, newline and backslash in octal (`\040`).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
    const V2: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const CGROUPS: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t15\t1\n";

    #[test]
    fn hybrid_has_memory_on_v1() {
        let layout = Layout::parse(&format!("{V1}{V2}"), CGROUPS, &|_, _| String::new()).expect("a layout");
        assert_eq!(layout.version, Version::Hybrid);
        assert_eq!(layout.memory, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!((layout.memory_v2, layout.memory_hierarchy), (false, 4));
        assert_eq!(layout.cpu.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(layout.pids, None, "no hierarchy has the pids controller");
    }

    #[test]
    fn v1_alone_and_v2_alone() {
        let v1 = Layout::parse(V1, CGROUPS, &|_, _| String::new()).expect("a layout");
        assert_eq!(v1.version, Version::V1);
        let v2 = Layout::parse(V2, CGROUPS, &|_, _| "cpu memory pids\n".to_owned()).expect("a layout");
        assert_eq!((v2.version, v2.memory_v2, v2.memory_hierarchy), (Version::V2, true, 0));
        assert_eq!(v2.pids.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn a_named_hierarchy_does_not_make_a_host_hybrid() {
        let named = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let layout =
            Layout::parse(&format!("{named}{V2}"), "", &|_, _| "memory".to_owned()).expect("a layout");
        assert_eq!(layout.version, Version::V2);
    }

    #[test]
    fn a_root_that_keeps_the_controller_is_told() {
        let kept =
            |_: &Path, file: &str| if file == "cgroup.controllers" { "cpu memory" } else { "cpu" }.to_owned();
        let layout = Layout::parse(V2, "", &kept).expect("a layout");
        assert!(layout.blind().is_some_and(|lost| lost.contains("+memory > /sys/fs/cgroup/unified/cgroup")));
        let handed_on = Layout::parse(V2, "", &|_, _| "cpu memory".to_owned()).expect("a layout");
        assert_eq!(handed_on.lost(), Vec::<String>::new());
        let v1 = Layout::parse(V1, CGROUPS, &|_, _| String::new()).expect("a layout");
        assert_eq!(v1.blind(), None, "on v1 every cgroup has the controllers of its hierarchy");
    }

    #[test]
    fn no_memory_controller_is_an_error() {
        assert!(matches!(Layout::parse(V2, "", &|_, _| "cpu".to_owned()), Err(LayoutError::NoMemory)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(mountinfo in "(\\PC|\n| - cgroup2? ){0,200}", cgroups in "\\PC{0,100}") {
            let _ = Layout::parse(&mountinfo, &cgroups, &|_, _| "memory".to_owned());
            unescape(&mountinfo);
        }
    }

    #[test]
    fn octal_escapes_in_mount_points() {
        assert_eq!(unescape(r"/a\040b\x"), r"/a b\x");
    }
}
