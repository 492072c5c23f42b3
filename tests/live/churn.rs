//! Containers that come and go by the hundred, of several runtimes at once: each one's life is told once, as its own.
//! What each allocates says which it is. `MEMTRACE_CHURN=2000` runs so many in ten minutes, for the long look.

use std::{
    collections::{BTreeSet, HashMap},
    env, fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::Made,
    container::{self, Container, Wanted},
    crun, in_vm,
    interval::Interval,
    known::{BESIDE, Known},
    memtrace::Memtrace,
    podman::podman,
    skip,
};

/// One begins every so often, by so many hands.
const PACE: Duration = Duration::from_millis(300);
const HANDS: usize = 6;
/// Amounts differ by what a row may be off, and lie above what the runtime's own start takes in the cgroup.
const LEAST: u64 = 16 * MIB;
const STEPS: u64 = 24;

/// A life that is over.
struct Life {
    known: Known,
    cgroup: u64,
    bytes: u64,
}

/// What memtrace told of one cgroup.
#[derive(Default)]
struct Told {
    /// Names, without the moments in which there was none yet.
    names: BTreeSet<String>,
    ids: BTreeSet<String>,
    paths: BTreeSet<String>,
    runtimes: BTreeSet<String>,
    most: u64,
    removed: Vec<Value>,
}

fn amount(number: u64) -> u64 {
    LEAST + number % STEPS * BESIDE
}

/// Mostly runc, because it is quick: ids and paths used again and again, with and without the shape of an id; between
/// them podman and docker, whose names are used again.
fn start(number: u64, parent: &Made) -> Container {
    let again = number % 200;
    let total = amount(number).to_string();
    let words = ["anon", "--total", &total, "--hold", "0.6"];
    let name = format!("churn-{again}");
    let wanted = Wanted { name: &name, words: &words, ..Wanted::default() };
    match number % 10 {
        0 => container::run(&wanted),
        1..=3 => podman().run(&wanted, None),
        4..=6 => {
            let id = format!("{:060x}{again:04x}", std::process::id());
            let path = format!("{}/{id}", parent.path);
            crun::run_as(&wanted, &id, &path, Known::new("docker", &id, &path))
        }
        _ => {
            let path = format!("{}/{name}", parent.path);
            crun::run_as(&wanted, &name, &path, Known::new("cgroup", &path, &path))
        }
    }
}

fn live(number: u64, parent: &Made) -> Life {
    let container = start(number, parent);
    let cgroup = container.cgroup.id();
    let bytes = container.done();
    let known = (*container).clone();
    container.wait();
    Life { known, cgroup, bytes }
}

fn take_in(told: &mut HashMap<u64, Told>, interval: &Interval) {
    for row in interval.rows() {
        let container = &row["container"];
        let id = container["cgroup"]["id"].as_u64().expect("every row has one");
        let told = told.entry(id).or_default();
        let text = |key: &str| container[key].as_str().map(str::to_owned);
        told.names.extend(text("name"));
        told.ids.extend(text("id"));
        told.runtimes.extend(text("runtime"));
        told.paths.extend(container["cgroup"]["path"].as_str().map(str::to_owned));
        told.most = told.most.max(row["memory"]["anon"].as_u64().unwrap_or(0));
        if !row["removed"].is_null() {
            told.removed.push(row["removed"].clone());
        }
    }
}

impl Life {
    /// What is wrong with what was told of it.
    fn wrong(&self, told: &Told) -> Option<String> {
        let one = |text: &str| BTreeSet::from([text.to_owned()]);
        let names = self.known.name.iter().cloned().collect();
        let right = told.names == names
            && told.ids == one(&self.known.id)
            && told.paths == one(&self.known.cgroup.path)
            && told.runtimes == one(self.known.runtime);
        if !right {
            return Some(format!(
                "told as {:?} {:?} {:?} {:?}",
                told.runtimes, told.ids, told.names, told.paths
            ));
        }
        if told.removed.len() != 1 {
            return Some(format!("removed {} times", told.removed.len()));
        }
        // The kernel's own word at the end, which counts the runtime's start too.
        let peak = told.removed[0]["peak"].as_u64();
        let (most, end) = (self.read(told), self.bytes + BESIDE);
        (peak.is_none_or(|peak| peak < self.bytes) || most >= end || told.most >= end).then(|| {
            format!("held {}, told as {most}, {} in an interval, peak {peak:?}", self.bytes, told.most)
        })
    }

