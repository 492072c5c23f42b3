//! A directory of this run, removed at the end of the process.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::guard;

/// Short: sockets live below it. Open to all: a container's user and `nobody` must get through.
pub fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        // On a disk where there is one: docker's overlays do not go on tmpfs.
        let parent = ["/var/tmp", "/tmp"].into_iter().find(|parent| Path::new(parent).is_dir());
        let dir = Path::new(parent.expect("there is a /tmp")).join(format!("mtlive-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for temporary files can be written");
        guard::at_end(&format!("rm -rf --one-file-system {0} 2>/dev/null || rm -rf {0}", dir.display()));
        dir
    })
}

/// A fresh directory.
pub fn dir(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let dir = run_dir().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&dir).expect("the run's directory can be written");
    dir
}
