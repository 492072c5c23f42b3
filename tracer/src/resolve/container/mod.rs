//! From the path of a memory cgroup to what it is: a container of which runtime, a pod, a unit, or just a
//! directory. Pure: reads the path and nothing else; names are `metadata`'s job.

use serde::Serialize;

use super::Runtime;

/// What a cgroup is by the shape of its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    pub role: Role,
    pub runtime: Runtime,
    /// A container's full id or a pod's uid; else the path.
    pub id: String,
    /// The Kubernetes uid (podman: the pod id) of a pod and of the containers directly in it.
    pub pod_uid: Option<String>,
    /// False where other runtimes share the shape: metadata may then correct `runtime`.
    pub certain: bool,
    /// The whole path where people choose the id, which is then unique in its namespace only.
    #[serde(skip)]
    pub place: Option<String>,
    /// The container that a container or pod is nested in: what ids mean in there is that container's affair.
    #[serde(skip)]
    pub outer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Container,
    Pod,
    /// A systemd unit that holds processes; a conmon scope is one.
    Unit,
    /// A parent that a runtime, the kubelet or systemd makes: a slice, `/docker`, `kubepods`, `/`.
    Inner,
    Plain,
}

impl Shape {
    /// Does this cgroup have a row of its own? `above` is the role of the nearest ancestor that has one.
    /// What lives in a container belongs to it, but for containers and pods nested in it.
    pub fn is_row(&self, above: Option<Role>) -> bool {
        match self.role {
            Role::Container | Role::Pod => true,
            Role::Unit | Role::Inner => above != Some(Role::Container),
            Role::Plain => !matches!(above, Some(Role::Container | Role::Unit)),
        }
    }
}

/// One shape of a path's last component.
struct Form {
    text: Text,
    id: Id,
    below: Below,
    role: Role,
    runtime: Runtime,
    certain: bool,
}

/// Where the id stands in the component.
enum Text {
    /// Between the two, which are its start and its end.
    Between(&'static str, &'static str),
    /// From a marker to the end; before the marker stands nothing, or a longer slice name.
    After(&'static str, &'static str),
    /// The component is one of these.
    Word(&'static [&'static str]),
}

/// What the id looks like.
#[derive(Clone, Copy)]
enum Id {
    /// 64 lower-case hex digits: what docker, CRI, podman and nerdctl generate.
    Hex,
    /// What containerd lets `ctr` users choose.
    /// <https://github.com/containerd/containerd/blob/v1.7.0/identifiers/validate.go>
    Name,
    /// A pod uid as the kubelet writes it in slice names, `-` as `_`.
    /// <https://github.com/kubernetes/kubernetes/blob/v1.30.0/pkg/kubelet/cm/cgroup_manager_linux.go>
    Escaped,
    /// The path serves as the id.
    Path,
}

/// What the component's parents must be.
enum Below {
    Any,
    Parent(&'static [&'static str]),
    /// The parent is a containerd namespace: it stands at the top, or at a container's own top.
    Namespace(&'static [&'static str]),
    Pod,
    Ancestor(&'static str),
}

const fn container(text: Text, below: Below, runtime: Runtime) -> Form {
    Form { text, id: Id::Hex, below, role: Role::Container, runtime, certain: true }
}

const fn guess(text: Text, id: Id, below: Below, runtime: Runtime) -> Form {
    Form { text, id, below, role: Role::Container, runtime, certain: false }
}

const fn pod(text: Text, id: Id, below: Below, runtime: Runtime) -> Form {
    Form { text, id, below, role: Role::Pod, runtime, certain: true }
}

const fn other(text: Text, below: Below, role: Role, runtime: Runtime) -> Form {
    Form { text, id: Id::Path, below, role, runtime, certain: true }
}

use Below::{Ancestor, Any, Namespace, Parent};
use Text::{After, Between, Word};

const ALL: Text = Between("", "");
/// Namespaces of containerd that people meet: ctr and nerdctl, CRI without a parent, docker, buildkit.
const NAMESPACES: &[&str] = &["default", "k8s.io", "moby", "buildkit"];

