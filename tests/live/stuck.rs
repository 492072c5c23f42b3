//! Tasks in uninterruptible sleep, made for real: by a file system that is frozen, by the freezer, by vfork. The truth is
//! what this test did and when.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use crate::driver::{
    cgroup::Made,
    guard,
    hung::{Frozen, Hung, Silent, state},
    in_vm,
    memtrace::{self, Memtrace},
    output, scratch, skip, skip_part, wait_for,
    workload::Workload,
};

fn watch(words: &[&str]) -> Memtrace {
    let words = [&["stuck", "--json", "-i", "0.5", "--threshold", "1"], words].concat();
    Memtrace::spawn_as("stuck", &mut memtrace::command(&words))
}

fn task(interval: &Value, pid: u32) -> Option<&Value> {
    interval["tasks"].as_array().expect("tasks are a list").iter().find(|task| task["pid"] == pid)
}

fn known(interval: &Value) -> bool {
    interval["tasks"]
        .as_array()
        .is_some_and(|tasks| tasks.iter().all(|task| !task["sigkill_pending"].is_null()))
}

/// One hung before memtrace, one after it, whichever way the probe is attached.
#[test]
fn writers_of_a_frozen_file_system_are_named() {
    let disk = match Frozen::new() {
        Ok(disk) => disk,
        Err(why) => return println!("  not run: {why}"),
    };
    for kind in ["tp_btf", "raw_tp", "tracepoint"] {
        let top = Made::top("stuck");
        let cgroup = top.child("hung");
        let files = ["before", "after"].map(|name| disk.mount().join(name));
        for file in &files {
            fs::write(file, "x").expect("it is not frozen yet");
        }
        disk.freeze();
        let begun = Instant::now();
        let before = Hung::writer(&cgroup, &files[0]);
        let blocked = Instant::now();
        thread::sleep(Duration::from_millis(2500));
        let mut memtrace = watch(&["--attach", &format!("blocked={kind}")]);
        memtrace.next();
        let started = Instant::now();
        let after = Hung::writer(&cgroup, &files[1]);
        let seen = Instant::now();
        let told = memtrace.until("both to be told", |interval| {
            task(&interval.0, before.pid()).is_some()
                && task(&interval.0, after.pid()).is_some()
                && known(&interval.0)
        });
        let now = Instant::now();
        let told = &told.last().expect("it was waited for").0;
        for pid in [before.pid(), after.pid()] {
            let task = task(told, pid).expect("it was waited for");
            println!(
                "  {kind}: {} {} {:?} {}",
                task["comm"], task["blocked_s"], task["blocked_s_how"], task["waits_on"]
            );
            assert_eq!((&task["comm"], &task["state"]), (&"dd".into(), &"D".into()));
            assert_eq!(task["container"]["cgroup"]["path"], cgroup.path);
            let phrase = task["waits_on"].as_str().expect("a phrase");
            assert!(
                phrase.contains("frozen file system") && phrase.contains("ext4"),
                "{phrase}: {}",
                task["stack"]
            );
            assert!(phrase.contains(&disk.mount().display().to_string()), "{phrase}");
            // Up to some kernel before 6.12 who opens a file to write waits there already.
            let call = task["syscall"].as_str().expect("a call");
            let opens = call.starts_with("openat(AT_FDCWD, \"") && phrase.ends_with(", by its path");
            assert!(call.starts_with("write(1 ") || opens, "{call}: {phrase}");
            assert_eq!(task["sigkill_pending"], false);
        }
        let (old, new) = (task(told, before.pid()).unwrap(), task(told, after.pid()).unwrap());
        let time = |task: &Value| task["blocked_s"].as_f64().expect("a time");
        assert!(new["blocked_s_how"].is_null());
        let (least, most) = (now - seen, now - started);
        assert!(
            time(new) <= most.as_secs_f64() + 0.1 && time(new) + 1.0 >= least.as_secs_f64(),
            "{new}: {least:?} to {most:?}"
        );
        assert_eq!(old["blocked_s_how"], "inferred");
        // No more than it has been, since it last ran shortly before; no less than when memtrace came.
        assert!(time(old) <= (now - begun).as_secs_f64() + 0.1, "{old}");
        assert!(time(old) + 1.0 >= (now - blocked).as_secs_f64(), "{old}");
        for task in told["tasks"].as_array().unwrap() {
            let tid = task["tid"].as_u64().expect("a number") as u32;
            assert_ne!(state(tid), Some('I'), "an idle kernel thread is told: {task}");
        }

        // A signal does not end it, and is seen to be pending.
        let _ = output::of(Command::new("kill").args(["-KILL", &after.pid().to_string()]));
        memtrace.until("the signal to be told", |interval| {
            task(&interval.0, after.pid()).is_some_and(|task| task["sigkill_pending"] == true)
        });
        let thawing = Instant::now();
        disk.thaw();
        let gone = memtrace.until("both to go", |interval| {
            task(&interval.0, before.pid()).is_none() && task(&interval.0, after.pid()).is_none()
        });
        let row = |interval: &Value| {
            let rows = interval["blocked_time"].as_array().expect("the probe serves");
            rows.iter().find(|row| row["container"]["cgroup"]["path"] == cgroup.path).cloned()
        };
        let row = gone.last().and_then(|interval| row(&interval.0)).expect("its sleep ended");
        let max = row["max_s"].as_f64().expect("a time");
        let (least, most) =
            ((thawing - seen).as_secs_f64(), (thawing.elapsed() + (thawing - started)).as_secs_f64());
        println!("  {kind}: {row}, true {least:.3} to {most:.3}");
        assert!(max >= least * 0.99 && max <= most * 1.01, "longest {max}, true {least} to {most}");
        assert!(row["total_s"].as_f64().is_some_and(|total| total >= max), "{row}");
        memtrace.stop();
    }
}

