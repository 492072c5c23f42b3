//! What every container of ours consists of: a static busybox and the workload, which need nothing else. As a tree,
//! and packed in the ways that runtimes take.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::json;

use super::{output, scratch, workload};

pub const IMAGE: &str = "mtlive:1";

/// The root file system, not to be written.
pub fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let root = scratch::dir("image");
        for dir in ["bin", "dev", "etc", "proc", "scratch", "sys", "tmp"] {
            fs::create_dir_all(root.join(dir)).expect("the run's directory can be written");
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.expect("busybox is there; `cargo xtask setup --for test` installs it");
        fs::copy(busybox, root.join("bin/busybox")).expect("it can be copied");
        fs::copy(workload::binary(), root.join("bin/workload")).expect("it can be copied");
        for name in ["sh", "du"] {
            symlink("busybox", root.join("bin").join(name)).expect("a link can be made");
        }
        root
    })
}

/// The host's programs with their libraries, to be bound into a container of docker that runs one.
pub fn host_programs() -> Vec<(&'static Path, &'static str)> {
    let all = [("/usr", "/usr:ro"), ("/lib", "/lib:ro"), ("/lib64", "/lib64:ro")];
    all.into_iter().map(|(from, to)| (Path::new(from), to)).filter(|(from, _)| from.exists()).collect()
}

/// As `docker import` and `podman import` take it.
pub fn tar() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let tar = scratch::dir("image").join("layer.tar");
        ran(Command::new("tar").arg("--create").arg("--file").arg(&tar).arg("-C").arg(tree()).arg("."));
        tar
    })
}

/// As `docker load` and `ctr images import` take it.
pub fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let dir = scratch::dir("archive");
        let layer = dir.join("layer.tar");
        fs::hard_link(tar(), &layer).expect("the run's directory is one file system");
        let sum = ran(Command::new("sha256sum").arg(&layer));
        let sum = sum.split(' ').next().expect("it begins with the sum");
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Cmd": ["/bin/workload", "idle"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
        for (name, text) in [("config.json", config), ("manifest.json", manifest)] {
            fs::write(dir.join(name), text.to_string()).expect("the run's directory can be written");
        }
        let archive = dir.join("archive.tar");
        let mut pack = Command::new("tar");
        pack.arg("--create").arg("--file").arg(&archive).arg("-C").arg(&dir);
        ran(pack.args(["manifest.json", "config.json", "layer.tar"]));
        archive
    })
}

/// What a command printed that must succeed.
pub fn ran(command: &mut Command) -> String {
    let output = output::of(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
