//! What living cgroups hold, read all at once: what a cgroup has beyond those that live in it is of its dead, or its own.

use std::{fs, path::Path};

/// One living cgroup, its sizes with all below it; `None` where its version does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub anon: Option<u64>,
    /// With shmem.
    pub file: Option<u64>,
    pub shmem: Option<u64>,
    pub swap: Option<u64>,
    /// v2 only.
    pub sock: Option<u64>,
    /// v2: slab; v1: kernel memory, of which slab is the most.
    pub slab: Option<u64>,
    /// What is charged to the cgroup itself, where its files tell (v1).
    pub own: Option<Own>,
    /// No process is in the cgroup itself.
    pub vacant: bool,
}

/// Of a cgroup alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
    pub swap: u64,
}

/// Reads one; `None` when it is gone.
pub fn read(directory: &Path, v2: bool) -> Option<Held> {
    let file = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let mut held = parse(&file("memory.stat")?, v2);
    if v2 {
        held.swap = number("memory.swap.current");
    } else {
        held.slab = number("memory.kmem.usage_in_bytes");
    }
    held.vacant = file("cgroup.procs").is_some_and(|processes| processes.is_empty());
    Some(held)
}

fn parse(text: &str, v2: bool) -> Held {
    let get = |key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    };
    if v2 {
        return Held {
            anon: get("anon"),
            file: get("file"),
            shmem: get("shmem"),
            slab: get("slab"),
            sock: get("sock"),
            ..Held::default()
        };
    }
    let own = || {
        Some(Own {
            anon: get("rss")?,
            file: get("cache")?,
            shmem: get("shmem")?,
            // Only where swap is counted.
            swap: get("swap").unwrap_or(0),
        })
    };
    Held {
        anon: get("total_rss"),
        file: get("total_cache"),
        shmem: get("total_shmem"),
        swap: get("total_swap"),
        own: own(),
        ..Held::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let v1 = parse("cache 1\nrss 2\nshmem 1\ntotal_cache 10\ntotal_rss 20\ntotal_shmem 5\n", false);
        assert_eq!((v1.anon, v1.file, v1.shmem, v1.swap), (Some(20), Some(10), Some(5), None));
        assert_eq!(v1.own, Some(Own { anon: 2, file: 1, shmem: 1, swap: 0 }));
        let v2 = parse("anon 20\nfile 10\nfile_dirty 3\nslab 7\n", true);
        assert_eq!((v2.anon, v2.file, v2.shmem, v2.slab, v2.own), (Some(20), Some(10), None, Some(7), None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "(cache|rss|slab| |-1|18446744073709551616|\\PC|\n){0,60}") {
            parse(&text, true);
            parse(&text, false);
        }
    }
}
