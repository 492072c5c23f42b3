//! Who is believed: shims and the runtime's own files, and no process that runs in a container.

use super::*;

/// Names that people choose are one namespace's, and one containerd's.
#[test]
fn one_name_in_two_namespaces() {
    let dir = TempDir::new().unwrap();
    let tasks = "run/containerd/io.containerd.runtime.v2.task";
    for (namespace, image) in [("default", "one"), ("k8s.io", "two")] {
        let spec = json!({
            "annotations": {"io.kubernetes.cri.image-name": image},
            "linux": {"cgroupsPath": format!("/{namespace}/web")},
        });
        put(dir.path(), &format!("{tasks}/{namespace}/web/config.json"), &spec.to_string());
    }
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    for (namespace, image) in [("default", "one"), ("k8s.io", "two")] {
        let Lookup::Known(found) = names.lookup(&classify(&format!("/{namespace}/web")), &[], now) else {
            panic!("{namespace} is not known");
        };
        assert_eq!((found.name.as_deref(), found.image.as_deref()), (Some("web"), Some(image)));
    }
    let inner = classify(&format!("/docker/{ID}/default/web"));
    assert!(matches!(names.lookup(&inner, &[], now), Lookup::Later(_)), "another containerd's");
}

/// `ctr` in a namespace of its own: only the shim above the process tells it from a directory made by hand.
#[test]
fn a_namespace_that_no_table_knows() {
    let dir = TempDir::new().unwrap();
    let bundle = "/data/io.containerd.runtime.v2.task/team/web";
    let spec = json!({"linux": {"cgroupsPath": "/team/web"}});
    put(dir.path(), &format!("{bundle}/config.json"), &spec.to_string());
    put(dir.path(), "proc/700/status", "PPid:\t1\n");
    put(dir.path(), "proc/701/status", "PPid:\t700\n");
    put(dir.path(), "proc/702/status", "PPid:\t1\n");
    std::os::unix::fs::symlink(bundle, dir.path().join("proc/700/cwd")).unwrap();
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    let team = classify("/team/web");
    assert!(matches!(names.lookup(&team, &[], now), Lookup::Later(_)));
    assert_eq!(name(&names.lookup(&team, &[701], now)), "web");
    assert_eq!(name(&names.lookup(&team, &[], now)), "web");
    assert_eq!(names.lookup(&classify("/other/web"), &[701], now), Lookup::Nameless);
    assert_eq!(names.lookup(&classify("/a/b"), &[702], now), Lookup::Nameless);
    assert_eq!(names.lookup(&classify("/team/web/inner"), &[701], now), Lookup::Nameless);
    let empty = classify("/empty/one");
    for _ in 0..PLAIN {
        assert!(matches!(names.lookup(&empty, &[], now), Lookup::Later(_)));
    }
    assert_eq!(names.lookup(&empty, &[], now), Lookup::Nameless, "looked at often enough");
}