/// Every known shape; the first that fits wins. A marked id says more than a bare one, so it comes first; a
/// bare id by its parent comes before a bare id anywhere; units and slices come last, because a container's
/// scope is a unit too.
const FORMS: &[Form] = &[
    // kata keeps what runs outside the guest below a copy of the pod's path: no container is in there.
    // https://github.com/kata-containers/kata-containers/blob/3.4.0/docs/design/host-cgroups.md
    other(ALL, Ancestor("kata_overhead"), Role::Plain, Runtime::Cgroup),
    // docker, systemd driver; also below kubepods (dockershim, cri-dockerd) and in a user's slice (rootless).
    // https://github.com/moby/moby/blob/v24.0.0/daemon/oci_linux.go (WithCgroups)
    container(Between("docker-", ".scope"), Any, Runtime::Docker),
    // containerd's CRI plugin and nerdctl, systemd driver.
    // https://github.com/containerd/containerd/blob/v1.7.0/pkg/cri/sbserver/helpers_linux.go (getCgroupsPath)
    container(Between("cri-containerd-", ".scope"), Any, Runtime::Containerd),
    container(Between("nerdctl-", ".scope"), Any, Runtime::Containerd),
    // cri-o, systemd and cgroupfs; `crio-conmon-<id>` has no bare id after the dash and stays what it is.
    // https://github.com/cri-o/cri-o/blob/v1.30.0/internal/config/cgmgr/cgmgr_linux.go
    container(Between("crio-", ".scope"), Any, Runtime::CriO),
    container(Between("crio-", ""), Any, Runtime::CriO),
    // podman: systemd, cgroupfs, and `--cgroups=split` below the unit (quadlet).
    // https://github.com/containers/podman/blob/v4.9.0/libpod/container_internal_linux.go (getOCICgroupPath)
    container(Between("libpod-", ".scope"), Any, Runtime::Podman),
    container(Between("libpod-payload-", ""), Any, Runtime::Podman),
    container(Between("libpod-", ""), Any, Runtime::Podman),
    // The systemd form of a path given to a runtime that was told to use cgroupfs: a directory of that name.
    // https://github.com/kubernetes/kubernetes/issues/106514
    container(After(":cri-containerd:", ""), Any, Runtime::Containerd),
    container(After(":nerdctl:", ""), Any, Runtime::Containerd),
    container(After(":docker:", ""), Any, Runtime::Docker),
    container(After(":crio:", ""), Any, Runtime::CriO),
    container(After(":libpod:", ""), Any, Runtime::Podman),
    // docker, cgroupfs driver.
    container(ALL, Parent(&["docker"]), Runtime::Docker),
    // A pod's own cgroup; the kubelet makes it, systemd and cgroupfs driver.
    pod(After("kubepods-burstable-pod", ".slice"), Id::Escaped, Any, Runtime::Systemd),
    pod(After("kubepods-besteffort-pod", ".slice"), Id::Escaped, Any, Runtime::Systemd),
    pod(After("kubepods-pod", ".slice"), Id::Escaped, Any, Runtime::Systemd),
    pod(Between("pod", ""), Id::Name, Parent(&["kubepods", "burstable", "besteffort"]), Runtime::Cgroup),
    // podman's pods.
    pod(After("libpod_pod_", ".slice"), Id::Hex, Any, Runtime::Podman),
    pod(ALL, Id::Hex, Parent(&["libpod_parent"]), Runtime::Podman),
    // containerd's CRI plugin, cgroupfs driver; docker's (dockershim, cri-dockerd) look the same.
    guess(ALL, Id::Hex, Below::Pod, Runtime::Containerd),
    // containerd's own default, `/<namespace>/<id>`: CRI without a parent, nerdctl, ctr.
    // https://github.com/containerd/containerd/blob/v1.7.0/oci/spec.go (populateDefaultUnixSpec)
    container(ALL, Namespace(NAMESPACES), Runtime::Containerd),
    guess(ALL, Id::Name, Namespace(NAMESPACES), Runtime::Containerd),
    // A parent of someone's own choice (`docker run --cgroup-parent`, /ecs/<task>, /actions_job).
    guess(ALL, Id::Hex, Any, Runtime::Docker),
    // systemd. A unit of any kind that has processes has a cgroup.
    other(Between("", ".service"), Any, Role::Unit, Runtime::Systemd),
    other(Between("", ".scope"), Any, Role::Unit, Runtime::Systemd),
    other(Between("", ".mount"), Any, Role::Unit, Runtime::Systemd),
    other(Between("", ".socket"), Any, Role::Unit, Runtime::Systemd),
    other(Between("", ".swap"), Any, Role::Unit, Runtime::Systemd),
    other(Between("", ".slice"), Any, Role::Inner, Runtime::Systemd),
    // Parents under the cgroupfs driver.
    other(Word(&["docker", "kubelet", "kubepods", "libpod_parent"]), Any, Role::Inner, Runtime::Cgroup),
    other(Word(&["burstable", "besteffort"]), Parent(&["kubepods"]), Role::Inner, Runtime::Cgroup),
];