/// What a task that reads or writes past the page cache slept in all: by the kernel's own account where it keeps one (`schedstats`), and by
/// the clock, since such a one does nothing else.
#[test]
fn sleeps_add_up() {
    const NAME: &str = "sleeps_add_up";
    const SWITCH: &str = "/proc/sys/kernel/sched_schedstats";
    let slow = Path::new("/dev/vdb");
    if in_vm() && !slow.exists() {
        return skip(NAME, "the emulated machine has no slow disk");
    }
    let silent = (!in_vm()).then(Silent::new);
    let file = silent.as_ref().map_or(slow, |silent| silent.file.as_path());
    let counted = in_vm() && fs::write(SWITCH, "1").is_ok();
    let top = Made::top("stuck-sum");
    let cgroup = top.child("sum");
    let mut memtrace = watch(&[]);
    memtrace.next();
    let begun = Instant::now();
    // Emulated, the way from a wake-up to the switch takes long. Its disk is slow to write to, so each sleep is longer yet.
    let dd = match in_vm() {
        true => format!("exec dd if=/dev/zero of={} oflag=direct bs=64k 2>/dev/null", file.display()),
        false => format!("exec dd if={} of=/dev/null iflag=direct bs=4k 2>/dev/null", file.display()),
    };
    let reader = Hung::start(&cgroup, &dd);
    thread::sleep(Duration::from_secs(20));
    let pid = Pid::from_raw(reader.pid() as i32).expect("it has a number");
    kill_process(pid, Signal::STOP).expect("it runs");
    wait_for("the reader to be stopped", || (reader.state() == Some('T')).then_some(()));
    let wall = begun.elapsed().as_secs_f64();
    let told = memtrace.later(2);
    let rows = told.0["blocked_time"].as_array().expect("the probe serves");
    let row = rows.iter().find(|row| row["container"]["cgroup"]["path"] == cgroup.path).expect("it slept");
    let total = row["total_s"].as_f64().expect("a time");
    let sched = fs::read_to_string(format!("/proc/{}/sched", reader.pid())).unwrap_or_default();
    let field = |name: &str| -> Option<f64> {
        let rest = sched.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.trim_start_matches([' ', ':']).parse().ok()
    };
    let kernel = field("sum_block_runtime").filter(|_| counted).map(|ms| ms / 1e3);
    println!(
        "  told {total:.3} s in {} sleeps, by the clock {wall:.3}, by the kernel {kernel:?}",
        row["count"]
    );
    match kernel {
        // The wait for a processor after a sleep is told as part of it, and the kernel counts it apart.
        Some(kernel) => {
            let waits = field("wait_sum").unwrap_or(0.0) / 1e3;
            println!("  waits for a processor {waits:.3}");
            assert!(total >= kernel * 0.99, "told {total}, the kernel says {kernel}");
            assert!(total <= (kernel + waits) * 1.01, "told {total}, the kernel says {kernel} and {waits}");
        }
        // The emulated disk is quick to read from: there only the kernel knows.
        None if in_vm() => skip_part(NAME, "this kernel does not sum up the sleeps of a task"),
        None => assert!(total <= wall && total > wall * 0.99, "told {total}, the clock says {wall}"),
    }
    assert!(row["count"].as_u64().is_some_and(|count| count > 50), "{row}");
    memtrace.stop();
    kill_process(pid, Signal::CONT).expect("it is stopped");
}

