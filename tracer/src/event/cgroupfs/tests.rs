//! Texts as the kernels print them, and a made-up tree.

use std::collections::HashSet;

use super::{
    file::{limit, parse_stat, throttled},
    *,
};

#[test]
fn v1_takes_hierarchical_keys_and_v2_its_own() {
    let v1 = parse_stat("cache 1\nrss 2\ntotal_cache 10\ntotal_rss 20\ntotal_dirty 3\nslab 9\n", false);
    assert_eq!((v1.file, v1.anon, v1.dirty, v1.slab), (Some(10), Some(20), Some(3), None));
    let v2 = parse_stat("anon 5\nfile 6\nkernel 7\nslab 8\nfile_writeback 0\ngarbage\nsock x\n", true);
    assert_eq!((v2.anon, v2.file, v2.kernel, v2.slab), (Some(5), Some(6), Some(7), Some(8)));
    assert_eq!((v2.writeback, v2.sock), (Some(0), None), "zero is known, garbage is not");
}

proptest::proptest! {
    #[test]
    fn any_text_is_no_panic(text in "(anon |total_rss |nr_periods | |18446744073709551615|\\PC|\n){0,100}") {
        parse_stat(&text, true);
        parse_stat(&text, false);
        throttled(&text);
        limit(&text);
    }
}

#[test]
fn unlimited_is_no_limit() {
    assert_eq!(limit("max\n"), None);
    assert_eq!(limit("9223372036854771712\n"), None);
    assert_eq!(limit("104857600\n"), Some(104_857_600));
}

#[test]
fn no_quota_is_no_share() {
    assert_eq!(throttled("nr_periods 0\nnr_throttled 0\n"), None);
    assert_eq!(throttled("usage_usec 1\nnr_periods 8\nnr_throttled 2\n"), Some((8, 2)));
}

/// A made-up tree: what stands still costs one read of usage, and a removed cgroup is unknown, not zero.
#[test]
fn reads_stat_only_with_a_reason() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("a");
    fs::create_dir(&dir).expect("a cgroup");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a file");
    write("memory.current", "4096\n");
    write("memory.stat", "anon 4096\nfile 0\nsock 0\n");
    write("memory.max", "max\n");
    let mut cgroupfs = Cgroupfs::open(root.path(), true, None, None).expect("a mount");
    cgroupfs.watch(7, "/a");
    let start = Instant::now();
    let mut sample = |after: u64| {
        let mut events = Vec::new();
        cgroupfs.sample(start + Duration::from_secs(after), &HashSet::new(), &mut events);
        events
    };
    let first = sample(0);
    let [Event::Sampled { id: 7, usage: Some(4096), stat: Some(stat) }] = first.as_slice() else {
        panic!("{first:?}");
    };
    assert_eq!((stat.kernel, stat.kernel_inferred), (Some(0), true), "5.10 has no kernel key");
    assert!(sample(1).is_empty(), "nothing moved");
    write("memory.current", "8192\n");
    assert!(matches!(sample(2).as_slice(), [Event::Sampled { usage: Some(8192), stat: Some(_), .. }]));
    assert!(sample(3).is_empty());
    write("memory.stat", "anon 8192\nfile 0\nsock 0\n");
    assert!(sample(4).is_empty());
    assert!(
        matches!(sample(5).as_slice(), [Event::Sampled { stat: Some(_), .. }]),
        "the kernel gathers late"
    );
    write("memory.stat", "anon 8000\nfile 0\nsock 0\n");
    assert!(sample(14).is_empty());
    assert!(matches!(sample(15).as_slice(), [Event::Sampled { stat: Some(_), .. }]), "the sweep");
    assert!(sample(26).is_empty(), "a sweep that finds nothing new");
    write("memory.stat", "anon 0\nfile 8192\nsock 0\n");
    assert!(sample(37).is_empty(), "what stands still is swept less often");
    assert!(matches!(sample(56).as_slice(), [Event::Sampled { stat: Some(_), .. }]), "but it is");
    assert!(sample(57).is_empty());
    write("memory.current", "4096\n");
    assert!(matches!(sample(58).as_slice(), [Event::Sampled { usage: Some(4096), stat: Some(_), .. }]));
}

/// The kernel hands a page of them out with each read.
#[test]
fn more_processes_than_one_read_has() {
    let root = tempfile::tempdir().expect("a directory");
    let text: String = (1..=5000).map(|pid| format!("{pid}\n")).collect();
    fs::write(root.path().join("cgroup.procs"), text).expect("a file");
    let cgroupfs = Cgroupfs::open(root.path(), true, None, None).expect("a mount");
    assert_eq!(cgroupfs.processes_at("/", 4096), (1..=4096).collect::<Vec<u32>>());
    assert_eq!(cgroupfs.processes_at("/", 9000).len(), 5000);
    assert!(cgroupfs.processes_at("/none", 9).is_empty());
}