/// What the memory cgroup at `path`, below the root of its hierarchy, is.
pub fn classify(path: &str) -> Shape {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let whole = || if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    match find(&parts) {
        Some(Found { form, id: Some(id), before }) => {
            let pod_uid = match form.role {
                Role::Pod => Some(id.clone()),
                _ => pod_above(&parts).or_else(|| pod_uid(&[before])),
            };
            let chosen = form.role == Role::Container && !is_hex64(&id);
            let place = chosen.then(|| path.to_owned());
            let outer = container_above(&parts);
            Shape { role: form.role, runtime: form.runtime, id, pod_uid, certain: form.certain, place, outer }
        }
        Some(Found { form, id: None, .. }) => Shape {
            role: form.role,
            runtime: form.runtime,
            id: whole(),
            pod_uid: None,
            certain: form.certain,
            place: None,
            outer: None,
        },
        None => {
            let role = if parts.is_empty() || is_namespace(&parts) { Role::Inner } else { Role::Plain };
            Shape {
                role,
                runtime: Runtime::Cgroup,
                id: whole(),
                pod_uid: None,
                certain: true,
                place: None,
                outer: None,
            }
        }
    }
}

/// Whether the cgroup at `path` is a container or in one.
pub fn is_inside(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (1..=parts.len()).any(|len| find(&parts[..len]).is_some_and(|found| found.form.role == Role::Container))
}

/// What a plain `/<namespace>/<id>` at the top is if a shim of containerd says that it is its container: namespaces
/// may bear any name.
pub fn in_namespace(path: &str) -> Option<Shape> {
    let (namespace, id) = path.strip_prefix('/')?.split_once('/')?;
    (is_name(namespace) && is_name(id)).then(|| Shape {
        role: Role::Container,
        runtime: Runtime::Containerd,
        id: id.to_owned(),
        pod_uid: None,
        certain: true,
        place: Some(path.to_owned()),
        outer: None,
    })
}

struct Found<'a> {
    form: &'static Form,
    id: Option<String>,
    /// What stands before the marker in the same component.
    before: &'a str,
}

fn find<'a>(parts: &[&'a str]) -> Option<Found<'a>> {
    let (last, above) = parts.split_last()?;
    FORMS.iter().find_map(|form| {
        let (before, text) = form.text.cut(last)?;
        let id = form.id.read(text)?;
        form.below.holds(above).then_some(Found { form, id, before })
    })
}

/// The uid if the last of `parts` is a pod.
fn pod_uid(parts: &[&str]) -> Option<String> {
    find(parts).filter(|found| found.form.role == Role::Pod).and_then(|found| found.id)
}

/// The pod the last of `parts` lives in; a container in between hides it: that pod is the outer container's.
fn pod_above(parts: &[&str]) -> Option<String> {
    for len in (1..parts.len()).rev() {
        match find(&parts[..len]) {
            Some(Found { form, id, .. }) if form.role == Role::Pod => return id,
            Some(Found { form, .. }) if form.role == Role::Container => return None,
            _ => {}
        }
    }
    None
}

/// The id of the nearest container that the last of `parts` is in.
fn container_above(parts: &[&str]) -> Option<String> {
    (1..parts.len())
        .rev()
        .filter_map(|len| find(&parts[..len]))
        .find(|found| found.form.role == Role::Container)?
        .id
}

/// A containerd namespace's own directory: at the top, or at the top of a container's inside.
fn is_namespace(parts: &[&str]) -> bool {
    let Some((last, above)) = parts.split_last() else { return false };
    NAMESPACES.contains(last)
        && (above.is_empty() || find(above).is_some_and(|found| found.form.role == Role::Container))
}

impl Text {
    /// (what stands before, the id's text)
    fn cut<'a>(&self, part: &'a str) -> Option<(&'a str, &'a str)> {
        match *self {
            Between(start, end) => Some(("", part.strip_prefix(start)?.strip_suffix(end)?)),
            After(marker, end) => {
                let (before, text) = part.strip_suffix(end)?.rsplit_once(marker)?;
                let joined = before.is_empty() || before.ends_with('-') || before.ends_with(".slice");
                joined.then_some((before, text))
            }
            Word(words) => words.contains(&part).then_some(("", part)),
        }
    }
}

impl Id {
    /// `None`: this is no such id. `Some(None)`: the path serves.
    fn read(self, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return None;
        }
        match self {
            Id::Path => Some(None),
            Id::Hex => is_hex64(text).then(|| Some(text.to_owned())),
            Id::Name => is_name(text).then(|| Some(text.to_owned())),
            Id::Escaped => {
                let uid = text.replace("\\x2d", "-").replace('_', "-");
                is_name(&uid).then_some(Some(uid))
            }
        }
    }
}

impl Below {
    fn holds(&self, above: &[&str]) -> bool {
        match *self {
            Any => true,
            Parent(names) => above.last().is_some_and(|parent| names.contains(parent)),
            Namespace(names) => {
                above.last().is_some_and(|parent| names.contains(parent)) && is_namespace(above)
            }
            Below::Pod => pod_uid(above).is_some(),
            Ancestor(name) => above.contains(&name),
        }
    }
}

pub(super) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most the 76 bytes that containerd allows.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 76
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests;