/// Two that read through one open file: who reads has the lock of its position, and the other waits for that.
#[test]
fn the_owner_of_a_lock_is_named_where_the_kernel_keeps_it() {
    const NAME: &str = "the_owner_of_a_lock_is_named_where_the_kernel_keeps_it";
    if in_vm() {
        return skip(NAME, "the emulated machine has no FUSE server");
    }
    let silent = Silent::new();
    let top = Made::top("stuck-lock");
    let cgroup = top.child("lock");
    let dd = "dd of=/dev/null iflag=direct bs=4k <&3 2>/dev/null";
    let both = Hung::start(&cgroup, &format!("exec 3<{}; {dd} & {dd} & wait", silent.file.display()));
    thread::sleep(Duration::from_secs(1));
    silent.stop();
    let mut memtrace = watch(&[]);
    let ours = |interval: &Value| -> Vec<Value> {
        let tasks = interval["tasks"].as_array().expect("tasks are a list");
        tasks.iter().filter(|task| task["container"]["cgroup"]["path"] == cgroup.path).cloned().collect()
    };
    let told = memtrace
        .until("both to be told", |interval| ours(&interval.0).len() == 2 && known(&interval.0))
        .pop()
        .expect("it was waited for");
    let tasks = ours(&told.0);
    let of = |wait: &str| {
        let found = tasks.iter().find(|task| task["wait"] == wait);
        found.unwrap_or_else(|| panic!("nobody waits for a {wait}: {tasks:#?}"))
    };
    let (reader, waiter) = (of("server"), of("lock"));
    println!("  {} and {}, of {}", reader["waits_on"], waiter["waits_on"], waiter["owner"]);
    assert!(waiter["waits_on"].as_str().is_some_and(|phrase| phrase.contains("file position lock (mutex)")));
    // `task_struct.blocker`: no other field bears that name.
    let types = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    if types.windows(9).any(|name| name == b"\0blocker\0") {
        assert_eq!(waiter["owner"]["tid"], reader["tid"], "{waiter}");
        let held = format!("held by dd[{}]", reader["tid"]);
        assert!(waiter["waits_on"].as_str().is_some_and(|phrase| phrase.contains(&held)), "{waiter}");
    } else {
        assert!(waiter["owner"].is_null(), "{waiter}");
    }
    memtrace.stop();
    silent.end();
    drop(both);
}

/// A parent of vfork is in order, and so is a cgroup that somebody froze.
#[test]
fn what_is_in_order_is_told_apart() {
    if !output::of(Command::new("sh").args(["-c", "command -v python3"])).status.success() {
        return skip("what_is_in_order_is_told_apart", "there is no python3");
    }
    let top = Made::top("stuck-order");
    let cgroup = top.child("order");
    let fifo = scratch::dir("vfork").join("nobody-writes");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("a fifo can be made");
    // glibc spawns as vfork does; the child opens before it runs anything.
    let script = format!(
        "exec python3 -c 'import os\nos.posix_spawn(\"/bin/true\",[\"true\"],{{}},file_actions=[(os.POSIX_SPAWN_OPEN,0,\"{}\",os.O_RDONLY,0)])'",
        fifo.display()
    );
    let parent = Hung::start(&cgroup, &script);
    wait_for("the parent to be blocked", || (parent.state() == Some('D')).then_some(()));
    let mut memtrace = watch(&[]);
    let told = memtrace.until("the parent to be told", |interval| {
        task(&interval.0, parent.pid()).is_some() && known(&interval.0)
    });
    let told = task(&told.last().unwrap().0, parent.pid()).unwrap().clone();
    println!("  {} {}", told["wait"], told["waits_on"]);
    // Its child first, or the parent would wait for that.
    let _ = output::of(Command::new("pkill").args(["-KILL", "-P", &parent.pid().to_string()]));
    assert_eq!((&told["wait"], &told["in_io"]), (&"vfork".into(), &false.into()), "{told}");
    memtrace.stop();
}

