//! Cgroups made by hand in the hierarchy that has the memory controller, and what their files say, read by a way
//! of its own: what memtrace says is compared with this.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::guard;

/// The mount with the memory controller, and whether it is of version 2.
pub struct Hierarchy {
    pub mount: PathBuf,
    pub v2: bool,
}

pub fn hierarchy() -> &'static Hierarchy {
    static HIERARCHY: OnceLock<Hierarchy> = OnceLock::new();
    HIERARCHY.get_or_init(|| {
        let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
        let lines: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
        let v1 = lines.iter().find(|at| at[2] == "cgroup" && at[3].split(',').any(|word| word == "memory"));
        let v2 = lines.iter().find(|at| at[2] == "cgroup2");
        let found = v1.or(v2).expect("a cgroup hierarchy with the memory controller is mounted");
        Hierarchy { mount: PathBuf::from(found[1]), v2: v1.is_none() }
    })
}

/// What a cgroup holds, with all below it, by the words of `top --json`; a kind that the version does not tell is
/// not there.
pub type Reading = BTreeMap<&'static str, u64>;

/// A memory cgroup.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// As memtrace calls it: below the root of the hierarchy.
    pub path: String,
}

impl Cgroup {
    /// The one this process is in.
    pub fn ours() -> Cgroup {
        let lines = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
        let wanted = |controllers: &str| match hierarchy().v2 {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|word| word == "memory"),
        };
        let path = lines.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            wanted(controllers).then(|| path.to_owned())
        });
        Cgroup { path: path.expect("a process is in every hierarchy") }
    }

    pub fn dir(&self) -> PathBuf {
        hierarchy().mount.join(self.path.trim_start_matches('/'))
    }

    /// The inode number of the directory.
    pub fn id(&self) -> u64 {
        fs::metadata(self.dir()).expect("the cgroup is there").ino()
    }

    pub fn usage(&self) -> u64 {
        number(&self.dir(), if hierarchy().v2 { "memory.current" } else { "memory.usage_in_bytes" })
            .expect("the cgroup is there and has the memory controller")
    }

    pub fn reading(&self) -> Reading {
        let dir = self.dir();
        let stat = fs::read_to_string(dir.join("memory.stat")).expect("the cgroup is there");
        let stat: BTreeMap<&str, u64> = stat
            .lines()
            .filter_map(|line| line.split_once(' ').map(|(key, value)| (key, value.parse().unwrap_or(0))))
            .collect();
        let keys: &[(&'static str, &str)] = if hierarchy().v2 {
            &[
                ("anon", "anon"),
                ("file", "file"),
                ("shmem", "shmem"),
                ("dirty", "file_dirty"),
                ("writeback", "file_writeback"),
                ("slab", "slab"),
                ("kernel", "kernel"),
                ("sock", "sock"),
            ]
        } else {
            &[
                ("anon", "total_rss"),
                ("file", "total_cache"),
                ("shmem", "total_shmem"),
                ("dirty", "total_dirty"),
                ("writeback", "total_writeback"),
                ("swap", "total_swap"),
            ]
        };
        let mut reading: Reading =
            keys.iter().filter_map(|(kind, key)| Some((*kind, *stat.get(key)?))).collect();
        let more = if hierarchy().v2 {
            ("swap", "memory.swap.current")
        } else {
            ("kernel", "memory.kmem.usage_in_bytes")
        };
        if let Some(value) = number(&dir, more.1) {
            reading.insert(more.0, value);
        }
        reading.insert("current", self.usage());
        reading
    }
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// A cgroup of ours, removed with the value.
pub struct Made {
    cgroup: Cgroup,
}

impl std::ops::Deref for Made {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        &self.cgroup
    }
}

impl Made {
    /// At the top of the hierarchy, with a name that no other run has.
    pub fn top(name: &str) -> Made {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Made::at(format!("/mtlive-{}-{count}-{name}", std::process::id()))
    }

    pub fn at(path: String) -> Made {
        let made = Made { cgroup: Cgroup { path } };
        let dir = made.dir();
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        guard::at_end(&format!("drop_cgroup '{}'", dir.display()));
        made
    }

    /// One in it, with a name of the caller's choice.
    pub fn child(&self, name: &str) -> Made {
        let control = self.dir().join("cgroup.subtree_control");
        if hierarchy().v2 {
            fs::write(&control, "+memory").expect("the controller can be handed on");
        }
        Made::at(format!("{}/{name}", self.path))
    }

    /// One that others may have made already, and may still use afterwards.
    pub fn shared(path: &str) -> Made {
        let made = Made { cgroup: Cgroup { path: path.to_owned() } };
        let _ = fs::create_dir(made.dir());
        guard::at_end(&format!("rmdir '{}' 2>/dev/null", made.dir().display()));
        made
    }

    pub fn shared_child(&self, name: &str) -> Made {
        Made::shared(&format!("{}/{name}", self.path))
    }

    pub fn cgroup(&self) -> Cgroup {
        self.cgroup.clone()
    }

    /// Moves all processes of another here.
    pub fn take_all(&self, from: &Cgroup) {
        let procs = fs::read_to_string(from.dir().join("cgroup.procs")).expect("the cgroup is there");
        for pid in procs.lines() {
            fs::write(self.dir().join("cgroup.procs"), pid).expect("root may move a process");
        }
    }

    pub fn remove(self) {}
}

impl Drop for Made {
    fn drop(&mut self) {
        // A cgroup stays busy for a moment after its last process is gone.
        let start = Instant::now();
        while let Err(error) = fs::remove_dir(self.dir()) {
            if error.kind() == std::io::ErrorKind::NotFound || start.elapsed() > Duration::from_secs(5) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
