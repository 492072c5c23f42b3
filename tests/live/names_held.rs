//! A runtime's files on a disk that does not answer: who reads there sleeps until it does. memtrace goes on, names the
//! containers of other disks, and this one once the disk answers.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::driver::{
    MIB, about,
    cgroup::Made,
    disk, in_vm,
    interval::Interval,
    memtrace::Memtrace,
    scratch, skip,
    slow::SlowDisk,
    wait_for,
    workload::{self, Workload},
};

const HELD: &str = "4e1d70a92567f3fa67dd28837480a929dc188be2c793e9a0546e0b1eb32ca701";
const FREE: &str = "4e1d70a92567f3fa67dd28837480a929dc188be2c793e9a0546e0b1eb32ca702";

/// What docker would keep of a container below its data root.
fn record(root: &Path, id: &str, name: &str) {
    let dir = root.join("containers").join(id);
    fs::create_dir_all(&dir).expect("the disk can be written");
    let config = json!({ "ID": id, "Name": format!("/{name}"), "Config": { "Image": "shop", "Labels": {} } });
    fs::write(dir.join("hostname"), "host\n").expect("the disk can be written");
    fs::write(dir.join("config.v2.json"), config.to_string()).expect("the disk can be written");
}

/// A process of that container: it sees the file that docker mounts, which leads to the data root.
struct Mounted(Child);

impl Mounted {
    fn start(cgroup: &Made, root: &Path, id: &str) -> Mounted {
        let source = root.join("containers").join(id).join("hostname");
        let script = format!(
            "mount --bind '{}' /etc/hostname && exec '{}' --with-parent --cgroup '{}' anon --total 8M --hold forever",
            source.display(),
            workload::binary().display(),
            cgroup.dir().display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("there is unshare");
        wait_for("the process to be in its cgroup", || (cgroup.usage() >= 8 * MIB).then_some(()));
        Mounted(child)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn name(interval: &Interval, cgroup: &Made) -> Option<String> {
    interval.row(cgroup)?["container"]["name"].as_str().map(str::to_owned)
}

fn anon(interval: &Interval, cgroup: &Made) -> u64 {
    let row = interval.row(cgroup).expect("it has a row");
    row["memory"]["anon"].as_u64().expect("it is known")
}

#[test]
fn a_disk_that_does_not_answer_holds_no_interval() {
    if in_vm() {
        return skip("a_disk_that_does_not_answer_holds_no_interval", "no program there slows a disk");
    }
    let disk = SlowDisk::new(16);
    let other = scratch::dir("names");
    record(&disk.mount, HELD, "held");
    record(&other, FREE, "free");
    let top = Made::top("held");
    let docker = top.child("docker");
    let (held, free) = (docker.child(HELD), docker.child(FREE));
    let processes = [Mounted::start(&held, &disk.mount, HELD), Mounted::start(&free, &other, FREE)];
    // What is not cached has to come from the disk.
    disk::drop_caches();
    let hangs = disk.hang();

    let mut memtrace = Memtrace::start(&["-i", "0.5"]);
    let intervals = memtrace.until("the other container's name", |interval| name(interval, &free).is_some());
    let last = intervals.last().expect("it was waited for");
    assert_eq!(name(last, &free).as_deref(), Some("free"));
    let row = last.row(&held).expect("it has a row");
    assert_eq!(
        (&row["container"]["id"], &row["container"]["name"]),
        (&HELD.into(), &serde_json::Value::Null)
    );
    let growing = Workload::start(&held, &["anon", "--total", "40M", "--hold", "forever"]);
    let truth = growing.done();
    let grown = anon(&memtrace.later(2), &held) - anon(last, &held);
    assert!(about(truth, 2 * MIB).contains(&grown), "{grown}, true {truth}");
    let losses = memtrace.next().0["host"]["losses"].to_string();
    assert!(losses.contains("to which a file system did not answer"), "{losses}");

    drop(hangs);
    let named = memtrace.until("its name", |interval| name(interval, &held).is_some());
    assert_eq!(named.last().and_then(|interval| name(interval, &held)).as_deref(), Some("held"));
    memtrace.stop();
    drop((growing, processes));
}
