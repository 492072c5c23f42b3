//! Crowds of tasks that wait for their cgroup's next slice of processor. Up to 6.8 a kernel that preempts itself puts a
//! trampoline there only after each task that can run has once left the kernel of its own accord or was met in user space
//! (`synchronize_rcu_tasks`): beside sixty throttled ones that took a minute (seen on 6.1).

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::proc::{state, text};

/// So many that can run are a crowd.
const CROWD: usize = 8;
/// Cgroups and tasks that are looked at.
const CGROUPS: usize = 16 * 1024;
const TASKS: usize = 4096;
/// The number, the name and the state of a task are in so much of its `stat`.
const STAT: u64 = 128;
/// A period of the kernel's (`cpu.max`, unless it is set otherwise), and a little.
const PERIOD: Duration = Duration::from_millis(150);

/// Whether this kernel waits for them when it puts a trampoline there.
pub fn is_waited_for(release: &str, version: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < (6, 9) && version.contains("PREEMPT")
}

/// The cgroup with most of them, where there is a crowd; `cpu`: where the controller is mounted.
pub fn crowd(cpu: &Path, proc: &Path) -> Option<String> {
    let throttled = throttled(cpu);
    let mut tasks = TASKS;
    let mut runnable: Vec<(usize, &Cgroup)> =
        throttled.iter().map(|cgroup| (cgroup.runnable(proc, &mut tasks), cgroup)).collect();
    if runnable.iter().map(|(count, _)| count).sum::<usize>() < CROWD {
        return None;
    }
    // They were throttled once; who is now is throttled again.
    thread::sleep(PERIOD);
    runnable.retain(|(_, cgroup)| times_throttled(&cgroup.limited).is_some_and(|times| times > cgroup.times));
    let count: usize = runnable.iter().map(|(count, _)| count).sum();
    let (_, most) = runnable.into_iter().max_by_key(|(count, _)| *count).filter(|_| count >= CROWD)?;
    let path = most.dir.strip_prefix(cpu).ok()?;
    Some(format!("/{}", path.display()))
}

/// One that is throttled, by itself or by one around it.
struct Cgroup {
    dir: PathBuf,
    limited: PathBuf,
    times: u64,
}

impl Cgroup {
    /// Tasks in it that can run.
    fn runnable(&self, proc: &Path, tasks: &mut usize) -> usize {
        let list = |name: &str| fs::read_to_string(self.dir.join(name)).ok();
        let list = list("cgroup.threads").or_else(|| list("tasks")).unwrap_or_default();
        let some: Vec<&str> = list.lines().take(*tasks).collect();
        *tasks -= some.len();
        let can_run = |task: &&&str| {
            let stat = text(&proc.join(task).join("stat").to_string_lossy(), STAT);
            stat.is_some_and(|stat| state(&stat) == Some('R'))
        };
        some.iter().filter(can_run).count()
    }
}

fn throttled(cpu: &Path) -> Vec<Cgroup> {
    let mut found = Vec::new();
    let mut waiting: Vec<(PathBuf, Option<(PathBuf, u64)>)> = vec![(cpu.to_owned(), None)];
    let mut left = CGROUPS;
    while let Some((dir, around)) = waiting.pop() {
        left -= 1;
        let own = times_throttled(&dir).filter(|times| *times > 0).map(|times| (dir.clone(), times));
        let limited = own.or(around);
        if let Some((limited, times)) = &limited {
            found.push(Cgroup { dir: dir.clone(), limited: limited.clone(), times: *times });
        }
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let room = left.saturating_sub(waiting.len());
        waiting.extend(below.take(room).map(|entry| (entry.path(), limited.clone())));
    }
    found
}

/// Periods in which it was throttled, since it is there.
fn times_throttled(dir: &Path) -> Option<u64> {
    let stat = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn from_6_9_on_and_without_preemption_nobody_is_waited_for() {
        let preempt = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.172-1";
        assert!(is_waited_for("6.1.0-57-cloud-amd64", preempt));
        assert!(is_waited_for("6.8.12", preempt) && is_waited_for("5.14.0-570.el9", preempt));
        assert!(!is_waited_for("6.9.1", preempt) && !is_waited_for("6.12.117", preempt));
        assert!(!is_waited_for("7.2.0-rc1", preempt) && !is_waited_for("?", preempt));
        assert!(!is_waited_for("5.10.0-45-cloud-amd64", "#1 SMP Debian 5.10.262-1"));
    }

    /// A made-up tree in which a pod is throttled again and again, and a container in it has so many tasks.
    fn told(tasks: usize, state: char, goes_on: bool) -> Option<String> {
        let root = tempfile::tempdir().expect("a directory");
        let (cpu, proc) = (root.path().join("cpu"), root.path().join("proc"));
        let container = cpu.join("pod/app");
        fs::create_dir_all(&container).expect("a cgroup");
        // As the kernel's, it is never half there.
        let stat = |times: u64| {
            let new = root.path().join("new");
            fs::write(&new, format!("nr_periods 900\nnr_throttled {times}\n")).expect("a file");
            fs::rename(new, cpu.join("pod/cpu.stat")).expect("the same file system");
        };
        stat(700);
        let list: String = (1..=tasks).map(|task| format!("{task}\n")).collect();
        fs::write(container.join("cgroup.threads"), list).expect("a file");
        for task in 1..=tasks {
            fs::create_dir_all(proc.join(task.to_string())).expect("a task");
            let stat =
                format!("{task} (a) S (du) {state} 1 1 1 0 -1 4194304 100 0 0 0 5 5 0 0 20 0 1 0 100 0 0");
            fs::write(proc.join(task.to_string()).join("stat"), stat).expect("a file");
        }
        let done = AtomicBool::new(!goes_on);
        thread::scope(|scope| {
            scope.spawn(|| {
                for times in (701..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    stat(times);
                    thread::sleep(PERIOD / 30);
                }
            });
            let told = crowd(&cpu, &proc);
            done.store(true, Ordering::Relaxed);
            told
        })
    }

    #[test]
    fn many_that_are_throttled_now_and_can_run_are_a_crowd() {
        assert_eq!(told(CROWD, 'R', true).as_deref(), Some("/pod/app"));
        assert_eq!(told(CROWD - 1, 'R', true), None, "they are few");
        assert_eq!(told(CROWD, 'S', true), None, "they wait for something else");
        assert_eq!(told(CROWD, 'R', false), None, "they were throttled once");
    }
}
