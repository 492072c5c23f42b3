//! The host has no memory left: only in a machine made for tests, after all others.

use std::fs;

use crate::driver::{
    bpf,
    cgroup::Made,
    in_vm,
    memtrace::{self, Memtrace},
    skip,
    workload::Workload,
};

#[test]
fn a_global_kill_is_told() {
    if !in_vm() {
        return skip("a_global_kill_is_told", "it would take this machine's memory");
    }
    let mut command = memtrace::command(&["oom", "--json", "-i", "0.5", "-d", "300"]);
    let mut memtrace = Memtrace::spawn_as("oom", &mut command);
    // Nothing is printed before a kill: attached is who has links of programs.
    bpf::wait_for_links(memtrace.pid());
    std::thread::sleep(std::time::Duration::from_secs(5));
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("it has memory");
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().expect("a number");
    let cgroup = Made::top("oom-global");
    let hog = Workload::start(&cgroup, &["anon", "--total", &format!("{kib}k"), "--hold", "20"]);
    // Whoever asks for the last page, this one is to be killed.
    fs::write(format!("/proc/{}/oom_score_adj", hog.pid()), "1000").expect("root may");
    let kill = memtrace.until("the kill", |kill| kill.0["victim"]["pid"] == hog.pid()).pop();
    let kill = kill.expect("it was waited for").0;
    println!("{kill}");
    assert_eq!((kill["global"].as_bool(), kill["limit_cgroup"].is_null()), (Some(true), true));
    assert_eq!(kill["container"]["cgroup"]["path"], cgroup.path);
    assert!(kill["cause"].as_str().is_some_and(|cause| cause.starts_with("the host had no memory left")));
    memtrace.stop();
}
