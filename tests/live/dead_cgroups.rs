//! Cgroups whose page cache and tmpfs files outlive them: the walk over the kernel's lists finds each, those that died before
//! memtrace came too, however it is attached; and it tells what they pin and where they came from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made, hierarchy},
    disk,
    doctor::{self, Alternative},
    guard, in_vm,
    interval::Interval,
    matrix,
    memtrace::{self, Memtrace},
    moment, output,
    scene::{self, During},
    scratch, skip, wait_for,
    workload::{self, Workload},
};

/// Of each cgroup, in KiB.
const FILE: u64 = 192;
const SHMEM: u64 = 64;
const WITHIN: f64 = 0.05;

fn many() -> usize {
    if in_vm() { 60 } else { 500 }
}

/// Fewer, where each alternative gets its own.
fn few() -> usize {
    if in_vm() { 10 } else { 40 }
}

/// A directory of page cache and one of tmpfs, gone with the value.
struct Left {
    disk: PathBuf,
    shm: PathBuf,
}

impl Left {
    fn new(name: &str) -> Left {
        let name = format!("mtlive-{}-{name}", std::process::id());
        let shm = Path::new("/dev/shm").join(&name);
        fs::create_dir_all(&shm).expect("there is a tmpfs at /dev/shm");
        guard::at_end(&format!("rm -rf {}", shm.display()));
        Left { disk: scratch::dir(&name), shm }
    }

    /// Cgroups in `top`, each of which leaves a file in the page cache and one in tmpfs behind and is removed. Every fifth has
    /// one in it that does so, too. Gives how many those are.
    fn die(&self, top: &Made, name: &str, count: usize) -> usize {
        let mut nested = 0;
        // One shell for all: a process for each would be most of the time.
        let mut script = String::from("set -e\n");
        let (top, kib) = (top.dir().display().to_string(), FILE);
        if hierarchy().v2 {
            script.push_str(&format!("echo +memory > {top}/cgroup.subtree_control\n"));
        }
        for number in 0..count {
            let mut dirs = vec![format!("{top}/{name}-{number}")];
            if number % 5 == 0 {
                dirs.push(format!("{}/inner", dirs[0]));
                nested += 1;
            }
            script.push_str(&format!("mkdir -p {}\n", dirs[dirs.len() - 1]));
            if hierarchy().v2 && dirs.len() > 1 {
                script.push_str(&format!("echo +memory > {}/cgroup.subtree_control\n", dirs[0]));
            }
            // On v2 a cgroup with others in it has no process of its own.
            let users = if hierarchy().v2 { &dirs[dirs.len() - 1..] } else { &dirs };
            for (place, user) in users.iter().enumerate() {
                let file = format!("{name}-{number}-{place}");
                let (disk, shm) = (self.disk.join(&file), self.shm.join(&file));
                script.push_str(&format!(
                    "(echo 0 > {user}/cgroup.procs; dd if=/dev/zero of={} bs=64k count={} 2>/dev/null; \
                     dd if=/dev/zero of={} bs=64k count={} 2>/dev/null)\n",
                    disk.display(),
                    kib / 64,
                    shm.display(),
                    SHMEM / 64
                ));
            }
            for dir in dirs.iter().rev() {
                script.push_str(&format!(
                    "left=100; while ! rmdir {dir} 2>/dev/null; do left=$((left - 1)); [ $left -gt 0 ]; sleep 0.02; done\n"
                ));
            }
        }
        let file = scratch::dir("script").join("die");
        fs::write(&file, script).expect("the run's directory can be written");
        let done = output::of(Command::new("sh").arg(&file));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        count + nested
    }

    /// Pages that the files hold by now, by kind.
    fn truth(&self) -> (u64, u64) {
        let size = |dir: &Path| -> u64 {
            let files = fs::read_dir(dir).expect("it is ours").flatten();
            files.map(|file| disk::cached(&file.path())).sum()
        };
        (size(&self.disk), size(&self.shm))
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.shm);
        let _ = fs::remove_dir_all(&self.disk);
        disk::drop_caches();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.remove();
    }
}

