//! Labels and annotations that carry Kubernetes names: one table for all runtimes.

use serde_json::Value;

use super::Metadata;

// docker's labels: https://github.com/kubernetes/kubernetes/blob/v1.23.0/pkg/kubelet/types/labels.go and
//   .../v1.23.0/pkg/kubelet/dockershim/docker_service.go (kept by cri-dockerd)
// containerd: https://github.com/containerd/containerd/blob/v1.7.0/pkg/cri/annotations/annotations.go
// cri-o: https://github.com/cri-o/cri-o/blob/v1.30.0/pkg/annotations (its containers bear the kubelet's too)
const NAME: &[&str] = &["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];
const POD: &[&str] =
    &["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name", "io.kubernetes.cri-o.KubeName"];
const NAMESPACE: &[&str] =
    &["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace", "io.kubernetes.cri-o.Namespace"];
const IMAGE: &[&str] =
    &["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"];
const SANDBOX: &[(&str, &str)] = &[
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.docker.type", "podsandbox"),
    // No container may be called so: names are lower case.
    ("io.kubernetes.container.name", "POD"),
];

pub(super) fn read(labels: &Value) -> Metadata {
    let first = |keys: &[&str]| keys.iter().find_map(|key| text(&labels[*key]));
    Metadata {
        name: first(NAME),
        pod: first(POD),
        namespace: first(NAMESPACE),
        image: first(IMAGE),
        sandbox: SANDBOX.iter().any(|(key, value)| labels[*key] == *value),
        ..Metadata::default()
    }
}

/// A string that is there, cut to what a view could ever show.
pub(super) fn text(value: &Value) -> Option<String> {
    bounded(value.as_str()?)
}

pub(super) fn bounded(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.chars().take(256).collect())
}
