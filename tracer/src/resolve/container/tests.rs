//! The table of shapes against the paths recorded in `tests/fixtures/cgroup-paths`, the rule for rows, and
//! hostile input.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Every case says path, role, runtime, id (absent: the path), pod_uid, certain (absent: true), from.
#[test]
fn fixtures() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/cgroup-paths");
    let mut cases = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let file = entry.unwrap().path();
        let json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for case in json["cases"].as_array().unwrap() {
            let path = case["path"].as_str().unwrap();
            let mut want = case.clone();
            let want = want.as_object_mut().unwrap();
            assert!(want.remove("from").is_some(), "{file:?}: {path} does not say where it is from");
            want.remove("path");
            want.entry("id").or_insert_with(|| path.into());
            want.entry("pod_uid").or_insert(Value::Null);
            want.entry("certain").or_insert(true.into());
            let got = serde_json::to_value(classify(path)).unwrap();
            assert_eq!(&got, &Value::Object(want.clone()), "{file:?}: {path}");
            cases += 1;
        }
    }
    assert!(cases >= 90, "only {cases} cases");
}

/// The nearest ancestor with a row, as a walk from the root down finds it.
fn row(path: &str) -> bool {
    let mut above = None;
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    for end in ends {
        let shape = classify(&path[..end]);
        if shape.is_row(above) {
            above = Some(shape.role);
        }
    }
    classify(path).is_row(above)
}

#[test]
fn rows() {
    let a = "a".repeat(64);
    let b = "b".repeat(64);
    for path in [
        "/".to_owned(),
        "/docker".into(),
        format!("/docker/{a}"),
        format!("/docker/{a}/docker/{b}"),
        format!("/docker/{a}/kubelet/kubepods/burstable/pod1"),
        format!("/docker/{a}/kubelet/kubepods/burstable/pod1/{b}"),
        "/system.slice/docker.service".into(),
        "/system.slice/docker.service/docker".into(),
        "/user.slice/user-1000.slice/user@1000.service/app.slice/editor.scope".into(),
        format!("/user.slice/user@1000.service/user.slice/libpod-{a}.scope"),
        format!("/system.slice/web.service/libpod-payload-{a}"),
        format!("/kubepods.slice/kubepods-pod1.slice/crio-conmon-{a}.scope"),
        "/lxc.payload.web/system.slice/nginx.service".into(),
        "/plain/inner".into(),
        "/machine.slice/systemd-nspawn@web.service".into(),
        format!("/machine.slice/systemd-nspawn@web.service/payload/docker/{a}"),
    ] {
        assert!(row(&path), "{path} should be a row");
    }
    for path in [
        format!("/docker/{a}/docker"),
        format!("/docker/{a}/system.slice/nginx.service"),
        format!("/docker/{a}/kubelet/kubepods/burstable"),
        format!("/machine.slice/libpod-{a}.scope/container"),
        "/system.slice/web.service/runtime".into(),
        "/machine.slice/systemd-nspawn@web.service/payload".into(),
        format!("/docker/{a}/docker/{b}/docker"),
        "/system.slice/web.service/a/b".into(),
    ] {
        assert!(!row(&path), "{path} should belong to what holds it");
    }
}

fn piece() -> impl Strategy<Value = String> {
    let marks = FORMS.iter().flat_map(|form| match form.text {
        Between(a, b) | After(a, b) => vec![a, b],
        Word(words) => words.to_vec(),
    });
    let marks: Vec<String> =
        marks.chain(["kata_overhead", "default", "k8s.io", "..", ""]).map(Into::into).collect();
    prop_oneof![
        prop::sample::select(marks),
        Just("a".repeat(64)),
        Just("/".into()),
        Just("1_2\\x2d3".into()),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn hostile(pieces in prop::collection::vec(piece(), 0..24)) {
        let path = pieces.concat();
        let shape = classify(&path);
        prop_assert!(!shape.id.is_empty());
        if matches!(shape.role, Role::Container | Role::Pod) {
            prop_assert!(is_name(&shape.id), "{:?}", shape.id);
        } else {
            prop_assert!(shape.pod_uid.is_none());
        }
        if let Some(uid) = &shape.pod_uid {
            prop_assert!(is_name(uid), "{uid:?}");
        }
    }
}

#[test]
fn long_paths_are_cheap() {
    let path = "/a".repeat(2000) + "/" + &"b".repeat(64);
    assert_eq!(classify(&path).role, Role::Container);
}
