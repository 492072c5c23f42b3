//! Lookups over trees laid out from `tests/fixtures/runtimes`, and what must hold when files are hostile, late
//! or gone. Needs no root and no runtime.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    places::{LEARNED, Roots, SOURCES},
    *,
};
use crate::resolve::container::classify;

mod trust;

const ID: &str = "1cf70a92567f3fa67dd28837480a929dc188be2c793e9a0546e0b1eb32ca757a";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tree(fixture: &Value) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (path, value) in fixture["files"].as_object().unwrap() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(dir.path(), path, &text);
    }
    for (path, target) in fixture["links"].as_object().unwrap() {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target.as_str().unwrap(), path).unwrap();
    }
    dir
}

fn wanted(want: &Value) -> Metadata {
    let text = |key: &str| want[key].as_str().map(str::to_owned);
    let runtime = SOURCES.iter().map(|s| s.runtime).find(|r| want["runtime"] == r.as_str());
    assert_eq!(runtime.is_some(), want["runtime"].is_string());
    Metadata {
        name: text("name"),
        pod: text("pod"),
        namespace: text("namespace"),
        image: text("image"),
        sandbox: want["sandbox"] == true,
        runtime,
        provenance: text("provenance").unwrap(),
        file: None,
    }
}

/// A lookup with the file left out: its place says as much.
fn told(lookup: Lookup) -> Lookup {
    match lookup {
        Lookup::Known(found) => Lookup::Known(Arc::new(Metadata { file: None, ..(*found).clone() })),
        other => other,
    }
}

fn fixtures() -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/runtimes");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|f| (f.display().to_string(), serde_json::from_slice(&fs::read(f).unwrap()).unwrap())).collect()
}

/// Every container is found with its processes known, and the next one of the same place too.
#[test]
fn every_runtime() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 8);
    for (file, fixture) in fixtures {
        let dir = tree(&fixture);
        let mut names = Names::new(dir.path());
        for case in fixture["cases"].as_array().unwrap() {
            let shape = classify(case["cgroup"].as_str().unwrap());
            let pids: Vec<u32> =
                case["pids"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as u32).collect();
            let found = names.lookup(&shape, &pids, Instant::now());
            assert_eq!(told(found), Lookup::Known(Arc::new(wanted(&case["want"]))), "{file}: {case}");
        }
        assert_eq!(names.problems().len(), 0, "{file}: {:?}", names.problems());
    }
}

/// The recorded ones are found without a process too: by the walk through /proc.
#[test]
fn without_processes() {
    for (file, fixture) in fixtures() {
        if !fixture["from"].as_str().unwrap().contains("recorded") {
            continue;
        }
        let dir = tree(&fixture);
        for case in fixture["cases"].as_array().unwrap() {
            let shape = classify(case["cgroup"].as_str().unwrap());
            let mut names = Names::new(dir.path());
            let found = names.lookup(&shape, &[], Instant::now());
            if shape.role == Role::Container {
                assert_eq!(told(found), Lookup::Known(Arc::new(wanted(&case["want"]))), "{file}: {case}");
            }
        }
    }
}

fn docker_tree(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    put(
        dir.path(),
        &format!("var/lib/docker/containers/{ID}/config.v2.json"),
        &json!({"ID": ID, "Name": name, "Config": {"Image": "bb:1"}}).to_string(),
    );
    dir
}

fn shape() -> Shape {
    classify(&format!("/docker/{ID}"))
}

