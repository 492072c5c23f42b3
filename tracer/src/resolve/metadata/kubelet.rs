//! The kubelet's own directories: what a pod is called, whatever runs its containers.

use std::path::Path;

use super::{Metadata, Places, labels};

/// `<namespace>_<pod>_<uid>`:
/// <https://github.com/kubernetes/kubernetes/blob/v1.30.0/pkg/kubelet/kuberuntime/helpers.go> (BuildPodLogsDirectory)
const LOGS: &str = "/var/log/pods";
/// The kubelet's default is 110 pods; old ones stay a while.
const PODS: usize = 8192;

pub(super) fn pod(places: &mut Places, uid: &str) -> Option<Metadata> {
    places.tree.list(Path::new(LOGS), PODS).iter().find_map(|dir| {
        let (namespace, pod) = dir.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
        Some(Metadata {
            pod: Some(labels::bounded(pod)?),
            namespace: Some(labels::bounded(namespace)?),
            provenance: format!("a directory in {LOGS}"),
            ..Metadata::default()
        })
    })
}
