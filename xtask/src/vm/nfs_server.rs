//! A real server of NFSv4 for the guests, nfs-ganesha: fetched once with all its libraries, so that it runs in a root of its
//! own and nothing of it is installed here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    apt::{Apt, Archive, newest},
    kernel::{clear, extract},
};
use crate::{
    command::{command, output},
    lock,
    task::Task,
    workspace,
};

const SUITES: &[(&str, Archive)] = &[("bookworm", Archive::Main), ("bookworm-security", Archive::Security)];

/// The server, where it keeps files (in memory), and what either is linked with.
const PACKAGES: &[&str] = &[
    "nfs-ganesha",
    "nfs-ganesha-mem",
    "libacl1",
    "libblkid1",
    "libbsd0",
    "libc6",
    "libcap2",
    "libcom-err2",
    "libdbus-1-3",
    "libgcrypt20",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "liblz4-1",
    "liblzma5",
    "libmd0",
    "libnfsidmap1",
    "libntirpc4.3",
    "libsystemd0",
    "liburcu8",
    "libuuid1",
    "libwbclient0",
    "libzstd1",
];

/// Of packages, but of no use to the server.
const UNUSED: &[&str] = &["usr/share", "usr/lib/x86_64-linux-gnu/gconv"];

const FILES: &[(&str, &str)] = &[
    (
        "etc/ganesha.conf",
        "NFS_CORE_PARAM {\n    Protocols = 4;\n    NFS_Port = 2049;\n    Enable_NLM = false;\n    \
         Enable_RQUOTA = false;\n    Plugins_Dir = /usr/lib/x86_64-linux-gnu/ganesha;\n}\n\
         NFSv4 {\n    Graceless = true;\n    Only_Numeric_Owners = true;\n    RecoveryBackend = fs;\n    RecoveryRoot = /tmp;\n}\n\
         EXPORT {\n    Export_Id = 1;\n    Path = /files;\n    Pseudo = /;\n    Access_Type = RW;\n    Squash = No_Root_Squash;\n    \
         SecType = sys;\n    Protocols = 4;\n    FSAL { Name = MEM; }\n}\n",
    ),
    ("etc/idmapd.conf", "[General]\nDomain = localdomain\n"),
    ("etc/netconfig", "udp tpi_clts v inet udp - -\ntcp tpi_cots_ord v inet tcp - -\n"),
    ("etc/passwd", "root:x:0:0:root:/:/bin/false\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
];
const DIRS: &[&str] = &["dev", "etc", "proc", "run/ganesha", "tmp", "var/lib/nfs/ganesha"];

/// Makes the root in which it runs, which must not be there.
pub(super) fn lay_out(root: &Path) -> Result<()> {
    output(command("cp").arg("--archive").arg(fetched()?).arg(root))?;
    for (path, text) in FILES {
        let path = root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What the packages hold; the same for every guest.
fn fetched() -> Result<PathBuf> {
    let dir = workspace::target().join("vm/nfs-server");
    // Guests are packed side by side.
    let _lock = lock::take(&workspace::target().join("vm/nfs-server.lock"))?;
    if !dir.exists() {
        fetch_into(&dir)?;
    }
    Ok(dir)
}

fn fetch_into(dir: &Path) -> Result<()> {
    let task = Task::start("NFS server", "fetched from Debian, for the guests");
    let fresh = workspace::target().join("vm/nfs-server.partial");
    clear(&fresh)?;
    let (packages, root) = (fresh.join("packages"), fresh.join("root"));
    for dir in DIRS.iter().map(|dir| root.join(dir)).chain([packages.clone()]) {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let apt = Apt::with_suites(workspace::target().join("vm/apt/nfs-server"), SUITES)?;
    let mut found = apt.search(&format!("^({})$", PACKAGES.join("|").replace('.', r"\.")))?;
    let mut wanted = Vec::new();
    for name in PACKAGES {
        let (of, others) = found.into_iter().partition(|package| package.name == *name);
        wanted.push(newest(of).with_context(|| format!("cannot find {name}"))?);
        found = others;
    }
    apt.download(&wanted, &packages)?;
    unpack(&packages, &root)?;
    fs::rename(&root, dir).with_context(|| format!("cannot move {}", root.display()))?;
    clear(&fresh)?;
    task.done();
    Ok(())
}

fn unpack(packages: &Path, root: &Path) -> Result<()> {
    extract(packages, root)?;
    UNUSED.iter().try_for_each(|unused| clear(&root.join(unused)))?;
    let server = root.join("usr/bin/ganesha.nfsd");
    ensure!(server.exists(), "the packages hold no {}", server.display());
    Ok(())
}