/// What the kernel says itself, where it does.
fn kernels_count() -> Option<u64> {
    if hierarchy().v2 {
        let stat = fs::read_to_string(hierarchy().mount.join("cgroup.stat")).ok()?;
        let get =
            |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        return get("nr_dying_subsys_memory ").or_else(|| get("nr_dying_descendants "));
    }
    let groups = fs::read_to_string("/proc/cgroups").ok()?;
    let all: u64 =
        groups.lines().find_map(|line| line.strip_prefix("memory\t")?.split('\t').nth(1)?.parse().ok())?;
    fn directories(dir: &Path) -> u64 {
        let inner = fs::read_dir(dir).into_iter().flatten().flatten();
        1 + inner.filter(|entry| entry.path().is_dir()).map(|entry| directories(&entry.path())).sum::<u64>()
    }
    Some(all.saturating_sub(directories(&hierarchy().mount)))
}

fn start(words: &[&str]) -> Memtrace {
    Memtrace::spawn_as("cgroups", memtrace::command(&["cgroups", "--json", "-i", "1"]).args(words))
}

/// Of the origins whose name begins so: how many, what they pin, whether they were seen alive.
fn of_origin(interval: &Interval, start: &str) -> (u64, u64, bool) {
    let origins = interval.0["by_origin"].as_array().expect("a list");
    let ours = origins.iter().filter(|of| of["origin"].as_str().is_some_and(|name| name.starts_with(start)));
    ours.fold((0, 0, false), |(count, pinned, seen), of| {
        (
            count + of["count"].as_u64().expect("a number"),
            pinned + of["pinned"].as_u64().unwrap_or(0),
            seen || of["seen_alive"] == true,
        )
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

fn near(what: &str, told: u64, truth: u64) {
    let off = told.abs_diff(truth) as f64 / truth.max(1) as f64;
    println!("  {what}: {told}, true {truth}, off by {:.2} %", off * 100.0);
    assert!(off <= WITHIN, "{what}: {told}, true {truth}");
}

/// From so many on `diagnose` tells of them.
const TOLD_FROM: u64 = 100;

fn finding() -> Option<Value> {
    memtrace::found(&scene::diagnose("2").told, "dead-cgroups").into_iter().next()
}

/// Beside others: they are dead already.
pub fn going(during: During<'_>) -> Result<(), String> {
    let mut memtrace = start(&[]);
    let reparents = reparents(&memtrace.next());
    memtrace.stop();
    if reparents {
        return Err("this kernel hands pages on, so that nobody stays dead of them".to_owned());
    }
    let left = Left::new("pair");
    let top = Made::top("pair-dead");
    // Here they pin more than 256 MiB, which is a warning.
    left.die(&top, "pair", if in_vm() { TOLD_FROM as usize } else { 1100 });
    during(vec![("dead-cgroups", String::new())]);
    Ok(())
}

/// The kernel hands pages on, so that nobody stays dead of them.
fn reparents(interval: &Interval) -> bool {
    interval.0["reparents"] == true
}

#[test]
fn those_that_died_before_and_after_are_found_with_what_they_pin() {
    let left = Left::new("dead");
    disk::drop_caches();
    let top = Made::top("dead");
    let before = kernels_count();
    let died_before = left.die(&top, "before", many() / 2);
    let mut memtrace = start(&[]);
    let first = memtrace.next();
    let prefix = format!("{}/before", top.path);
    let died_after = left.die(&top, "after", many() - many() / 2);
    // What was written back is no longer dirty, and stays.
    rustix::fs::sync();
    let all = (died_before + died_after) as u64;
    if reparents(&first) {
        let last = memtrace.later(3);
        println!("  this kernel hands pages on: {} dead, heirs {}", last.0["dead"], last.0["heirs"]);
        let heirs = last.0["heirs"].as_array().expect("a list");
        let ours = heirs.iter().find(|heir| heir["container"]["cgroup"]["path"] == top.path);
        let grown = ours.expect("what is around them got their pages")["growth"].as_u64().expect("it grew");
        assert!(grown >= died_after as u64 * (FILE + SHMEM) * 512, "grown by {grown}");
        memtrace.stop();
        return;
    }
    let is_all = |interval: &Interval| of_origin(interval, &top.path).0 == all;
    let interval = memtrace.until("all of them to be found", is_all).pop().expect("the one that fits");
    let counted = kernels_count().zip(before).map(|(now, before)| now - before);
    println!("  dead {}, ours {all}, the kernel counts {counted:?} more than before", interval.0["dead"]);
    println!("  walk {}", interval.0["walk"]);
    let (count, _, seen) = of_origin(&interval, &prefix);
    assert_eq!((count, seen), (died_before as u64, false), "those that died before attach");
    let (count, _, seen) = of_origin(&interval, &format!("{}/after", top.path));
    // On a busy machine one may be gone before it was looked at: it is among the dead, under what is left of its path.
    let enough = (count..=count + 1 + count / 50).contains(&(died_after as u64));
    assert!(enough && seen, "{count} of {died_after} that were seen, {seen}");
    if let Some(now) = kernels_count() {
        let told = number(&interval.0["dead"]);
        assert!(told.abs_diff(now) <= 2, "dead {told}, the kernel counts {now}");
    }

    let (file, shmem) = left.truth();
    let (_, pinned, _) = of_origin(&interval, &top.path);
    println!("  pinned {}", interval.0["pinned"]);
    near("pinned by ours", pinned, file + shmem);
    // Others on this machine pin something as well, so the kinds are told as differences.
    let kinds =
        |interval: &Interval| (interval.0["pinned"]["file"].as_u64(), interval.0["pinned"]["shmem"].as_u64());
    let (with_file, with_shmem) = kinds(&interval);
    let finding = finding();
    if all >= TOLD_FROM {
        let evidence = &finding.expect("so many are a finding")["evidence"];
        assert!(number(&evidence["count"]).abs_diff(number(&interval.0["dead"])) <= 2, "{evidence}");
    }
    drop(left);
    let gone = memtrace
        .until("them to be let go", |interval| {
            let left = of_origin(interval, &top.path);
            println!("  left {left:?}, the kernel counts {:?}", kernels_count());
            // The kernel keeps some for a page or so each: four on 6.12, of however many.
            left.0 * 20 <= all.max(100)
        })
        .pop()
        .expect("the one that fits");
    println!("  after their files were removed: {} of ours", of_origin(&gone, &top.path).0);
    let (without_file, without_shmem) = kinds(&gone);
    if let (Some(with), Some(without)) = (with_shmem, without_shmem) {
        near("shmem", with.saturating_sub(without), shmem);
    }
    if let (Some(with), Some(without)) = (with_file, without_file) {
        // Caches of others were dropped with ours.
        assert!(
            with.saturating_sub(without) as f64 >= (file + shmem) as f64 * (1.0 - WITHIN),
            "{with} {without}"
        );
    }
    memtrace.stop();
    let dead = number(&gone.0["dead"]);
    assert_eq!(self::finding().is_some(), dead >= TOLD_FROM, "{dead} are left");
}

#[test]
fn every_way_of_walking_finds_them() {
    matrix::each(&doctor::usable("dead_cgroups"), finds_them);
}

fn finds_them(way: &Alternative) {
    let left = Left::new("ways");
    let top = Made::top("ways");
    let before = left.die(&top, "before", few());
    let mut memtrace = start(&["--attach", &way.word()]);
    let first = memtrace.next();
    let after = left.die(&top, "after", few());
    if reparents(&first) {
        memtrace.next();
        memtrace.stop();
        return skip("every_way_of_walking_finds_them", "this kernel hands pages on: nobody stays dead");
    }
    assert_eq!(of_origin(&first, &top.path).0, before as u64, "those that died before attach");
    let all = (before + after) as u64;
    let found = memtrace.until("all of them to be found", |interval| of_origin(interval, &top.path).0 == all);
    let last = found.last().expect("the one that fits");
    println!("  {}: {all} found, walk {}", way.word(), last.0["walk"]);
    assert!(last.0["made_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{}", last.0["made_per_s"]);
    let makers = last.0["makers"].as_array().expect("a list");
    let ours = makers.iter().find(|maker| maker["parent"]["cgroup"]["path"] == top.path);
    assert_eq!(ours.map(|maker| number(&maker["made"])), Some(after as u64), "{makers:?}");
    let lost = number(&last.0["host"]["lost_events"]);
    assert_eq!(lost, 0, "{}", last.0["host"]["losses"]);
    memtrace.stop();
}

/// A walk begins anew when what it stood at is gone, and comes to an end while cgroups come and go.
#[test]
fn a_walk_ends_while_cgroups_come_and_go() {
    let top = Made::top("storm");
    let script = format!(
        "while :; do for i in 1 2 3 4 5 6 7 8; do mkdir -p {0}/$i/a {0}/$i/b; done; rmdir {0}/*/* {0}/*; done 2>/dev/null",
        top.dir().display()
    );
    let mut storm = Command::new("sh").args(["-c", &script]).spawn().expect("there is a shell");
    let mut memtrace = start(&[]);
    let seen = memtrace.take(5);
    let _ = storm.kill();
    let _ = storm.wait();
    for interval in &seen {
        println!("  walk {}, dead {} {}", interval.0["walk"], interval.0["dead"], interval.0["dead_how"]);
        assert!(interval.0["walk"]["took_s"].as_f64().is_some_and(|took| took < 2.0));
    }
    memtrace.stop();
}

#[test]
fn slab_of_the_dead_is_their_parents() {
    let top = Made::top("slab");
    let child = top.child("child");
    let shm = Path::new("/dev/shm").join(format!("mtlive-{}-slab", std::process::id()));
    fs::create_dir_all(&shm).expect("there is a tmpfs at /dev/shm");
    guard::at_end(&format!("rm -rf {}", shm.display()));
    let path = shm.to_str().expect("a path of ours");
    let slab = |cgroup: &Cgroup| -> u64 {
        let dir = cgroup.dir();
        if hierarchy().v2 {
            return cgroup.reading()["slab"];
        }
        let text = fs::read_to_string(dir.join("memory.kmem.usage_in_bytes")).expect("it is there");
        text.trim().parse().expect("a number")
    };
    let mut memtrace = start(&[]);
    let before = number(&memtrace.next().0["inherited_slab"]);
    let workload = Workload::start(&child, &["slab", path, "--files", "20000", "--hold", "forever"]);
    workload.done();
    drop(workload);
    child.remove();
    let truth = slab(&top);
    println!("  the parent has {truth}; 20,000 inodes of a tmpfs");
    assert!(truth > 10 * MIB, "its slab is charged to it: {truth}");
    let enough = |interval: &Interval| {
        interval.0["inherited_slab"].as_u64().is_some_and(|now| now >= before + truth / 20 * 19)
    };
    let with = memtrace.until("the slab to be told", enough).pop().expect("the one that fits");
    println!("  inherited {} with {before} before", with.0["inherited_slab"]);
    assert_eq!(with.0["inherited_slab_how"], "inferred");
    fs::remove_dir_all(&shm).expect("it is ours");
    memtrace.stop();
}

/// In anonymous memory at a steady pace towards a limit: the time that is left is told from early on.
#[test]
fn a_ramp_is_foretold() {
    let (rate, limit) = if in_vm() { (4 * MIB, 64 * MIB) } else { (20 * MIB, 400 * MIB) };
    let top = Made::top("ramp");
    let file = if hierarchy().v2 { "memory.max" } else { "memory.limit_in_bytes" };
    fs::write(top.dir().join(file), limit.to_string()).expect("a limit can be set");
    let mut memtrace = Memtrace::top(&["-i", "0.5"]);
    let mut child = Command::new(workload::binary())
        .args(["--with-parent", "--cgroup"])
        .arg(top.dir())
        .args(["anon", "--total", "1G", "--rate", &rate.to_string(), "--hold", "forever"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the workload can be started");
    let status = wait_for("the kernel to kill it", || child.try_wait().expect("it is our child"));
    assert!(!status.success(), "it was to be killed");
    thread::sleep(Duration::from_millis(600));
    let intervals = memtrace.waiting();
    memtrace.stop();
    let row = |interval: &Interval| interval.row(&top).cloned();
    let times: Vec<(SystemTime, Value)> =
        intervals.iter().filter_map(|interval| Some((interval.at(), row(interval)?))).collect();
    // The last one that holds something is within half a second of the kill: what was left then is known from its usage.
    let current = |row: &Value| row["memory"]["current"].as_u64().unwrap_or(0);
    let most = times.iter().max_by_key(|(_, row)| current(row)).expect("it was seen");
    let kill = most.0 + Duration::from_secs_f64((limit - current(&most.1)) as f64 / rate as f64);
    let mut told = 0;
    for (at, row) in &times {
        let left = moment::since(*at, kill);
        if !(1.0..=10.0).contains(&left) || current(row) == 0 {
            continue;
        }
        let seconds = row["seconds_to_limit"].as_f64();
        let (low, high) = (row["seconds_to_limit_low"].as_f64(), row["seconds_to_limit_high"].as_f64());
        println!("  {left:.2} s left, told {seconds:?} ({low:?} to {high:?})");
        let seconds = seconds.expect("it grows steadily");
        assert_eq!(row["seconds_to_limit_how"], "inferred");
        if !in_vm() {
            assert!((seconds - left).abs() <= left * 0.2 + 0.1, "{seconds} s told, {left} s left");
        }
        told += 1;
    }
    assert!(told >= 10, "told {told} times");
}
