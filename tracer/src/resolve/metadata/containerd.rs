//! containerd: `<state>/io.containerd.runtime.v2.task/<namespace>/<id>/config.json`, whose annotations CRI and
//! nerdctl fill; plain `ctr` writes none, its id is a name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Metadata, Places, docker, labels};
use crate::resolve::{
    Runtime,
    container::{Shape, is_hex64},
};

/// <https://github.com/containerd/containerd/blob/v1.7.0/runtime/v2/bundle.go> (the plugin's id is in the path)
const TASKS: &str = "io.containerd.runtime.v2.task";

pub(super) const ROOTS: &[&str] = &[
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/containerd/io.containerd.runtime.v2.task/default",
    // docker with the host's containerd, then with its own.
    "/run/containerd/io.containerd.runtime.v2.task/moby",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
    // k3s and rke2, k0s, microk8s.
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io",
    "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io",
];

pub(super) fn find(places: &mut Places, shape: &Shape) -> Option<Metadata> {
    for root in places.bundles.each() {
        let Some(spec) = places.tree.json(&root.join(&shape.id).join("config.json")) else { continue };
        // The same name in another namespace, or another containerd.
        if shape.place.as_ref().is_some_and(|place| spec["linux"]["cgroupsPath"] != place.as_str()) {
            continue;
        }
        places.bundles.hit(&root);
        if !shape.certain
            && let Some(found) = docker::from_bundle(places, &spec, &shape.id)
        {
            return Some(found);
        }
        return Some(describe(&spec, &root, &shape.id));
    }
    None
}

fn describe(spec: &Value, root: &Path, id: &str) -> Metadata {
    let found = labels::read(&spec["annotations"]);
    // https://github.com/containerd/nerdctl/blob/v1.7.0/pkg/labels/labels.go
    let nerdctl = labels::text(&spec["annotations"]["nerdctl/name"]);
    // Only people choose names that are no hash.
    let own = || (!is_hex64(id) && found.pod.is_none()).then(|| id.to_owned());
    Metadata {
        name: found.name.clone().or(nerdctl).or_else(own),
        runtime: Some(Runtime::Containerd),
        provenance: format!("config.json below {}", root.display()),
        ..found
    }
}

/// The task directory if this is a shim's working directory: a bundle, of the sandbox where there is one.
pub(super) fn bundles_of(cwd: &Path, id: &str) -> Option<PathBuf> {
    let tasks = cwd.parent()?;
    (cwd.ends_with(id) || tasks.parent()?.ends_with(TASKS)).then(|| tasks.to_owned())
}

/// The task directory if this is the working directory of the shim of the container at a cgroup's path.
pub(super) fn bundles_at(cwd: &Path, place: &str) -> Option<PathBuf> {
    let tasks = cwd.parent()?;
    let whole = Path::new(TASKS).join(place.trim_start_matches('/'));
    cwd.ends_with(whole).then(|| tasks.to_owned())
}
