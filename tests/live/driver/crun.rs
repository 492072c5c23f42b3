//! A container by crun or runc alone, without a daemon: a bundle of our own, and the cgroup of our choice. They keep no
//! name that memtrace could find, so the cgroup's path serves.

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
    containerd::forget,
    guard, image, in_vm,
    known::Known,
    output, scratch, wait_for,
};

/// The root file system: in the emulated machine the one that `cargo xtask vm` puts there.
fn root() -> &'static Path {
    if in_vm() { Path::new("/images/busybox") } else { image::tree() }
}

pub fn run(wanted: &Wanted<'_>) -> Container {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mtlive-{}-{count}-{}", std::process::id(), wanted.name);
    let path = format!("/{name}");
    run_as(wanted, &name, &path, Known::new("cgroup", &path, &path))
}

/// With a name for the runtime, and at a path, of the caller's choice; `known`: what memtrace makes of that path.
pub fn run_as(wanted: &Wanted<'_>, name: &str, path: &str, known: Known) -> Container {
    let bundle = scratch::dir("bundle");
    let config = serde_json::to_string(&config(wanted, path)).expect("it is made of strings");
    fs::write(bundle.join("config.json"), config).expect("the run's directory can be written");
    let cgroup = Cgroup { path: path.to_owned() };
    guard::at_end(&forget(path));
    let mut command = crun();
    command.args(["run", "--no-pivot", "--bundle"]).arg(&bundle).arg(name);
    let mut client =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("crun can be started");
    let said = output::lines(client.stdout.take().expect("its output is a pipe"));
    wait_for("crun to make a container", || {
        (cgroup.dir().exists() || client.try_wait().expect("it is our child").is_some()).then_some(())
    });
    let remove_name = name.to_owned();
    Container {
        known,
        client,
        said,
        remove: Box::new(move || {
            let _ = crun().args(["delete", "--force", &remove_name]).output();
        }),
    }
}

/// Runs so many that end at once, one after the other, each in a cgroup of its own, and prints how many that were. One that the
/// runtime fails to start, as it does now and then beside others, is not counted.
pub fn many(name: &str, count: usize) -> Command {
    let bundle = scratch::dir("bundle");
    let name = format!("mtlive-{}-{name}", std::process::id());
    let wanted = Wanted { name: &name, program: Some("/bin/busybox"), words: &["true"], ..Wanted::default() };
    let config = config(&wanted, &format!("/{name}-@")).to_string();
    fs::write(bundle.join("template"), config).expect("the run's directory can be written");
    let runtime = crun();
    let mut shell = Command::new("sh");
    shell.current_dir(&bundle);
    shell.args([
        "-c",
        "count=$1; name=$2; shift 2; n=0; ran=0; while [ $ran -lt $count ] && [ $n -lt $((2*count)) ]; do sed s/@/$n/ template > config.json; \"$@\" run --no-pivot $name-$n </dev/null >&2 && ran=$((ran+1)); n=$((n+1)); done; echo $ran",
        "many",
        &count.to_string(),
        &name,
    ]);
    shell.arg(runtime.get_program()).args(runtime.get_args());
    shell
}

/// crun in the emulated machine; elsewhere runc, because older releases of crun refuse a hybrid of both versions.
fn crun() -> Command {
    let mut command = Command::new(if in_vm() { "crun" } else { "runc" });
    command.arg("--root").arg(state());
    if in_vm() {
        command.arg("--cgroup-manager=cgroupfs");
    }
    command
}

fn state() -> PathBuf {
    let dir = scratch::run_dir().join("crun");
    fs::create_dir_all(&dir).expect("the run's directory can be written");
    dir
}

fn config(wanted: &Wanted<'_>, cgroup: &str) -> Value {
    let words: Vec<&str> = wanted.line().collect();
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": SCRATCH, "type": "tmpfs", "source": "tmpfs", "options": ["size=512m"]}),
    ];
    for (from, to) in wanted.binds {
        fs::create_dir_all(root().join(to.trim_start_matches('/'))).expect("the image can be written");
        mounts.push(json!({"destination": to, "type": "bind", "source": from, "options": ["bind"]}));
    }
    fs::create_dir_all(root().join(SCRATCH.trim_start_matches('/'))).expect("the image can be written");
    let namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "network"].into_iter().map(|kind| json!({"type": kind})).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": words, "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": root(), "readonly": false},
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroup,
            "resources": resources(wanted),
        },
    })
}

fn resources(wanted: &Wanted<'_>) -> Value {
    const PERIOD: u64 = 100_000;
    let mut resources = json!({});
    if hierarchy().v2 {
        resources["memory"] = json!({"limit": wanted.memory.unwrap_or(1 << 30)});
    }
    if let Some(cpus) = wanted.cpus {
        resources["cpu"] = json!({"period": PERIOD, "quota": (cpus * PERIOD as f64) as u64});
    }
    resources
}