fn name(lookup: &Lookup) -> &str {
    match lookup {
        Lookup::Known(found) => found.name.as_deref().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kept_for_the_dead() {
    let dir = docker_tree("/web");
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    names.lookup(&shape(), &[], now);
    fs::remove_dir_all(dir.path().join("var")).unwrap();
    assert_eq!(name(&names.lookup(&shape(), &[], now + Duration::from_secs(3600))), "web");
}

#[test]
fn a_new_name_is_noticed_and_none_is_lost() {
    let dir = docker_tree("/web");
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    assert_eq!(name(&names.lookup(&shape(), &[], now)), "web");
    assert_eq!(names.renamed(), []);
    let file = dir.path().join(format!("var/lib/docker/containers/{ID}/config.v2.json"));
    for (text, said, renamed) in [
        ("{".to_owned(), "web", 0),
        (json!({"ID": ID, "Name": "/shop", "Config": {"Image": "bb:1"}}).to_string(), "shop", 1),
    ] {
        // As docker writes: another file takes its place.
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
        assert_eq!(names.renamed().len(), renamed);
        assert_eq!(name(&names.lookup(&shape(), &[], now)), said);
        assert_eq!(names.renamed(), []);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(names.renamed(), []);
    assert_eq!(name(&names.lookup(&shape(), &[], now)), "shop");
    assert_eq!(names.apart.ask(|reader| reader.watches()).unwrap(), 0, "the dead are not looked at");
}

#[test]
fn bounded() {
    let dir = TempDir::new().unwrap();
    let mut names = Names::with_capacity(dir.path(), 16);
    let now = Instant::now();
    let ids: Vec<String> = (0..100).map(|n| format!("{n:064x}")).collect();
    for id in &ids {
        let config = json!({"ID": id, "Name": format!("/{id}")}).to_string();
        put(dir.path(), &format!("var/lib/docker/containers/{id}/config.v2.json"), &config);
        names.lookup(&classify(&format!("/docker/{id}")), &[], now);
        names.lookup(&classify(&format!("/docker/{}", ids[0])), &[], now);
        names.lookup(&classify(&format!("/docker/f{}", &id[1..])), &[], now);
    }
    assert!(names.apart.ask(|reader| reader.watches()).unwrap() <= 16);
    let (known, missed) = names.fill();
    assert!(known <= 16 && missed <= 16, "{known} {missed}");
    // The one in use is still there.
    fs::remove_dir_all(dir.path().join("var")).unwrap();
    assert_eq!(name(&names.lookup(&classify(&format!("/docker/{}", ids[0])), &[], now)), ids[0]);
}

#[test]
fn a_late_name_is_found_at_the_retry() {
    let dir = TempDir::new().unwrap();
    let mut names = Names::new(dir.path());
    let mut now = Instant::now();
    for wait in [100, 300, 1000, 5000, 30_000, 30_000] {
        let retry = now + Duration::from_millis(wait);
        assert_eq!(names.lookup(&shape(), &[], now), Lookup::Later(retry));
        assert_eq!(names.lookup(&shape(), &[], retry - Duration::from_millis(1)), Lookup::Later(retry));
        now = retry;
    }
    let late = docker_tree("/late");
    fs::rename(late.path().join("var"), dir.path().join("var")).unwrap();
    assert_eq!(name(&names.lookup(&shape(), &[], now)), "late");
}

#[test]
fn processes_that_become_known_are_asked_at_once() {
    let (_, fixture) = fixtures().into_iter().find(|(file, _)| file.contains("docker-places")).unwrap();
    let dir = tree(&fixture);
    let mut names = Names::new(dir.path());
    let now = Instant::now();
    let shape = classify(fixture["cases"][2]["cgroup"].as_str().unwrap());
    assert!(matches!(names.lookup(&shape, &[], now), Lookup::Later(_)));
    assert_eq!(name(&names.lookup(&shape, &[500], now)), "orphan");
}

#[test]
fn only_containers_and_pods_have_names() {
    let mut names = Names::new(Path::new("/nonexistent"));
    for path in ["/", "/system.slice/ssh.service", "/lab"] {
        assert_eq!(names.lookup(&classify(path), &[1], Instant::now()), Lookup::Nameless);
    }
    assert!(names.problems()[0].contains("cannot open /nonexistent"));
}

#[test]
fn hostile_names_are_kept_but_cut() {
    let dir = docker_tree(&format!("/\u{1b}[31m{}", "ä".repeat(5000)));
    let found = Names::new(dir.path()).lookup(&shape(), &[], Instant::now());
    assert!(name(&found).starts_with("\u{1b}[31mä"));
    assert_eq!(name(&found).chars().count(), 256);
}

/// One bad file, one sentence; a hundred bad files of one kind, still one.
#[test]
fn bad_files_are_problems() {
    let config = |dir: &TempDir| dir.path().join(format!("var/lib/docker/containers/{ID}/config.v2.json"));
    let problem = |break_it: &dyn Fn(&Path)| {
        let dir = docker_tree("/web");
        break_it(&config(&dir));
        let mut names = Names::new(dir.path());
        assert!(matches!(names.lookup(&shape(), &[], Instant::now()), Lookup::Later(_)));
        let problems = names.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("/var/lib/docker/containers/"), "{problems:?}");
        problems[0].to_owned()
    };
    assert!(problem(&|file| fs::write(file, "{garbage").unwrap()).contains("is no JSON"));
    assert!(
        problem(&|file| fs::write(file, vec![b' '; (4 << 20) + 1]).unwrap()).contains("larger than 4 MiB")
    );
    let of_another = json!({"ID": "other", "Name": "/web"}).to_string();
    assert!(problem(&|file| fs::write(file, &of_another).unwrap()).contains("of another container"));
    let fifo = |file: &Path| {
        fs::remove_file(file).unwrap();
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    };
    assert!(problem(&fifo).contains("not a regular file"));
    let linked = |file: &Path| {
        let real = file.with_extension("real");
        fs::rename(file, &real).unwrap();
        std::os::unix::fs::symlink(real, file).unwrap();
    };
    assert!(problem(&linked).contains("cannot read"));
    let directory = |file: &Path| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    };
    assert!(problem(&directory).contains("not a regular file"));

    let dir = TempDir::new().unwrap();
    let mut names = Names::new(dir.path());
    for n in 0..100 {
        let id = format!("{n:064x}");
        put(dir.path(), &format!("var/lib/docker/containers/{id}/config.v2.json"), "]");
        names.lookup(&classify(&format!("/docker/{id}")), &[], Instant::now());
    }
    assert_eq!(names.problems().len(), 1);
}

#[test]
fn an_unreadable_directory_is_a_problem() {
    let dir = docker_tree("/web");
    let closed = dir.path().join("var/lib/docker");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let mut names = Names::new(dir.path());
    let found = names.lookup(&shape(), &[], Instant::now());
    // Root reads all the same.
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(found, Lookup::Later(_)));
        assert!(names.problems()[0].contains("ermission denied"));
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `/var/lib/docker -> /data/docker` on the host means the host's /data, wherever its tree is mounted.
#[test]
fn absolute_links_stay_below_the_root() {
    let dir = docker_tree("/web");
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::rename(dir.path().join("var/lib/docker"), dir.path().join("data/docker")).unwrap();
    std::os::unix::fs::symlink("/data/docker", dir.path().join("var/lib/docker")).unwrap();
    assert_eq!(name(&Names::new(dir.path()).lookup(&shape(), &[], Instant::now())), "web");
}

#[test]
fn learned_places_are_bounded() {
    let mut roots = Roots::new(docker::ROOTS);
    for n in 0..1000 {
        roots.learn(Path::new(&format!("/data/{n}")));
    }
    let all = roots.each();
    assert_eq!(all.len(), docker::ROOTS.len() + LEARNED);
    assert!(docker::ROOTS.iter().all(|fixed| all.contains(&PathBuf::from(fixed))));
    let last = all.last().unwrap().clone();
    roots.hit(&last);
    assert_eq!(roots.each()[0], last);
}

#[test]
fn a_walk_goes_on_where_the_last_one_stopped_and_not_too_often() {
    let dir = TempDir::new().unwrap();
    let tasks = "/data/io.containerd.runtime.v2.task/k8s.io";
    put(
        dir.path(),
        &format!("{tasks}/{ID}/config.json"),
        &json!({"annotations": {"io.kubernetes.cri.container-name": "far"}}).to_string(),
    );
    for pid in 1..1500 {
        fs::create_dir_all(dir.path().join(format!("proc/{pid}"))).unwrap();
    }
    std::os::unix::fs::symlink(format!("{tasks}/{ID}"), dir.path().join("proc/1400/cwd")).unwrap();
    let mut names = Names::new(dir.path());
    let shape = classify(&format!("/k8s.io/{ID}"));
    let start = Instant::now();
    assert!(matches!(names.lookup(&shape, &[], start), Lookup::Later(_)));
    let soon = start + Duration::from_millis(100);
    assert!(matches!(names.lookup(&shape, &[], soon), Lookup::Later(_)));
    assert_eq!(name(&names.lookup(&shape, &[], start + Duration::from_millis(1100))), "far");
}
