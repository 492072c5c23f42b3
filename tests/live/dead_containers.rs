//! Containers of docker that are gone and whose pages are not: each is counted, and told by the name that it had while it lived.

use std::{fs, path::Path};

use serde_json::Value;

use crate::driver::{
    container::{self, Container, Wanted},
    disk, docker, guard, in_vm,
    interval::Interval,
    memtrace::{self, Memtrace},
    scratch, skip,
};

const CONTAINERS: usize = 24;
/// At a time.
const TOGETHER: usize = 4;
/// What each leaves in the page cache and in a tmpfs, in KiB.
const KIB: u64 = 256;
const WITHIN: f64 = 0.05;
/// So many may have more than their own files: whoever is the first to need a page of a program has that, and a kernel may let go of
/// it and have another read it again.
const WITH_PROGRAMS: usize = CONTAINERS / 4;

/// Those of ours, by the names that they are told by.
fn ours<'a>(interval: &'a Interval, start: &str) -> Vec<&'a Value> {
    let origins = interval.0["by_origin"].as_array().expect("a list");
    origins.iter().filter(|of| of["origin"].as_str().is_some_and(|name| name.contains(start))).collect()
}

struct Scene<'a> {
    disk: &'a Path,
    shm: &'a Path,
}

impl Scene<'_> {
    /// Empty ones: who is the first to want an inode is charged the blocks of the disk around it, too.
    fn make_files(&self, names: &[String]) {
        for name in names.iter().map(String::as_str).chain(["first"]) {
            for dir in [self.disk, self.shm] {
                fs::write(dir.join(name), "").expect("it is ours");
            }
        }
        rustix::fs::sync();
    }

    fn run(&self, name: &str) -> Container {
        let script = format!(
            "busybox cat /bin/busybox >/dev/null; for at in disk shm; do busybox dd if=/dev/zero of=/$at/{name} bs=64k count={}; done; busybox sleep 0.3",
            KIB / 64
        );
        let words = ["-c", script.as_str()];
        let binds = [(self.disk, "/disk"), (self.shm, "/shm")];
        docker::run(&Wanted { binds: &binds, ..Wanted::shell(name, &words) })
    }

    /// What a container's files have in memory by now.
    fn left_by(&self, name: &str) -> u64 {
        [self.disk, self.shm].iter().map(|dir| disk::cached(&dir.join(name))).sum()
    }

    fn remove(&self) {
        for dir in [self.disk, self.shm] {
            let _ = fs::remove_dir_all(dir);
        }
        disk::drop_caches();
    }
}

#[test]
fn containers_that_are_gone_are_told_by_name() {
    const TEST: &str = "containers_that_are_gone_are_told_by_name";
    if in_vm() {
        return skip(TEST, "there is no docker");
    }
    container::warm_up();
    let disk = scratch::dir("left");
    let shm = Path::new("/dev/shm").join(format!("mtlive-{}-containers", std::process::id()));
    fs::create_dir_all(&shm).expect("there is a tmpfs at /dev/shm");
    guard::at_end(&format!("rm -rf {}", shm.display()));
    let names: Vec<String> = (0..CONTAINERS).map(|number| format!("shop-{number}")).collect();
    let scene = Scene { disk: &disk, shm: &shm };
    scene.make_files(&names);
    // Who is the first to run a program has its pages.
    scene.run("first").wait();
    let mut memtrace =
        Memtrace::spawn_as("cgroups", &mut memtrace::command(&["cgroups", "--json", "-i", "1"]));
    if memtrace.next().0["reparents"] == true {
        return skip(TEST, "this kernel hands pages on: nobody stays dead");
    }
    for some in names.chunks(TOGETHER) {
        let running: Vec<_> = some.iter().map(|name| scene.run(name)).collect();
        for container in running {
            container.wait();
        }
    }
    rustix::fs::sync();
    let pid = std::process::id();
    let is_ours = |of: &&Value, name: &str| {
        of["origin"]
            .as_str()
            .is_some_and(|origin| origin.split(' ').any(|word| word == format!("{name}-{pid}")))
    };
    let named = |interval: &Interval| {
        let all = ours(interval, "shop-");
        names.iter().filter(|name| all.iter().any(|of| is_ours(of, name) && of["count"] == 1)).count()
    };
    memtrace.until("all of them to be found", |interval| named(interval) == CONTAINERS);
    let pinned = |of: &Value| of["pinned"].as_u64().expect("it is known") as f64;
    let beyond_truth = |of: &Value| {
        let name = names.iter().find(|name| is_ours(&of, name)).expect("it is one of ours");
        let truth = scene.left_by(name) as f64;
        (pinned(of) - truth) / truth
    };
    let is_true = |interval: &Interval| {
        let beyond: Vec<f64> = ours(interval, "shop-").into_iter().map(beyond_truth).collect();
        println!("  beyond the truth {beyond:.2?}");
        let near = beyond.iter().filter(|beyond| **beyond <= WITHIN).count();
        near >= CONTAINERS - WITH_PROGRAMS && beyond.iter().all(|beyond| *beyond >= -WITHIN)
    };
    // The kernel sums up what its processors counted every two seconds, and later where it has much to do.
    let last = memtrace.until("what each pins to be told", is_true);
    let of_first = |interval: &Interval| {
        let all = ours(interval, "shop-");
        pinned(all.into_iter().find(|of| is_ours(of, &names[0])).expect("it is told"))
    };
    // What the kernel lets go is pinned no longer.
    let before = of_first(last.last().expect("it was waited for"));
    let cached = scene.left_by(&names[0]);
    disk::forget(&disk.join(&names[0]));
    let let_go = (cached - scene.left_by(&names[0])) as f64;
    assert!(scene.left_by(&names[0]) >= KIB * 1024, "the kernel takes nothing of a tmpfs away");
    memtrace.until("what is let go to be pinned no longer", |interval| {
        is_true(interval) && of_first(interval) <= before - let_go * (1.0 - WITHIN)
    });
    let all = ours(last.last().expect("it was waited for"), "shop-");
    println!("  {} origins, the first {}", all.len(), all[0]);
    for of in &all {
        assert_eq!((&of["seen_alive"], &of["runtime"]), (&true.into(), &"docker".into()), "{of}");
    }
    scene.remove();
    memtrace.until("them to be let go", |interval| named(interval) == 0);
    memtrace.stop();
}
