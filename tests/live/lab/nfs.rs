//! An NFS server that is gone, as those who use it see it: one container has its files open, another asks for some by their
//! path. Then it is back.

use std::{thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{
    cgroup::{Cgroup, Made},
    disk,
    hung::{Hung, wait_until_hung},
    memtrace::{self, Memtrace},
    nfs::{Nfs, SOURCE},
    scene::{self, Wanted},
    skip, wait_for,
};

const WATCHED: &str = "8";

/// Opens what the redirections say and stops, to go on with a command when it is told to.
fn opened(cgroup: &Cgroup, redirections: &str, command: &str) -> Hung {
    let hung =
        Hung::start(cgroup, &format!("exec {redirections}; kill -STOP $$; exec {command} 2>/dev/null"));
    wait_for("the files to be open", || (hung.state() == Some('T')).then_some(()));
    hung
}

fn goes_on(hung: &Hung) {
    signal(hung, Signal::CONT);
    wait_until_hung(hung.pid());
}

fn signal(hung: &Hung, signal: Signal) {
    let pid = Pid::from_raw(hung.pid() as i32).expect("it has a number");
    kill_process(pid, signal).expect("it is our child, not yet waited for");
}

fn asks(cgroup: &Cgroup, command: &str) -> Hung {
    let hung = Hung::start(cgroup, &format!("exec {command} 2>/dev/null"));
    wait_until_hung(hung.pid());
    hung
}

fn task(told: &Value, pid: u32) -> Option<&Value> {
    told["tasks"].as_array().expect("tasks are a list").iter().find(|task| task["pid"] == pid)
}

#[test]
fn an_nfs_server_that_is_gone() {
    server_is_gone("nfs-server-gone", Nfs::v3);
}

#[test]
fn an_nfs_server_of_version_4_that_is_gone() {
    server_is_gone("nfs4-server-gone", Nfs::v4);
}

fn server_is_gone(name: &str, mount: impl FnOnce(&[&str]) -> Result<Nfs, String>) {
    disk::drop_caches();
    let nfs = match mount(&["read", "written", "asked", "opened"]) {
        Ok(nfs) => nfs,
        Err(why) => return skip(name, &why),
    };
    let (user, other) = (Made::top("nfs-open"), Made::top("nfs-path"));
    let file = |name: &str| nfs.file(name).display().to_string();
    let reader = opened(&user, &format!("3<{}", file("read")), "dd of=/dev/null bs=4k count=1 <&3");
    let writer = opened(
        &user,
        &format!("3<>{}", file("written")),
        "dd if=/dev/zero bs=4k count=1 conv=notrunc,fsync >&3",
    );
    nfs.stop();
    goes_on(&reader);
    goes_on(&writer);
    let asker = asks(&other, &format!("stat {}", file("asked")));
    let opener = asks(&other, &format!("dd of=/dev/null count=1 if={}", file("opened")));
    let hung = [(&reader, false), (&writer, false), (&asker, true), (&opener, true)];
    thread::sleep(Duration::from_secs(6));

    let server = |by_path: bool| {
        let by_path = if by_path { ", by its path" } else { "" };
        format!("NFS server {SOURCE} at {}{by_path}, which does not answer", nfs.mount.display())
    };
    let report = scene::diagnose(WATCHED);
    let wanted = [&user, &other].map(|cgroup| Wanted { kind: "blocked-io", path: &cgroup.path });
    let truth = json!({ "server": SOURCE, "opened": user.path, "by_path": other.path });
    report.is(name, &truth, &wanted);
    for (wanted, by_path) in wanted.iter().zip([false, true]) {
        let finding = report.finding(wanted).expect("it is there");
        assert_eq!((&finding["kind"], &finding["severity"]), (&wanted.kind.into(), &"warning".into()));
        assert_eq!(finding["evidence"]["waits_on"], server(by_path), "{}", finding["evidence"]);
        assert_eq!(finding["evidence"]["asleep"], 2);
    }

    let words = ["stuck", "--json", "-i", "0.5", "--threshold", "1"];
    let mut memtrace = Memtrace::spawn_as("stuck", &mut memtrace::command(&words));
    let told = memtrace
        .until("all to be told", |told| hung.iter().all(|(hung, _)| task(&told.0, hung.pid()).is_some()));
    for (hung, by_path) in hung {
        let task = task(&told.last().expect("it was waited for").0, hung.pid()).expect("it was waited for");
        println!("  {} {} {} {}", task["comm"], task["syscall"], task["waits_on"], task["stack"]);
        assert_eq!((&task["state"], &task["waits_on"]), (&"D".into(), &server(by_path).into()), "{task}");
    }
    memtrace.stop();

    nfs.resume();
    [reader, writer, asker, opener].into_iter().for_each(Hung::wait);
    scene::diagnose(WATCHED).is(&format!("{name}-back"), &truth, &[]);
}

/// A signal ends who waits for the server; but not who waits for another's lookup of the same name.
#[test]
fn one_that_cannot_be_killed_since_another_asks_a_server_that_is_gone() {
    const SCENE: &str = "nfs-server-gone-killed";
    disk::drop_caches();
    let nfs = match Nfs::v3(&["asked"]) {
        Ok(nfs) => nfs,
        Err(why) => return skip(SCENE, &why),
    };
    let (first, second) = (Made::top("nfs-first"), Made::top("nfs-second"));
    nfs.stop();
    let command = format!("stat {}", nfs.file("asked").display());
    let (asker, waiter) = (asks(&first, &command), asks(&second, &command));
    signal(&waiter, Signal::KILL);
    thread::sleep(Duration::from_secs(6));
    let report = scene::diagnose(WATCHED);
    let wanted = [
        Wanted { kind: "blocked-io", path: &first.path },
        Wanted { kind: "unkillable-task", path: &second.path },
    ];
    let truth = json!({ "server": SOURCE, "asks": first.path, "killed": second.path, "pid": waiter.pid() });
    report.is(SCENE, &truth, &wanted);
    let task = &report.finding(&wanted[1]).expect("it is there")["evidence"]["tasks"][0];
    println!("  {} {} {}", task["syscall"], task["waits_on"], task["stack"]);
    let point = nfs.mount.display();
    let on = format!("directory lookup by another task, nfs at {point} ({SOURCE}), by its path");
    assert_eq!((&task["pid"], &task["waits_on"]), (&waiter.pid().into(), &on.into()), "{task}");
    assert_eq!(waiter.state(), Some('D'));
    // The server is still gone.
    signal(&asker, Signal::KILL);
    wait_for("both to end", || [&asker, &waiter].iter().all(|hung| hung.state() == Some('Z')).then_some(()));
}
