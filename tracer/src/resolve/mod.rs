//! NAMES. From the id of a memory cgroup to the container a person knows: id -> path -> runtime and
//! container id -> name, pod, namespace, image. Knows kernel facts and events, no state and no view.

pub mod call;
pub mod container;
pub mod file;
pub mod label;
pub mod metadata;
pub mod stack;
pub mod stream;
pub mod tree;
pub mod wait;

use serde::Serialize;

/// What manages a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    /// A systemd unit outside any container.
    Systemd,
    /// A cgroup that no runtime claims.
    Cgroup,
}

impl Runtime {
    /// The word the interface uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Podman => "podman",
            Runtime::Systemd => "systemd",
            Runtime::Cgroup => "cgroup",
        }
    }
}

/// A memory cgroup: the inode number of its directory (the kernel's kernfs id) and its path below the
/// root of the memory hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Cgroup {
    pub id: u64,
    pub path: String,
}

/// One row's identity, as the interface prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    pub runtime: Runtime,
    /// The runtime's full id; for a unit or a plain cgroup its path.
    pub id: String,
    pub name: Option<String>,
    pub pod: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    /// A pod's sandbox ("pause") container.
    pub sandbox: bool,
    pub cgroup: Cgroup,
}
