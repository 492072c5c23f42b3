use std::{sync::Arc, time::SystemTime};

use super::*;
use crate::{
    aggregator::oom::kill::{LimitCgroup, Victim},
    resolve::{Cgroup, Container, Runtime},
};

const MIB: u64 = 1 << 20;

fn kill(limit: &str, memory: Composition) -> Kill {
    let path = "/kubepods/pod1/c".to_owned();
    Kill {
        number: 1,
        at: SystemTime::UNIX_EPOCH,
        before_attach: false,
        container: Some(Arc::new(Container {
            runtime: Runtime::Containerd,
            id: "c".to_owned(),
            name: None,
            pod: None,
            namespace: None,
            image: None,
            sandbox: false,
            cgroup: Cgroup { id: 7, path },
        })),
        victim: Victim::default(),
        trigger: None,
        global: Some(false),
        limit_cgroup: Some(LimitCgroup { path: Some(limit.to_owned()), ..LimitCgroup::default() }),
        memory,
        source: None,
        grown: None,
        written_per_s: None,
        processes: Vec::new(),
        top_dirtiers: Vec::new(),
        in_row: None,
        cause: String::new(),
    }
}

fn memory(limit: u64, anon: u64, file: u64) -> Composition {
    let [limit, anon, file] = [limit, anon, file].map(|mib| Some(mib * MIB));
    Composition {
        limit,
        current: limit,
        anon,
        file,
        shmem: Some(0),
        dirty: Some(0),
        ..Composition::default()
    }
}

const OWN: &str = "/kubepods/pod1/c";

#[test]
fn dirty_page_cache_with_its_writer() {
    let mut kill = kill(OWN, Composition { dirty: Some(541 * MIB), ..memory(600, 23, 565) });
    assert_eq!(
        cause(&kill),
        "limit 600 MiB: 541 MiB dirty page cache faster than it was written back; anon only 23.0 MiB"
    );
    let (comm, path) = ("qemu-img".to_owned(), Some("/data/disk.img".to_owned()));
    kill.top_dirtiers = vec![Dirtier { pid: 7, comm, path, dirtied: 900 * MIB }];
    kill.written_per_s = Some(38.0 * MIB as f64);
    assert_eq!(
        cause(&kill),
        "limit 600 MiB: 541 MiB dirty page cache written by qemu-img[7] to /data/disk.img faster than 38.0 MiB/s of \
         write-back; anon only 23.0 MiB"
    );
}

#[test]
fn anonymous_memory_with_its_holder() {
    let mut kill = kill(OWN, memory(256, 250, 2));
    assert_eq!(cause(&kill), "limit 256 MiB: 250 MiB anonymous memory");
    let holder = |pid, comm: &str, mib: u64| Holder {
        pid,
        comm: comm.to_owned(),
        rss: mib * MIB,
        anon: Some(mib * MIB),
    };
    kill.processes = vec![holder(1, "sh", 10), holder(123, "stress", 240)];
    assert_eq!(cause(&kill), "limit 256 MiB: 250 MiB anonymous memory, of which stress[123] held 240 MiB");
    kill.processes = vec![holder(123, "stress", 300)];
    assert!(cause(&kill).ends_with("held 250 MiB"), "no more than there was");
}

#[test]
fn an_ancestor_s_limit_is_named() {
    let text = cause(&kill("/kubepods/pod1", memory(256, 250, 2)));
    assert!(
        text.starts_with("limit 256 MiB of /kubepods/pod1, which the container is in: 250 MiB anon"),
        "{text}"
    );
    let text = cause(&kill("/kubepods/pod1/c/inner", memory(256, 250, 2)));
    assert!(text.starts_with("limit 256 MiB: "), "one in the container: {text}");
}

#[test]
fn shmem_kernel_sock_and_cache_have_their_own() {
    let shmem = Composition { shmem: Some(200 * MIB), ..memory(256, 20, 210) };
    assert!(cause(&kill(OWN, shmem)).contains("200 MiB in tmpfs files and shared memory (shmem)"));
    let kernel = Composition { kernel: Some(200 * MIB), slab: Some(180 * MIB), ..memory(256, 20, 10) };
    let text = cause(&kill(OWN, kernel));
    assert_eq!(text, "limit 256 MiB: 200 MiB kernel memory, of which 180 MiB slab; anon only 20.0 MiB");
    let sock = Composition { sock: Some(200 * MIB), ..memory(256, 20, 10) };
    assert!(cause(&kill(OWN, sock)).contains("200 MiB network buffers (sock)"));
    assert!(cause(&kill(OWN, memory(256, 20, 220))).contains("220 MiB page cache that could not be dropped"));
}

#[test]
fn the_host_and_the_unknown() {
    let mut host = kill(OWN, Composition::default());
    (host.global, host.limit_cgroup) = (Some(true), None);
    host.victim.anon = Some(100 * MIB);
    assert_eq!(cause(&host), "the host had no memory left: the victim held 100 MiB anonymous memory");
    host.processes = vec![Holder { pid: 9, comm: "hog".into(), rss: 900 * MIB, anon: None }];
    let text = cause(&host);
    assert!(text.contains("hog[9] held 900 MiB, the most of all; the victim held 100 MiB"), "{text}");
    let mut unknown = kill(OWN, Composition::default());
    unknown.limit_cgroup = None;
    assert_eq!(cause(&unknown), "a limit that is not known; what it was filled with is not known");
    unknown.memory = Composition { limit: Some(MIB), current: Some(MIB), ..Composition::default() };
    assert_eq!(cause(&unknown), "limit 1.0 MiB: 1.0 MiB in use");
    unknown.victim.anon = Some(MIB);
    let text = cause(&unknown);
    assert_eq!(
        text,
        "limit 1.0 MiB: the victim held 1.0 MiB anonymous memory; what else it was filled with is not known"
    );
}
