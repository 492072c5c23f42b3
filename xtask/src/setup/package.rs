//! Debian packages: only those that are missing, and no daemon is started by their installation.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::Purpose;
use crate::{
    command::{command, find, is_root, output},
    task::Task,
};

/// A Debian package; one with a `program` counts as there when that is on PATH, wherever it came from.
struct Package {
    name: &'static str,
    program: Option<&'static str>,
    purpose: Purpose,
    why: &'static str,
}

const fn package(
    purpose: Purpose,
    name: &'static str,
    program: Option<&'static str>,
    why: &'static str,
) -> Package {
    Package { name, program, purpose, why }
}

/// A build needs none: whoever runs this has the C linker already, which built it.
const PACKAGES: &[Package] = &[
    package(Purpose::Test, "docker.io", Some("dockerd"), "a runtime memtrace names containers of"),
    package(Purpose::Test, "containerd", Some("containerd"), "below docker; its CRI plugin makes pods"),
    package(Purpose::Test, "runc", Some("runc"), "starts the containers of docker, containerd and podman"),
    package(Purpose::Test, "curl", Some("curl"), "asks containerd's CRI for pods"),
    package(
        Purpose::Test,
        "crun",
        Some("crun"),
        "starts containers in the virtual machine, without a daemon",
    ),
    package(Purpose::Test, "podman", Some("podman"), "a runtime memtrace names containers of"),
    package(
        Purpose::Test,
        "busybox-static",
        None,
        "user space of the virtual machine and of test containers",
    ),
    package(Purpose::Test, "cpio", Some("cpio"), "packs the virtual machine's file system"),
    package(Purpose::Test, "e2fsprogs", Some("mke2fs"), "makes the virtual machine's disk"),
    package(Purpose::Test, "kmod", Some("depmod"), "finds what a kernel module depends on"),
    package(Purpose::Test, "xz-utils", Some("xz"), "unpacks kernel modules"),
    package(Purpose::Test, "qemu-system-x86", Some("qemu-system-x86_64"), "runs other kernels"),
    package(
        Purpose::Test,
        "qemu-system-common",
        Some("qemu-storage-daemon"),
        "a disk as slow as a test wants it",
    ),
    package(Purpose::Test, "qemu-utils", Some("qemu-img"), "fills a container with dirty page cache"),
    package(Purpose::Test, "xfsprogs", Some("mkfs.xfs"), "a file system that is written to"),
    package(Purpose::Test, "bpftool", Some("bpftool"), "shows that nothing of ours is left in the kernel"),
    package(Purpose::Test, "tmux", Some("tmux"), "a terminal for the full-screen view"),
    package(
        Purpose::Test,
        "strace",
        Some("strace"),
        "its counts of system calls, and its cost, are compared with ours",
    ),
    package(
        Purpose::Test,
        "linux-perf",
        Some("perf"),
        "its counts of system calls, and its cost, are compared with ours",
    ),
    package(Purpose::Bench, "fio", Some("fio"), "makes a disk busy"),
    package(
        Purpose::Bench,
        "bpftrace",
        Some("bpftrace"),
        "its time to the first output is compared with ours",
    ),
    package(Purpose::Bench, "atop", Some("atop"), "its cost is compared with ours"),
    package(Purpose::Bench, "netdata-core", Some("netdata"), "its cost is compared with ours"),
];

/// While this file exists, Debian's packages start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub(super) fn look(purpose: Purpose) -> Result<Option<String>> {
    Ok(missing(purpose).is_empty().then(|| "there".to_owned()))
}

pub(super) fn install(purpose: Purpose, task: &Task) -> Result<()> {
    let missing = missing(purpose);
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let line = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if find("apt-get").is_none() {
        bail!("this is no Debian; install by your own package manager: {}", names.join(" "));
    }
    if !is_root() {
        bail!("only root can install packages; run `sudo {line}`, then run this again");
    }
    for package in &missing {
        task.progress(&format!("{}: {}", package.name, package.why));
    }
    let apt = || {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--yes"]);
        apt
    };
    task.run(apt().arg("update")).context("is the network up, and are apt's sources right?")?;
    let _quiet = NoServices::hold()?;
    task.run(apt().args(["install", "--no-install-recommends"]).args(&names))
        .with_context(|| format!("run `{line}` by hand and read what it says"))
}

fn missing(purpose: Purpose) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| package.purpose <= purpose && !is_there(package)).collect()
}

fn is_there(package: &Package) -> bool {
    if package.program.is_some_and(|program| find(program).is_some()) {
        return true;
    }
    output(command("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package.name]))
        .is_ok_and(|status| status == "installed")
}

/// Holds the policy file; one that an administrator made is left as it is.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn hold() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        // 101: "action forbidden by policy", see invoke-rc.d(8).
        file.and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n"))
            .with_context(|| format!("cannot write {POLICY}, which keeps dockerd from being started"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}; remove it, or no package will start its service");
        }
    }
}