/// From 6.1 on such a task sleeps where it slept, and shows as D all the same.
#[test]
fn a_frozen_cgroup_is_no_trouble() {
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    let top = Made::top("stuck-freezer");
    let cgroup = top.child("frozen");
    let (dir, switch, on, off) = if freezer.is_dir() {
        (freezer.join(format!("mtlive-{}-frozen", std::process::id())), "freezer.state", "FROZEN", "THAWED")
    } else if cgroup.dir().join("cgroup.freeze").exists() {
        (cgroup.dir(), "cgroup.freeze", "1", "0")
    } else {
        return skip("a_frozen_cgroup_is_no_trouble", "there is no freezer");
    };
    let apart = dir != cgroup.dir();
    if apart {
        guard::at_end(&format!("rmdir {} 2>/dev/null", dir.display()));
        fs::create_dir(&dir).expect("cgroups can be made");
    }
    let sleeper = Hung::start(&cgroup, "exec sleep 1000");
    fs::write(dir.join("cgroup.procs"), sleeper.pid().to_string()).expect("it can be moved");
    thread::sleep(Duration::from_millis(300));
    guard::at_end(&format!("(echo {off} > {}/{switch}) 2>/dev/null", dir.display()));
    fs::write(dir.join(switch), on).expect("it can be frozen");
    let mut memtrace = watch(&[]);
    // The first look finds it, and it stays for longer than the threshold.
    let told: Vec<_> = memtrace.take(8);
    memtrace.stop();
    let report = memtrace::run(&["diagnose", "--json", "-i", "0.5", "-d", "7"]);
    fs::write(dir.join(switch), off).expect("it can be thawed");
    for interval in &told {
        if let Some(task) = task(&interval.0, sleeper.pid()) {
            assert_eq!(
                (&task["wait"], &task["waits_on"]),
                (&"frozen-cgroup".into(), &"frozen cgroup".into()),
                "{task}"
            );
        }
    }
    println!("  state {:?}, told: {}", sleeper.state(), task(&told[7].0, sleeper.pid()).is_some());
    let report: Value = serde_json::from_slice(&report.stdout).expect("it prints JSON");
    let findings = report["findings"].as_array().expect("a list");
    assert!(findings.iter().all(|one| one["container"]["cgroup"]["path"] != cgroup.path), "{findings:#?}");
    drop(sleeper);
    if apart {
        wait_for("the frozen cgroup to be empty", || fs::remove_dir(&dir).is_ok().then_some(()));
    }
}

/// Who waits for a FUSE server sleeps as one that may be woken, until a signal is to end it: then as one that may not. It is
/// told in both states, and cannot be killed in the second.
#[test]
fn who_waits_for_a_silent_fuse_server_is_told_in_both_its_states() {
    const TEST: &str = "who_waits_for_a_silent_fuse_server_is_told_in_both_its_states";
    if !Path::new("/dev/fuse").exists() {
        return skip(TEST, "there is no /dev/fuse");
    }
    let top = Made::top("fuse");
    let (home, cgroup) = (top.child("server"), top.child("asks"));
    let point = scratch::dir("fuse");
    guard::at_end(&format!("umount -l {} 2>/dev/null", point.display()));
    let server = Workload::start(&home, &["fuse", &point.display().to_string(), "file"]);
    server.done();
    let asks = Hung::start(&cgroup, &format!("exec stat {} 2>/dev/null", point.join("file").display()));
    wait_for("it to ask", || {
        let stack = fs::read_to_string(format!("/proc/{}/stack", asks.pid())).unwrap_or_default();
        stack.contains("request_wait_answer").then_some(())
    });
    let mut memtrace = watch(&[]);
    let server_of = format!("FUSE server of {} (fuse, by its path), which does not answer", point.display());
    for (state, killed) in [("S", false), ("D", true)] {
        if killed {
            let _ = output::of(Command::new("kill").args(["-KILL", &asks.pid().to_string()]));
        }
        let told = memtrace.until("it to be told", |interval| {
            task(&interval.0, asks.pid())
                .is_some_and(|task| task["state"] == state && !task["sigkill_pending"].is_null())
        });
        let task = task(&told.last().expect("it was waited for").0, asks.pid()).expect("it was waited for");
        println!("  {} {} {} {}", task["state"], task["syscall"], task["waits_on"], task["stack"]);
        assert_eq!(
            (&task["waits_on"], &task["sigkill_pending"]),
            (&server_of.as_str().into(), &killed.into())
        );
        assert_eq!(task["container"]["cgroup"]["path"], cgroup.path);
    }
    memtrace.stop();
    // Its end is theirs.
    drop(server);
    wait_for("it to end", || (asks.state() == Some('Z')).then_some(()));
}
