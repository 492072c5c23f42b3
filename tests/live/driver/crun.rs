//! A container by crun alone, without a daemon: a bundle of our own, and the cgroup of our choice. crun keeps no name
//! that memtrace could find, so the cgroup's path serves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::{
    cgroup::{Cgroup, hierarchy},
    container::{Container, SCRATCH, Wanted},
    guard,
    known::Known,
    output, scratch, wait_for,
};

/// The root file system that `cargo xtask vm` puts there.
const ROOT: &str = "/images/busybox";

pub fn run(wanted: &Wanted<'_>) -> Container {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mtlive-{}-{count}-{}", std::process::id(), wanted.name);
    let path = format!("/{name}");
    let bundle = scratch::dir("bundle");
    let config = serde_json::to_string(&config(wanted, &path)).expect("it is made of strings");
    fs::write(bundle.join("config.json"), config).expect("the run's directory can be written");
    let cgroup = Cgroup { path: path.clone() };
    guard::at_end(&format!("drop_cgroup '{}'", cgroup.dir().display()));
    let mut command = crun();
    command.args(["run", "--no-pivot", "--bundle"]).arg(&bundle).arg(&name);
    let mut client =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("crun can be started");
    let said = output::lines(client.stdout.take().expect("its output is a pipe"));
    wait_for("crun to make a container", || {
        (cgroup.dir().exists() || client.try_wait().expect("it is our child").is_some()).then_some(())
    });
    let remove_name = name;
    Container {
        known: Known::new("cgroup", &path, &path),
        client,
        said,
        remove: Box::new(move || {
            let _ = crun().args(["delete", "--force", &remove_name]).output();
        }),
    }
}

fn crun() -> Command {
    let mut command = Command::new("crun");
    command.arg("--root").arg(state()).arg("--cgroup-manager=cgroupfs");
    command
}

fn state() -> PathBuf {
    let dir = scratch::run_dir().join("crun");
    fs::create_dir_all(&dir).expect("the run's directory can be written");
    dir
}

fn config(wanted: &Wanted<'_>, cgroup: &str) -> Value {
    let words: Vec<&str> = ["/bin/workload"].into_iter().chain(wanted.words.iter().copied()).collect();
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": SCRATCH, "type": "tmpfs", "source": "tmpfs", "options": ["size=512m"]}),
    ];
    for (from, to) in wanted.binds {
        fs::create_dir_all(Path::new(ROOT).join(to.trim_start_matches('/')))
            .expect("the image can be written");
        mounts.push(json!({"destination": to, "type": "bind", "source": from, "options": ["bind"]}));
    }
    fs::create_dir_all(Path::new(ROOT).join(SCRATCH.trim_start_matches('/')))
        .expect("the image can be written");
    let namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "network"].into_iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": words, "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": ROOT, "readonly": false},
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup,
            "resources": if hierarchy().v2 { json!({"memory": {"limit": 1u64 << 30}}) } else { json!({}) },
        },
    })
}
