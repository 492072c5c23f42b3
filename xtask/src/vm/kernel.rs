//! A kernel of Debian's: fetched once, unpacked below `target/vm/`, with the modules that the guest loads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    apt::{Apt, newest},
    release::Release,
};
use crate::{
    command::{command, output},
    task::Task,
    workspace,
};

/// What the tests need and Debian's cloud kernels may have as a module: a disk, file systems to fill and to mount (vfat is one
/// whose write-back knows no cgroups), a client of NFS, and who is connected to whom: a host loads that by itself when it is asked.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "ext4",
    "loop",
    "fuse",
    "unix_diag",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nfsv3",
    "nfsv4",
];

pub(super) struct Kernel {
    /// As `uname -r` says in the guest.
    pub(super) release: String,
    pub(super) image: PathBuf,
    dir: PathBuf,
}

impl Kernel {
    /// The one in the cache, else (or if `refresh`) the newest of its suites.
    pub(super) fn fetch(release: &Release, refresh: bool) -> Result<Self> {
        let dir = workspace::target().join("vm").join(release.label);
        if !refresh && let Some(kernel) = Self::cached(&dir) {
            return Ok(kernel);
        }
        let task = Task::start(&format!("kernel {}", release.label), "fetched from Debian, its newest build");
        // Fetched beside the cache: a fetch that is broken off leaves no half of a kernel.
        let fresh = workspace::target().join("vm").join(format!("{}.partial", release.label));
        clear(&fresh)?;
        fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
        let apt = Apt::with_suites(workspace::target().join("vm/apt").join(release.label), release.suites)?;
        let name = format!("^linux-image-{}.*-cloud-amd64$", release.name);
        let image = newest(apt.search(&name)?).with_context(|| format!("nothing matches {name}"))?;
        task.progress(&format!("{} {}", image.name, image.version));
        let version = image.name.trim_start_matches("linux-image-").to_owned();
        let mut packages = Vec::new();
        // Since 7.0 the image package is empty and depends on the parts.
        for part in ["linux-base", "linux-binary", "linux-modules"] {
            let part = format!("{part}-{version}");
            if image.depends.contains(&part) {
                packages.extend(apt.search(&format!("^{}$", part.replace('.', r"\.").replace('+', r"\+")))?);
            }
        }
        packages.push(image);
        apt.download(&packages, &fresh)?;
        unpack(&fresh, &version)?;
        clear(&dir)?;
        fs::rename(&fresh, &dir).with_context(|| format!("cannot move {}", fresh.display()))?;
        task.done();
        Self::cached(&dir).with_context(|| format!("{} holds no kernel after unpacking", dir.display()))
    }

    fn cached(dir: &Path) -> Option<Self> {
        let release = fs::read_to_string(dir.join("release")).ok()?;
        let image = dir.join("vmlinuz");
        image.exists().then(|| Self { release, image, dir: dir.to_owned() })
    }

    /// The modules to load, unpacked, in the order in which to load them.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        let mut modules = Vec::new();
        for name in MODULES {
            let mut show = command("modprobe");
            show.arg("--dirname").arg(self.dir.join("root"));
            show.args(["--set-version", &self.release, "--show-depends", name]);
            let shown = output(&mut show).with_context(|| format!("cannot find the module {name}"))?;
            for path in shown.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = unpacked(Path::new(path.trim()))?;
                if !modules.contains(&path) {
                    modules.push(path);
                }
            }
        }
        Ok(modules)
    }
}

fn unpack(dir: &Path, version: &str) -> Result<()> {
    let (unpacked, root) = (dir.join("unpacked"), dir.join("root"));
    extract(dir, &unpacked)?;
    // Modules are below /lib in older packages, below /usr/lib in newer ones; so is the image, as `vmlinuz`.
    let modules = ["lib", "usr/lib"].map(|lib| unpacked.join(lib).join("modules").join(version));
    let modules = modules.iter().find(|dir| dir.exists()).context("the package holds no modules")?;
    let images = [unpacked.join("boot").join(format!("vmlinuz-{version}")), modules.join("vmlinuz")];
    let image = images.iter().find(|image| image.exists()).context("the package holds no kernel image")?;
    let moved = |from: &Path, to: &Path| {
        fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
    };
    moved(image, &dir.join("vmlinuz"))?;
    fs::create_dir_all(root.join("lib/modules"))
        .with_context(|| format!("cannot make {}", root.display()))?;
    moved(modules, &root.join("lib/modules").join(version))?;
    output(command("depmod").arg("--basedir").arg(&root).arg(version))?;
    clear(&unpacked)?;
    fs::write(dir.join("release"), version).with_context(|| format!("cannot write in {}", dir.display()))
}

/// Every package in a folder.
pub(super) fn extract(packages: &Path, into: &Path) -> Result<()> {
    for package in fs::read_dir(packages).with_context(|| format!("cannot read {}", packages.display()))? {
        let package = package.context("cannot read the folder of packages")?.path();
        if package.extension().is_some_and(|end| end == "deb") {
            output(command("dpkg-deb").arg("--extract").arg(&package).arg(into))?;
        }
    }
    Ok(())
}

/// The guest's insmod takes no compressed modules.
fn unpacked(module: &Path) -> Result<PathBuf> {
    if module.extension().is_none_or(|end| end != "xz") {
        return Ok(module.to_owned());
    }
    let plain = module.with_extension("");
    if !plain.exists() {
        output(command("xz").args(["--decompress", "--keep"]).arg(module))?;
        ensure!(plain.exists(), "xz left no {}", plain.display());
    }
    Ok(plain)
}

pub(super) fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
