//! The guest's file systems: everything it will ever have, packed into an initramfs, and an empty disk.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};

use super::{kernel::Kernel, nfs_server};
use crate::{
    artifact::Artifacts,
    command::{command, find, not_started, output, shown},
};

/// Lines by which the init and we understand each other; unlikely to be printed by anything else.
pub(super) const MARKER_UP: &str = "@@memtrace-vm-up@@";
pub(super) const MARKER_EXIT: &str = "@@memtrace-vm-exit@@";

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum Layout {
    /// One hierarchy, every controller handed on
    #[default]
    V2,
    /// A hierarchy for each controller
    V1,
    /// As v1, with an empty v2 beside it
    Hybrid,
    /// v2 whose root keeps the memory controller for itself
    RootOnly,
}

impl Layout {
    /// What tells a record of it from the ordinary one of the same kernel.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::V2 => "",
            Self::V1 => "-v1",
            Self::Hybrid => "-hybrid",
            Self::RootOnly => "-root-only",
        }
    }

    /// As the init knows it.
    fn word(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::RootOnly => "root-only",
        }
    }
}

/// What a guest boots with.
pub(super) struct Files {
    pub(super) initramfs: PathBuf,
    /// Mounted on /var/tmp: files in memory are never dirty.
    pub(super) disk: PathBuf,
    /// `/dev/vdb`, not mounted: the emulator lets little through.
    pub(super) slow_disk: PathBuf,
}

const DISK_SIZE: &str = "4G";
const SLOW_DISK_BYTES: u64 = 512 << 20;
const INIT: &str = include_str!("init.sh");
const HOSTNAME: &str = "memtrace-vm";

/// A containerd with its CRI: what runs its containers is crun, and who asks for them is curl.
const CONTAINERD: &[&str] = &["containerd", "containerd-shim-runc-v2", "ctr", "curl"];

const DIRS: &[&str] = &[
    "bin",
    "sbin",
    "usr/bin",
    "usr/sbin",
    "dev",
    "etc",
    "lib64",
    "modules",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "images/busybox/bin",
    "images/busybox/dev",
    "images/busybox/etc",
    "images/busybox/proc",
    "images/busybox/sys",
    "images/busybox/tmp",
];

/// No os-release on purpose: what memtrace says must not rest on the distribution.
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost memtrace-vm\n"),
    ("etc/resolv.conf", ""),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ("images/busybox/etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
];

/// Lays the guest out in `dir` and packs it.
pub(super) fn pack(
    kernel: &Kernel,
    artifacts: &Artifacts,
    script: &str,
    cgroup: Layout,
    dir: &Path,
) -> Result<Files> {
    let root = dir.join("guest");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for dir in DIRS {
        fs::create_dir_all(root.join(dir))
            .with_context(|| format!("cannot make {dir} in {}", root.display()))?;
    }
    for (path, text) in FILES {
        write(&root.join(path), text, 0o644)?;
    }
    write(&root.join("etc/hostname"), &format!("{HOSTNAME}\n"), 0o644)?;
    write(&root.join("init"), INIT, 0o755)?;
    write(&root.join("command"), script, 0o644)?;
    let machine = format!(
        "MARKER_UP={MARKER_UP}\nMARKER_EXIT={MARKER_EXIT}\nGUEST_HOSTNAME={HOSTNAME}\nCGROUP_LAYOUT={}\n",
        cgroup.word()
    );
    write(&root.join("machine"), &machine, 0o644)?;
    lay_out_modules(kernel, &root)?;
    lay_out_programs(artifacts, &root)?;
    if let Err(error) = nfs_server::lay_out(&root.join("nfs-server")) {
        eprintln!("vm: the guest has no server of NFSv4: {error:#}");
    }
    let initramfs = archive(&root, &dir.join("initramfs.cpio"))?;
    let busybox = root.join("bin/busybox");
    Ok(Files {
        initramfs,
        disk: disk(&dir.join("disk"))?,
        slow_disk: slow_disk(&busybox, &dir.join("slow-disk"))?,
    })
}

