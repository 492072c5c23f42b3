//! containers/storage, which podman and cri-o share: `<root>/<driver>-containers/<id>/userdata/config.json`.
//! cri-o puts all names in its annotations; podman's names are in containers.json beside, or conmon's arguments.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Metadata, Places, labels};
use crate::resolve::{Runtime, container::Shape};

pub(super) const ROOTS: &[&str] = &[
    "/run/containers/storage/overlay-containers",
    "/var/lib/containers/storage/overlay-containers",
    "/run/containers/storage/vfs-containers",
    "/var/lib/containers/storage/vfs-containers",
];

/// <https://github.com/containers/storage/blob/v1.51.0/containers.go>; `--rm` puts a container in the second.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

pub(super) fn cri_o(places: &mut Places, shape: &Shape) -> Option<Metadata> {
    for root in places.storage.each() {
        let Some(spec) = places.tree.json(&root.join(&shape.id).join("userdata/config.json")) else {
            continue;
        };
        places.storage.hit(&root);
        return Some(Metadata {
            runtime: Some(Runtime::CriO),
            provenance: format!("config.json below {}", root.display()),
            ..labels::read(&spec["annotations"])
        });
    }
    None
}

pub(super) fn podman(places: &mut Places, shape: &Shape) -> Option<Metadata> {
    for root in places.storage.each() {
        // The list may be long; the directory tells at once whether it is the right one.
        if !places.tree.exists(&root.join(&shape.id)) {
            continue;
        }
        for list in LISTS {
            let Some(json) = places.tree.json(&root.join(list)) else { continue };
            let entry = json.as_array().and_then(|all| all.iter().find(|entry| entry["id"] == *shape.id));
            if let Some(entry) = entry {
                places.storage.hit(&root);
                let name = labels::text(&entry["names"][0]);
                let provenance = format!("{list} below {}", root.display());
                return Some(Metadata {
                    file: Some(root.join(list)),
                    ..described(shape, name, image(entry), provenance)
                });
            }
        }
    }
    None
}

/// What conmon's command line says.
pub(super) fn by_conmon(shape: &Shape, name: &str, pid: u32) -> Metadata {
    described(shape, labels::bounded(name), None, format!("the command line of conmon, process {pid}"))
}

fn described(shape: &Shape, name: Option<String>, image: Option<String>, provenance: String) -> Metadata {
    // https://github.com/containers/podman/blob/v4.9.0/pkg/specgen/generate/pod_create.go: "<12 of the pod's id>-infra"
    let infra = shape.pod_uid.as_deref().and_then(|pod| pod.get(..12)).map(|pod| format!("{pod}-infra"));
    let sandbox = name.is_some() && name == infra;
    Metadata { name, image, sandbox, runtime: Some(Runtime::Podman), provenance, ..Metadata::default() }
}

/// podman keeps the image's name in a JSON text within the JSON.
fn image(entry: &Value) -> Option<String> {
    let inner: Value = serde_json::from_str(entry["metadata"].as_str()?).ok()?;
    labels::text(&inner["image-name"])
}

/// The storage directory of a path in `<root>/<driver>-containers/<id>/userdata`.
pub(super) fn root_of(path: &Path) -> Option<PathBuf> {
    let userdata = path.ancestors().find(|up| up.ends_with("userdata"))?;
    let root = userdata.parent()?.parent()?;
    root.file_name()?.to_str()?.ends_with("-containers").then(|| root.to_owned())
}

/// The same of a container's layer, `<root>/<driver>/<layer>/diff`. podman mounts files from another directory, which
/// does not know names.
pub(super) fn root_of_layer(upper: &Path) -> Option<PathBuf> {
    let driver = upper.parent().filter(|_| upper.ends_with("diff"))?.parent()?;
    let name = driver.file_name()?.to_str()?;
    Some(driver.with_file_name(format!("{name}-containers")))
}