/// A runtime in a container: its files are where its shim sees them, which is not where the host has that path.
#[test]
fn a_runtime_in_a_container() {
    let dir = TempDir::new().unwrap();
    let outer = "b".repeat(64);
    let tasks = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
    let spec = |name: &str| json!({"annotations": {"io.kubernetes.cri.container-name": name}}).to_string();
    let path = format!("/docker/{outer}/kubelet/kubepods/burstable/pod1/{ID}");
    put(dir.path(), "proc/900/status", "PPid:\t1\n");
    put(dir.path(), "proc/900/cgroup", &format!("5:cpu:/\n4:memory:/docker/{outer}\n0::/\n"));
    put(dir.path(), &format!("proc/900/root{tasks}/{ID}/config.json"), &spec("inner"));
    std::os::unix::fs::symlink(format!("{tasks}/sandbox"), dir.path().join("proc/900/cwd")).unwrap();
    // In the container: a process that would like to be somebody else.
    put(dir.path(), "proc/901/status", "PPid:\t900\n");
    put(dir.path(), "proc/901/cgroup", &format!("4:memory:{path}\n"));
    put(dir.path(), &format!("proc/901/root/lie/{ID}/config.json"), &spec("liar"));
    put(dir.path(), "proc/901/comm", "conmon\n");
    put(dir.path(), "proc/901/cmdline", &format!("conmon\0-c\0{ID}\0-n\0liar\0-b\0/lie/{ID}/userdata\0"));
    std::os::unix::fs::symlink(format!("/lie/{ID}"), dir.path().join("proc/901/cwd")).unwrap();
    put(dir.path(), "proc/902/status", "PPid:\t901\n");
    put(dir.path(), "proc/902/cgroup", &format!("4:memory:{path}/deeper/{ID}\n"));
    let mut names = Names::new(dir.path());
    assert_eq!(name(&names.lookup(&classify(&path), &[902], Instant::now())), "inner");

    // The same process below no shim, found by the walk through /proc: it names nobody, not itself either.
    put(dir.path(), "proc/1/status", "PPid:\t0\n");
    put(dir.path(), "proc/901/status", "PPid:\t1\n");
    for path in [path, format!("/machine.slice/libpod-{ID}.scope")] {
        put(dir.path(), "proc/901/cgroup", &format!("4:memory:{path}\n"));
        put(dir.path(), "proc/902/cgroup", &format!("4:memory:{path}\n"));
        put(dir.path(), "proc/903/comm", "conmon\n");
        put(dir.path(), "proc/903/cgroup", &format!("4:memory:/docker/{outer}\n"));
        put(dir.path(), "proc/903/cmdline", &format!("conmon\0-c\0{ID}\0-n\0liar\0-b\0/lie\0"));
        let mut names = Names::new(dir.path());
        let found = names.lookup(&classify(&path), &[902], Instant::now());
        assert!(matches!(found, Lookup::Later(_)), "{found:?}");
    }
}

/// Without process 1 to compare with, no stranger's directory counts; an ancestor's does.
#[test]
fn strangers_are_not_trusted() {
    let (_, fixture) = fixtures().into_iter().find(|(file, _)| file.contains("containerd-1.6")).unwrap();
    let dir = tree(&fixture);
    fs::remove_dir_all(dir.path().join("proc/1")).unwrap();
    let mut names = Names::new(dir.path());
    let case = &fixture["cases"][0];
    let shape = classify(case["cgroup"].as_str().unwrap());
    let now = Instant::now();
    assert!(matches!(names.lookup(&shape, &[], now), Lookup::Later(_)));
    let pid = case["pids"][0].as_u64().unwrap() as u32;
    assert!(matches!(names.lookup(&shape, &[pid], now), Lookup::Known(_)));
}

/// A container that nests a pod by the uid of the host's names its own pod, not that one.
#[test]
fn a_nested_pod_is_another() {
    let dir = TempDir::new().unwrap();
    let outer = "b".repeat(64);
    let spec = json!({"annotations": {"io.kubernetes.cri.sandbox-name": "liar"}});
    put(
        dir.path(),
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        &spec.to_string(),
    );
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    let nested = format!("/docker/{outer}/kubepods/pod1");
    assert!(matches!(names.lookup(&classify(&format!("{nested}/{ID}")), &[], now), Lookup::Known(_)));
    assert!(matches!(names.lookup(&classify(&nested), &[], now), Lookup::Known(_)));
    assert!(matches!(names.lookup(&classify("/kubepods/pod1"), &[], now), Lookup::Later(_)));
    put(dir.path(), "var/log/pods/shop_web-0_1/x", "");
    let Lookup::Known(found) = names.lookup(&classify("/kubepods/pod1"), &[], now + RETRY[0]) else {
        panic!("the kubelet knows it");
    };
    assert_eq!(found.pod.as_deref(), Some("web-0"));
}
