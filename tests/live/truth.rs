//! What each probe must tell of one fixed scene, whichever way it is attached: the same work on every kernel, and the
//! numbers that are true of it.

use std::process::Command;

use serde_json::Value;

use crate::driver::{
    MIB, batches,
    cgroup::{Cgroup, Made},
    interval::Interval,
    memtrace::Memtrace,
    output,
    workload::{self, Workload},
};

const EXECS: u32 = 20;

/// Panics where a probe did not tell the truth of the scene.
type Truth = fn(&Scene);

/// Each probe with its truth. One whose scene is another has a test of its own, and its name below.
const TRUTHS: &[(&str, Truth)] =
    &[("cgroup_life", cgroup_life), ("task_life", task_life), ("charge", charge)];
/// Probes whose alternatives are forced, and told of in the matrix, by a test elsewhere.
pub const ELSEWHERE: &[&str] = &[
    "charge_site",
    "log_write",
    "dirty",
    "writeback_done",
    "dirty_throttle",
    "oom_kill",
    "reclaim",
    "dead_cgroups",
    "syscall",
    "signal",
    "arrivals",
    "blocked",
    "blocked_before",
];

pub fn of(probe: &str) -> Option<Truth> {
    TRUTHS.iter().find(|(name, _)| *name == probe).map(|(_, truth)| *truth)
}

/// What was done, what cgroupfs said of it, and the intervals that memtrace told meanwhile.
pub struct Scene {
    intervals: Vec<Interval>,
    /// Holds anonymous memory to the end.
    charged: Cgroup,
    /// In bytes, by the workload's own word.
    held: u64,
    /// By cgroupfs, at the end.
    usage: u64,
    /// Ran programs.
    busy: Cgroup,
    /// Path of one that came and went.
    short: String,
}

impl Scene {
    /// With memtrace attached only so.
    pub fn play(attach: &[String]) -> Scene {
        let mut options = vec!["-i", "1"];
        options.extend(attach.iter().flat_map(|word| ["--attach", word.as_str()]));
        let mut memtrace = Memtrace::top(&options);
        let top = Made::top("attach");

        let charged = top.child("charged");
        let workload = Workload::start(&charged, &["anon", "--total", "16M", "--hold", "forever"]);
        let held = workload.done();
        let busy = top.child("busy");
        execute(&busy, EXECS);
        let short = top.child("short");
        let path = short.path.clone();
        let lived = Workload::start(&short, &["anon", "--total", "4M", "--hold", "0.1"]);
        lived.done();
        lived.wait();
        short.remove();

        let mut intervals =
            memtrace.until("the short one to go", |interval| interval.removed(&path).is_some());
        intervals.extend(memtrace.take(2));
        let usage = charged.usage();
        memtrace.stop();
        drop(workload);
        Scene {
            intervals,
            charged: Cgroup::clone(&charged),
            held,
            usage,
            busy: Cgroup::clone(&busy),
            short: path,
        }
    }

    /// Of a rate in one cgroup's rows, over all intervals.
    fn sum(&self, cgroup: &Cgroup, rate: fn(&Value) -> &Value) -> f64 {
        let of = |interval: &Interval| Some(rate(interval.row(cgroup)?).as_f64()? * interval.seconds());
        self.intervals.iter().filter_map(of).sum()
    }
}

/// A shell in the cgroup starts so many programs, which end at once; then it ends as well.
fn execute(cgroup: &Made, count: u32) {
    let script = format!(
        "echo $$ > {}/cgroup.procs; left={count}; \
         while [ $left -gt 0 ]; do {} idle --hold 0; left=$((left - 1)); done",
        cgroup.dir().display(),
        workload::binary().display()
    );
    let ended = output::of(Command::new("sh").args(["-c", &script]));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn cgroup_life(scene: &Scene) {
    let row = scene.intervals.iter().find_map(|interval| interval.removed(&scene.short));
    let removed = &row.expect("it was waited for")["removed"];
    println!("  removed: {removed}");
    let lived = removed["lived_s"].as_f64().expect("it was made while memtrace watched");
    assert!(lived > 0.0 && lived < 30.0, "lived {lived} s");
    if let Some(peak) = removed["peak"].as_u64() {
        assert!((4 * MIB..8 * MIB).contains(&peak), "peak {peak}");
    }
}

fn task_life(scene: &Scene) {
    let execs = scene.sum(&scene.busy, |row| &row["tasks"]["execs_per_s"]).round();
    let exits = scene.sum(&scene.busy, |row| &row["tasks"]["exits_per_s"]).round();
    println!("  execs {execs}, exits {exits}, true {EXECS} and {}", EXECS + 1);
    assert_eq!((execs, exits), (f64::from(EXECS), f64::from(EXECS + 1)));
}

fn charge(scene: &Scene) {
    let Scene { charged, held, usage, .. } = scene;
    let into = scene.sum(charged, |row| &row["charged_per_s"]);
    let out = scene.sum(charged, |row| &row["uncharged_per_s"]);
    println!("  charged {into:.0}, uncharged {out:.0}, true {held}, cgroupfs {usage}");
    assert!(into >= *held as f64, "charged {into}, true {held}");
    assert!(into <= (held + 2 * MIB) as f64, "charged {into}, true {held}");
    let wrong = (into - out - *usage as f64).abs();
    assert!(wrong <= batches() as f64, "charged {into} less {out}, cgroupfs says {usage}");
}
