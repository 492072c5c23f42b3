//! memtrace on a host that is as bad as those it is for: with little memory, without a processor to itself, stopped for a
//! while, beside cgroups that come and go by the thousand, with daemons that die, a clock that jumps and a disk that is full.
//! The leak is found all the same.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    time::{ClockId, clock_gettime, clock_settime},
};
use serde_json::json;

use super::limit;
use crate::driver::{
    MIB, bpf,
    cgroup::Made,
    container,
    containerd::forget,
    cpus, crun, disk,
    docker::{Binaries, Docker},
    guard, in_lab, in_vm,
    loops::Loop,
    memtrace, output,
    scene::{self, Report, Wanted},
    scratch, skip, wait_for,
    workload::Workload,
};
use crate::pileup;

/// `diagnose` with more done to it; what it told, and how it ended.
fn diagnose(change: impl FnOnce(&mut Command), meanwhile: impl FnOnce(&Child)) -> Report {
    diagnose_for(if in_vm() { "15" } else { "10" }, change, meanwhile)
}

fn diagnose_for(seconds: &str, change: impl FnOnce(&mut Command), meanwhile: impl FnOnce(&Child)) -> Report {
    let mut command = memtrace::command(&["diagnose", "-d", seconds, "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut command);
    let begun = SystemTime::now();
    let child = command.spawn().expect("memtrace can be started");
    meanwhile(&child);
    Report::of(&child.wait_with_output().expect("it is our child"), begun)
}

fn leak() -> (Workload, Made) {
    disk::drop_caches();
    super::leak("storm-leak")
}

/// The one leak is told, and nothing else is.
fn finds(scene: &str, report: &Report, leaking: &Made) {
    let wanted = [Wanted { kind: "memory-growth", path: &leaking.path }];
    report.is(scene, &json!({ "leaks": leaking.path }), &wanted);
}

#[test]
fn in_64_mib() {
    let (_leak, leaking) = leak();
    let narrow = Made::top("storm-narrow");
    limit(&narrow, 64 * MIB);
    let procs = narrow.dir().join("cgroup.procs");
    let report = diagnose(
        |command| {
            let mut procs = fs::File::options().write(true).open(&procs).expect("it is ours");
            // SAFETY: one write between fork and exec.
            unsafe { command.pre_exec(move || procs.write_all(b"0")) };
        },
        |child| {
            bpf::wait_for_links(child.id());
            // Or its text may go when memory is short.
            let locked = wait_for("its text to be locked", || {
                let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
                let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("it is told");
                locked.trim().trim_end_matches(" kB").parse::<u64>().ok().filter(|locked| *locked > 0)
            });
            println!("  locked {locked} KiB");
        },
    );
    finds("in 64 MiB", &report, &leaking);
}

/// Two that never sleep for each processor.
#[test]
fn without_a_processor() {
    let busy = Made::top("storm-busy");
    let spinning: Vec<Workload> = (0..2 * cpus()).map(|_| Workload::start(&busy, &["spin"])).collect();
    let (_leak, leaking) = leak();
    let report = diagnose(|_| {}, |_| {});
    drop(spinning);
    finds("busy loops", &report, &leaking);
}

/// As by the `z` of a shell, or a machine that is suspended: what is missed is not taken for what was.
#[test]
fn stopped_for_a_while() {
    let (_leak, leaking) = leak();
    let report = diagnose(
        |_| {},
        |child| {
            bpf::wait_for_links(child.id());
            thread::sleep(Duration::from_secs(2));
            let pid = Pid::from_child(child);
            kill_process(pid, Signal::STOP).expect("it is our child, not yet waited for");
            thread::sleep(Duration::from_secs(3));
            kill_process(pid, Signal::CONT).expect("it is our child, not yet waited for");
        },
    );
    finds("stopped for 3 s", &report, &leaking);
}

/// Each with a process of its own.
#[test]
fn beside_thousands_of_cgroups() {
    let count = if in_vm() { 200 } else { 2000 };
    let crowd = Made::top("storm-crowd");
    let (_leak, leaking) = leak();
    let script = scratch::dir("storm").join("crowd");
    let dir = crowd.dir();
    let text = format!(
        "n=0; while [ $n -lt {count} ]; do mkdir {0}/c$n; sh -c 'echo $$ > {0}/c'$n'/cgroup.procs; exec true'; rmdir {0}/c$n; n=$((n+1)); done; echo $n",
        dir.display()
    );
    fs::write(&script, text).expect("the run's directory can be written");
    let mut made = 0;
    let report = diagnose(
        |_| {},
        |_| {
            let done = output::of(Command::new("sh").arg(&script));
            made = String::from_utf8_lossy(&done.stdout).trim().parse().unwrap_or(0);
        },
    );
    assert_eq!(made, count, "all of them were made and removed");
    println!("  lost {}", report.told["host"]["losses"]);
    finds("2,000 cgroups", &report, &leaking);
}

/// Real ones, with all that a runtime does for each, until the last is removed.
#[test]
fn beside_thousands_of_containers() {
    const SCENE: &str = "2,000 containers";
    const LANES: usize = 2;
    const EACH: usize = 1000;
    if in_vm() || !in_lab() {
        return skip(SCENE, "it takes minutes: `cargo xtask lab` runs it");
    }
    disk::drop_caches();
    let leaking = Made::top("storm-leak");
    limit(&leaking, 1900 * MIB);
    let _leak =
        Workload::start(&leaking, &["anon", "--rate", "10M", "--total", "1800M", "--hold", "forever"]);
    let mut ran = Vec::new();
    let report = diagnose_for(
        "600",
        |_| {},
        |child| {
            let start = Instant::now();
            let lanes: Vec<Child> = (0..LANES)
                .map(|lane| {
                    let mut many = crun::many(&format!("crowd{lane}"), EACH);
                    many.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a shell can be started")
                })
                .collect();
            for lane in lanes {
                let said = lane.wait_with_output().expect("it is our child").stdout;
                ran.push(String::from_utf8_lossy(&said).trim().parse::<usize>().unwrap_or(0));
            }
            println!("  {ran:?} containers in {:.0} s", start.elapsed().as_secs_f64());
            kill_process(Pid::from_child(child), Signal::INT).expect("it is our child, not yet waited for");
        },
    );
    assert_eq!(ran, [EACH; LANES], "all of them were run and removed");
    println!("  lost {}", report.told["host"]["losses"]);
    finds(SCENE, &report, &leaking);
}

/// dockerd and containerd die while it looks; the container goes on, and is told by its name.
#[test]
fn daemons_that_are_killed() {
    const SCENE: &str = "daemons killed";
    if in_vm() {
        return skip(SCENE, "the emulated machine has no daemons");
    }
    let mut docker = Docker::start("killed", Binaries::default());
    let words = ["anon", "--rate", "20M", "--total", "500M", "--hold", "forever"];
    let wanted = container::Wanted { name: "leak", words: &words, ..container::Wanted::default() };
    let leaking = docker.run(&wanted, &["--memory", "600m", "--memory-swap", "600m"]);
    let report = diagnose(
        |_| {},
        |child| {
            bpf::wait_for_links(child.id());
            thread::sleep(Duration::from_secs(2));
            docker.dockerd.kill();
            docker.containerd.kill();
        },
    );
    // There is nobody left to remove it.
    guard::at_end(&forget(&leaking.cgroup.path));
    let process = Pid::from_raw(leaking.process() as i32).expect("it has a number");
    kill_process(process, Signal::KILL).expect("it runs");
    let wanted = [Wanted { kind: "memory-growth", path: &leaking.cgroup.path }];
    report.is(SCENE, &json!({ "leaks": leaking.cgroup.path }), &wanted);
    leaking.is(report.finding(&wanted[0]).expect("it is told")).unwrap_or_else(|why| panic!("{why}"));
}

/// The wall clock goes an hour on, and two back: rates and times come from another.
#[test]
fn a_clock_that_jumps() {
    const SCENE: &str = "clock jumps";
    if !in_vm() {
        return skip(SCENE, "the clock is the whole machine's, so it is set in an emulated one only");
    }
    let (_leak, leaking) = leak();
    let jump = |seconds: i64| {
        let mut now = clock_gettime(ClockId::Realtime);
        now.tv_sec += seconds;
        clock_settime(ClockId::Realtime, now).expect("root may set the clock");
    };
    let report = diagnose(
        |_| {},
        |child| {
            bpf::wait_for_links(child.id());
            thread::sleep(Duration::from_secs(3));
            jump(3600);
            thread::sleep(Duration::from_secs(2));
            jump(-7200);
        },
    );
    jump(3600);
    let watched = report.told["duration_s"].as_f64().expect("a time");
    // When it began to look is a time of a clock that may have jumped by then.
    let wanted = [Wanted { kind: "memory-growth", path: &leaking.path }];
    let truth = json!({ "leaks": leaking.path });
    report.is_since(Duration::from_secs_f64(watched), SCENE, &truth, &wanted);
    assert!((9.0..600.0).contains(&watched), "{watched} s by the clock that jumped");
}

/// Nothing that it needs is on a disk; what cannot be written is said.
#[test]
fn a_disk_that_is_full() {
    const SCENE: &str = "full disk";
    let disk = match Loop::mount("ext4", 16) {
        Ok(disk) => disk,
        Err(why) => return skip(SCENE, &why),
    };
    let filled = output::of(Command::new("sh").args([
        "-c",
        &format!(
            "dd if=/dev/zero of={0}/all bs=64k; dd if=/dev/zero of={0}/rest bs=1k; sync",
            disk.mount.display()
        ),
    ]));
    println!("  {}", String::from_utf8_lossy(&filled.stderr).lines().next().unwrap_or_default());
    let (_leak, leaking) = leak();
    let on_it = |command: &mut Command| {
        command.current_dir(&disk.mount).env("HOME", &disk.mount).env("TMPDIR", &disk.mount);
    };
    let report = diagnose(on_it, |_| {});
    finds(SCENE, &report, &leaking);

    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" diagnose -d 2 --json > report"]).arg(memtrace::binary());
    on_it(&mut command);
    let ended = output::of(&mut command);
    let said = String::from_utf8_lossy(&ended.stderr);
    println!("  {said}");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

/// Above its budget it gives up what is dearest, says so, and finds what it is there for.
#[test]
fn above_its_budget() {
    let made = pileup::going(&mut |wanted| {
        let seconds = if in_vm() { "40" } else { "14" };
        let report = scene::diagnose_with(&["--budget", "0.1"], seconds);
        let own = &report.told["host"]["own"];
        println!("  {own}");
        let (kind, path) = &wanted[0];
        let wanted = [Wanted { kind, path }];
        report.is("above its budget", &json!({ "container": path, "budget": 0.001 }), &wanted);
        let says = own["over_budget"][0].as_str().expect("it is said");
        assert!(says.contains("system calls are not counted") && says.contains("0.1 %"), "{says}");
        assert!(own["programs_share"].as_f64().is_some_and(|share| share > 0.0), "{own}");
        // What was counted until then is told.
        let calls = &report.finding(&wanted[0]).expect("it is told")["evidence"]["top_syscalls"];
        assert!(calls.as_array().is_some_and(|calls| !calls.is_empty()), "{calls}");
    });
    made.unwrap_or_else(|why| panic!("{why}"));
    let on = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").expect("it is there");
    assert_eq!(on.trim(), "0", "the kernel's statistics are off again");
}