/// A file with holes, and a file system in it.
fn disk(path: &Path) -> Result<PathBuf> {
    fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    output(command("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(path).arg(DISK_SIZE))?;
    Ok(path.to_owned())
}

/// With a file system whose write-back knows no cgroups: its writers are slowed down by the host's limits alone.
fn slow_disk(busybox: &Path, path: &Path) -> Result<PathBuf> {
    let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.set_len(SLOW_DISK_BYTES).with_context(|| format!("cannot write {}", path.display()))?;
    output(command(busybox).arg("mkdosfs").arg(path))?;
    Ok(path.to_owned())
}

fn lay_out_modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let mut order = String::new();
    for module in kernel.modules()? {
        let name = module.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        copy(&module, &root.join("modules").join(&name))?;
        order.push_str(&format!("/modules/{name}\n"));
    }
    write(&root.join("modules/order"), &order, 0o644)
}

fn lay_out_programs(artifacts: &Artifacts, root: &Path) -> Result<()> {
    let needed = |name: &str| {
        find(name).with_context(|| format!("{name} is not on PATH; run `cargo xtask setup --for test`"))
    };
    let busybox = needed("busybox")?;
    ensure!(
        libraries(&busybox)?.is_empty(),
        "{} is not static; run `apt-get install busybox-static`",
        busybox.display()
    );
    // Busybox's knows no ext4.
    let mut programs = vec![
        ("crun", needed("crun")?),
        ("mke2fs", needed("mke2fs")?),
        ("qemu-img", needed("qemu-img")?),
        ("memtrace", artifacts.memtrace.clone()),
    ];
    programs.extend(artifacts.live_tests.clone().map(|path| ("live-tests", path)));
    let if_there = ["bpftool"].iter().chain(CONTAINERD);
    programs.extend(if_there.filter_map(|name| Some((*name, find(name)?))));
    for (name, path) in &programs {
        copy(path, &root.join("bin").join(name))?;
        for library in libraries(path)? {
            // At its own path, where the loader looks for it.
            let to = root.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(to.parent().unwrap_or(root))
                .with_context(|| format!("cannot make {}", to.display()))?;
            copy(&library, &to)?;
        }
    }
    let image = root.join("images/busybox");
    copy(&busybox, &root.join("bin/busybox"))?;
    copy(&busybox, &image.join("bin/busybox"))?;
    copy(&artifacts.workload, &root.join("bin/workload"))?;
    copy(&artifacts.workload, &image.join("bin/workload"))?;
    for applet in output(command(&busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", image.join("bin").join(applet))
            .with_context(|| format!("cannot link {applet}"))?;
    }
    Ok(())
}

/// What the loader would load, the loader itself included; nothing for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = command("ldd");
    let listed = ldd.arg(program).output().with_context(|| not_started(&ldd))?;
    if !listed.status.success() {
        return Ok(Vec::new());
    }
    Ok(String::from_utf8_lossy(&listed.stdout).lines().filter_map(library).collect())
}

/// `name => /path (address)` or `/path (address)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
    let path = path.split(" (").next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Uncompressed: the emulator copies it faster than the guest would unpack it.
fn archive(root: &Path, to: &Path) -> Result<PathBuf> {
    let mut find = command("find");
    let mut listed = find.args([".", "-print0"]).current_dir(root).stdout(Stdio::piped()).spawn()?;
    let mut cpio = command("cpio");
    cpio.args(["--create", "--format=newc", "--null", "--quiet", "--owner=0:0"]).current_dir(root);
    cpio.stdin(listed.stdout.take().context("cannot read the list of files")?);
    cpio.stdout(fs::File::create(to).with_context(|| format!("cannot make {}", to.display()))?);
    let packed = cpio.status().with_context(|| not_started(&cpio))?;
    let listed = listed.wait().with_context(|| format!("lost `{}`", shown(&find)))?;
    ensure!(packed.success() && listed.success(), "cannot pack {}; is the disk full?", to.display());
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007fff)"), None);
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            Some(PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"))
        );
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x1)"),
            Some(PathBuf::from("/lib64/ld-linux-x86-64.so.2"))
        );
        assert_eq!(library("\tlibnone.so => not found"), None);
    }
}