    /// The anonymous memory that was read when it held most. On a busy machine that may be too early a look.
    fn read(&self, told: &Told) -> u64 {
        told.removed[0]["most"]["anon"].as_u64().unwrap_or(0)
    }
}

fn descriptors(memtrace: &Memtrace) -> usize {
    fs::read_dir(format!("/proc/{}/fd", memtrace.pid())).expect("it runs").count()
}

#[test]
fn every_life_of_many_is_told_as_its_own() {
    if in_vm() {
        return skip("every_life_of_many_is_told_as_its_own", "emulated, so many containers take an hour");
    }
    let count: u64 = match env::var("MEMTRACE_CHURN") {
        Ok(count) => count.parse().expect("MEMTRACE_CHURN is a number of containers"),
        Err(_) => 120,
    };
    // The runtimes are started, and the pages that they share charged, before anything counts.
    container::warm_up();
    let parent = Made::top("churn");
    let keeper = parent.child("keeper");
    let mut memtrace = Memtrace::top(&["-i", "1"]);
    let before = memtrace.next().rows().count();

    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let lives = Mutex::new(Vec::new());
    let mut told = HashMap::new();
    let mut seen = Vec::new();
    let mut lost = 0;
    let start = Instant::now();
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count || over.load(Ordering::Relaxed) {
                            return;
                        }
                        thread::sleep((PACE * number as u32).saturating_sub(start.elapsed()));
                        let life = live(number, &parent);
                        lives.lock().expect("no holder of this lock panics").push(life);
                    }
                })
            })
            .collect();
        while !hands.iter().all(|hand| hand.is_finished()) {
            let interval = memtrace.next();
            take_in(&mut told, &interval);
            lost = interval.0["host"]["lost_events"].as_u64().expect("losses are counted");
            seen.push((memtrace.rss(), descriptors(&memtrace)));
        }
        over.store(true, Ordering::Relaxed);
    });
    let took = start.elapsed();
    for interval in memtrace.take(3) {
        take_in(&mut told, &interval);
    }
    let after = memtrace.later(1).rows().count();
    memtrace.stop();
    drop((keeper, parent));

    let lives = lives.into_inner().expect("no holder of this lock panics");
    assert_eq!(lives.len() as u64, count);
    let empty = Told::default();
    let wrong: Vec<String> = lives
        .iter()
        .filter_map(|life| {
            let wrong = life.wrong(told.get(&life.cgroup).unwrap_or(&empty))?;
            Some(format!("{:?} in {}: {wrong}", life.known.name, life.known.cgroup.path))
        })
        .collect();
    let whole = lives.iter().filter(|life| {
        told.get(&life.cgroup).is_some_and(|told| !told.removed.is_empty() && life.read(told) >= life.bytes)
    });
    let whole = whole.count();
    let at = |part: usize| seen[(seen.len() - 1) * part / 2];
    println!(
        "{count} containers in {:.0} s, {} cgroups told, {} wrong, {whole} read whole, {lost} events lost; RSS and descriptors {:?} {:?} {:?}; rows {before}, then {after}",
        took.as_secs_f64(),
        told.len(),
        wrong.len(),
        at(0),
        at(1),
        at(2),
    );
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(whole * 10 > lives.len() * 9, "only {whole} were read when they held all");
    assert_eq!(lost, 0, "nothing was lost");
    // What it holds follows what is there, not what ever was.
    let (half, end) = (at(1), at(2));
    assert!(end.0 < half.0 + 4 * MIB, "RSS went from {} to {}", half.0, end.0);
    assert!(end.1 < half.1 + 24, "descriptors went from {} to {}", half.1, end.1);
    assert!(after <= before + 4, "{before} rows became {after}");
}
