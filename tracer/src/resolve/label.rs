//! What a row is called: the name a person knows, else the best there is. Not yet made harmless: that is the views'
//! `text`.

use super::{Container, Runtime};

/// Digits of an id that runtimes' own commands show.
const SHORT_ID: usize = 12;

/// `namespace/pod/container`, a name, a unit's path, or a short id.
pub fn label(container: &Container) -> String {
    named(container, true)
}

/// The same without the namespace, for where there is little room: what tells a deployment's pods from another's
/// stands in the pod's name.
pub fn short(container: &Container) -> String {
    named(container, false)
}

fn named(container: &Container, namespaced: bool) -> String {
    if let Some(pod) = &container.pod {
        let pod = if namespaced { in_namespace(container, pod) } else { pod.clone() };
        return match &container.name {
            _ if container.sandbox => format!("{pod} (sandbox)"),
            Some(name) => format!("{pod}/{name}"),
            None => format!("{pod} (pod)"),
        };
    }
    match (&container.name, container.runtime) {
        (Some(name), _) => name.clone(),
        (None, Runtime::Systemd | Runtime::Cgroup) => container.cgroup.path.clone(),
        (None, _) => short_id(&container.id).to_owned(),
    }
}

/// What a pattern may name the row by, one by one.
pub fn names(container: &Container) -> impl Iterator<Item = String> {
    let pod = container.pod.as_ref().map(|pod| in_namespace(container, pod));
    let full = pod.as_ref().zip(container.name.as_ref()).map(|(pod, name)| format!("{pod}/{name}"));
    let unit = container.cgroup.path.rsplit('/').next().unwrap_or_default().to_owned();
    [Some(container.id.clone()), container.name.clone(), container.pod.clone(), pod, full]
        .into_iter()
        .flatten()
        .chain([container.cgroup.path.clone(), unit])
}

/// The id as runtimes' own commands show it; a path stays whole.
pub fn short_id(id: &str) -> &str {
    match id.get(..SHORT_ID) {
        Some(short) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => short,
        _ => id,
    }
}

fn in_namespace(container: &Container, pod: &str) -> String {
    match &container.namespace {
        Some(namespace) => format!("{namespace}/{pod}"),
        None => pod.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Cgroup;

    fn container(runtime: Runtime, name: Option<&str>) -> Container {
        Container {
            runtime,
            id: "0123456789abcdef".repeat(4),
            name: name.map(str::to_owned),
            pod: None,
            namespace: None,
            image: None,
            sandbox: false,
            cgroup: Cgroup { id: 1, path: String::from("/system.slice/example.service") },
        }
    }

    #[test]
    fn the_best_name_there_is() {
        let mut container = container(Runtime::Containerd, Some("app"));
        assert_eq!(label(&container), "app");
        container.pod = Some("web-1".into());
        assert_eq!(label(&container), "web-1/app");
        container.namespace = Some("prod".into());
        assert_eq!(label(&container), "prod/web-1/app");
        assert_eq!(short(&container), "web-1/app");
        container.name = None;
        assert_eq!(label(&container), "prod/web-1 (pod)");
        container.sandbox = true;
        assert_eq!(label(&container), "prod/web-1 (sandbox)");

        assert_eq!(label(&self::container(Runtime::Docker, None)), "0123456789ab");
        assert_eq!(label(&self::container(Runtime::Systemd, None)), "/system.slice/example.service");
    }
}
