//! docker: `<data root>/containers/<id>/config.v2.json`. The data root is often not the default one; a
//! container's mounts show it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Metadata, Places, labels, tree::Tree};
use crate::resolve::{Runtime, container::Shape};

pub(super) const ROOTS: &[&str] = &["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];

/// Files that docker keeps beside its config and mounts into the container, unless the container has its own.
pub(super) const MOUNTED: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

pub(super) fn find(places: &mut Places, shape: &Shape) -> Option<Metadata> {
    for root in places.docker.each() {
        if let Some(found) = read(&mut places.tree, &root, &shape.id) {
            places.docker.hit(&root);
            return Some(found);
        }
    }
    // docker's containerd has a bundle too: no names in it, but the mounts.
    for bundles in places.bundles.each() {
        let bundle = bundles.join(&shape.id).join("config.json");
        if let Some(spec) = places.tree.json(&bundle) {
            return from_bundle(places, &spec, &shape.id);
        }
    }
    None
}

/// The names of the container if this bundle is docker's.
pub(super) fn from_bundle(places: &mut Places, spec: &Value, id: &str) -> Option<Metadata> {
    let root = spec["mounts"].as_array()?.iter().find_map(|mount| {
        let source = Path::new(mount["source"].as_str()?);
        root_of(source, id)
    })?;
    let found = read(&mut places.tree, &root, id)?;
    places.docker.learn(&root);
    places.docker.hit(&root);
    Some(found)
}

/// `<root>` of `<root>/containers/<id>/hostname`.
pub(super) fn root_of(path: &Path, id: &str) -> Option<PathBuf> {
    let mounted = MOUNTED.iter().any(|name| path.ends_with(name));
    let container = path.parent()?;
    let containers = container.parent()?;
    (mounted && container.ends_with(id) && containers.ends_with("containers"))
        .then(|| containers.parent().map(Path::to_owned))
        .flatten()
}

/// <https://github.com/moby/moby/blob/v24.0.0/container/container.go> (type Container)
pub(super) fn read(tree: &mut Tree, root: &Path, id: &str) -> Option<Metadata> {
    let path = root.join("containers").join(id).join("config.v2.json");
    let json = tree.json(&path)?;
    if json["ID"] != id {
        tree.problem(format!("{} is of another container", path.display()));
        return None;
    }
    let found = labels::read(&json["Config"]["Labels"]);
    let own = json["Name"].as_str().and_then(|name| labels::bounded(name.trim_start_matches('/')));
    Some(Metadata {
        name: found.name.clone().or(own),
        image: labels::text(&json["Config"]["Image"]),
        runtime: Some(Runtime::Docker),
        provenance: format!("config.v2.json below {}", root.display()),
        file: Some(path),
        ..found
    })
}
