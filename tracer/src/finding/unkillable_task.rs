//! Tasks of a container that cannot die, those who keep trying, and what each try costs the daemon.
//!
//! SIGKILL is pending and the task sleeps where no signal is looked at: nothing that is sent ends it, only what it waits for.
//! Whoever wants the container gone tries again, and a daemon that waits for the end keeps a connection and threads for
//! each try. Which daemon that is, is told by what it does: it serves this container, and it sends the signals itself, or
//! grows while they are sent.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Finding, Kind, Nature, Severity,
    account::{Account, Accounts},
    evidence::{Evidence, Value},
    named, remedy,
};
use crate::{
    aggregator::{
        daemon::{Daemon, Daemons},
        stream::Process,
        stuck::StuckTask,
    },
    quantity::{bytes, seconds},
    resolve::{Container, label::label},
};

/// Tasks that are told one by one.
const TOLD: usize = 32;

/// A shim in evidence.
#[derive(Serialize)]
struct Shim<'a> {
    #[serde(flatten)]
    process: &'a Process,
    fds: Option<u64>,
    fd_growth: Option<i64>,
    threads: Option<u64>,
    threads_growth: Option<i64>,
    kill_attempts: Option<u64>,
}

pub(super) fn check(
    stuck: &[Arc<StuckTask>],
    daemons: Option<&Daemons>,
    accounts: &Accounts,
) -> Vec<Finding> {
    let mut by_row: BTreeMap<u64, Vec<&StuckTask>> = BTreeMap::new();
    for task in stuck.iter().filter(|task| task.is_unkillable()) {
        by_row.entry(task.container.cgroup.id).or_default().push(task);
    }
    let mut found = Vec::new();
    for (row, mut tasks) in by_row {
        tasks.sort_by(|a, b| b.blocked_s.total_cmp(&a.blocked_s).then(a.tid.cmp(&b.tid)));
        let shims: Vec<&Daemon> =
            daemons.iter().flat_map(|daemons| daemons.shims(row)).map(AsRef::as_ref).collect();
        let servers = daemons.iter().flat_map(|daemons| daemons.servers(row)).map(AsRef::as_ref);
        let daemon = servers.max_by_key(|daemon| rank(daemon, &tasks));
        let account = daemon.and_then(|daemon| accounts.get(&daemon.process));
        let case = Case { container: &tasks[0].container, daemon, account, shims, tasks: &tasks };
        found.push(case.finding());
    }
    found
}

/// Who of several is at the end of the chain: who sends most of the signals, then who grows most.
fn rank(daemon: &Daemon, tasks: &[&StuckTask]) -> (u64, i64, i64, usize, u32) {
    let growth = daemon.growth.fds.unwrap_or(0).max(0) + daemon.growth.threads.unwrap_or(0).max(0);
    let memory = daemon.growth.anon.unwrap_or(0).max(0);
    (sent_by(daemon.process.pid, tasks), growth, memory, daemon.serves.len(), daemon.process.pid)
}

/// SIGKILLs by a process itself or by what it started, to the processes of these tasks.
fn sent_by(pid: u32, tasks: &[&StuckTask]) -> u64 {
    let killers = of_processes(tasks).flat_map(|task| &task.killers);
    killers.filter(|killer| killer.pid == pid).map(|killer| killer.count).sum()
}

/// One task of each process: signals are counted by process.
fn of_processes<'a>(tasks: &'a [&StuckTask]) -> impl Iterator<Item = &'a StuckTask> {
    let mut seen = HashSet::new();
    tasks.iter().copied().filter(move |task| seen.insert(task.pid))
}

struct Case<'a> {
    container: &'a Arc<Container>,
    daemon: Option<&'a Daemon>,
    account: Option<&'a Account>,
    shims: Vec<&'a Daemon>,
    tasks: &'a [&'a StuckTask],
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        let daemon = self.daemon;
        Finding {
            id: format!("{}:{}", Kind::UnkillableTask.as_str(), self.container.id),
            kind: Kind::UnkillableTask,
            severity: Severity::Critical,
            container: Some(Arc::clone(self.container)),
            daemon: daemon.map(|daemon| daemon.process.clone()),
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: self.refuted_by(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: daemon.and_then(|daemon| daemon.growth.anon).map_or(0, |growth| growth.max(0) as u64),
            grown: None,
            nature: Nature::Plain,
        }
    }

    /// `None` without the probe.
    fn attempts(&self) -> Option<u64> {
        of_processes(self.tasks).map(|task| task.kill_attempts).sum()
    }

    fn evidence(&self) -> Evidence {
        let tasks: Vec<&StuckTask> = self.tasks.iter().copied().take(TOLD).collect();
        let attempts = |pid| self.attempts().map(|_| sent_by(pid, self.tasks));
        let shims: Vec<Shim<'_>> = self
            .shims
            .iter()
            .map(|shim| Shim {
                process: &shim.process,
                fds: shim.fds.map(|fds| fds.total),
                fd_growth: shim.growth.fds,
                threads: shim.threads,
                threads_growth: shim.growth.threads,
                kill_attempts: attempts(shim.process.pid),
            })
            .collect();
        let daemon = self.daemon;
        let own = daemon.map(|daemon| attempts(daemon.process.pid));
        let of = |number: fn(&Daemon) -> Option<u64>| Value::Count(daemon.and_then(number));
        let grown = |number: fn(&Daemon) -> Option<i64>| Value::Difference(daemon.and_then(number));
        let shim_growth: Option<i64> = self.shims.iter().map(|shim| shim.growth.fds).sum();
        let clients = daemon.and_then(|daemon| daemon.clients.clone());
        let evidence = Evidence::default()
            .with("tasks", "tasks", Value::record(&tasks))
            .with("stuck_tasks", "tasks that cannot die", Value::Count(Some(self.tasks.len() as u64)))
            .with("kill_attempts", "SIGKILLs sent since attach", Value::Count(self.attempts()))
            .with("daemon_kill_attempts", "of them by the daemon itself", Value::Count(own.flatten()))
            .with("daemon_fds", "descriptors of the daemon", of(|daemon| Some(daemon.fds?.total)))
            .with("daemon_fd_growth", "growth of that over the run", grown(|daemon| daemon.growth.fds))
            .with("daemon_threads", "its threads", of(|daemon| daemon.threads))
            .with("daemon_threads_growth", "growth of that", grown(|daemon| daemon.growth.threads))
            .with(
                "daemon_growth",
                "growth of its anonymous memory",
                Value::Growth(daemon.and_then(|daemon| daemon.growth.anon)),
            );
        Account::tell(self.account, evidence)
            .with("daemon_accepted", "connections that it keeps open", of(|daemon| daemon.accepted))
            .with("shims", "shims", Value::record(&shims))
            .with(
                "shim_fd_growth",
                "growth of the descriptors of the container's shim",
                Value::Difference(shim_growth.filter(|_| !self.shims.is_empty())),
            )
            .with("clients", "holds connections to the daemon:", Value::Clients(clients))
    }

    fn summary(&self) -> String {
        let first = self.tasks[0];
        let who = label(self.container);
        let what = match self.tasks.len() {
            1 => format!("{}[{}]", first.comm, first.pid),
            more => format!("{more} tasks, {}[{}] among them,", first.comm, first.pid),
        };
        let mut said = format!("{who} cannot be killed: {what} {}", place(first));
        said.push_str(&format!(" for {} at least, SIGKILL pending", seconds(first.blocked_s)));
        if let Some(attempts) = self.attempts().filter(|attempts| *attempts > 0) {
            said.push_str(&format!("; {attempts} more sent since attach"));
            if let Some(most) =
                of_processes(self.tasks).flat_map(|task| &task.killers).max_by_key(|one| one.count)
            {
                said.push_str(&format!(", most by {}[{}]", most.comm, most.pid));
            }
        }
        if let Some(daemon) = self.daemon {
            let grown = grown(daemon);
            if !grown.is_empty() {
                said.push_str(&format!("; meanwhile {} grew by {grown}", named(&daemon.process)));
            }
        }
        said
    }

    fn advice(&self) -> Vec<String> {
        let first = self.tasks[0];
        let mut advice = vec![
            format!("Nothing that is sent ends the task, only what it waits for. {}", remedy::repair(first)),
            remedy::stack(first),
        ];
        match self.daemon {
            Some(daemon) => advice.push(format!(
                "Stop whatever repeats the stop or kill of this container: each try costs {} a connection and does not \
                 end the task.",
                named(&daemon.process)
            )),
            None => advice.push(
                "Stop whatever repeats the stop or kill of this container: it does not end the task.".to_owned(),
            ),
        }
        if let Some(daemon) = self.daemon.filter(|daemon| !grown(daemon).is_empty()) {
            advice.push(format!(
                "A restart of {} gives back what it holds; it helps only once the tries have ended.",
                named(&daemon.process)
            ));
        }
        advice.extend(Account::doubt(self.account));
        advice
    }

    fn refuted_by(&self) -> String {
        let first = self.tasks[0];
        let mut said = format!(
            "A State in /proc/{}/task/{}/status that is not D, or ctxt_switches there that rise: then it moves and will \
             end by itself.",
            first.pid, first.tid
        );
        if let Some(daemon) = self.daemon {
            said.push_str(&format!(
                " Descriptors of {} that grow just as much while nobody tries to end the container: then that has another \
                 cause.",
                named(&daemon.process)
            ));
        }
        said
    }
}

/// Where it sleeps.
fn place(task: &StuckTask) -> String {
    match &task.waits_on {
        Some(on) => format!("waits on {on}"),
        None => "is blocked".to_owned(),
    }
}

/// What grew of a process: `12 descriptors, 3 threads, 1.2 MiB`.
pub(super) fn grown(daemon: &Daemon) -> String {
    let count = |growth: Option<i64>, one: &str| {
        growth.filter(|growth| *growth > 0).map(|growth| match growth {
            1 => format!("1 {one}"),
            more => format!("{more} {one}s"),
        })
    };
    let parts = [
        count(daemon.growth.fds, "descriptor"),
        count(daemon.growth.threads, "thread"),
        daemon.growth.anon.filter(|growth| *growth >= 1 << 20).map(|growth| bytes(growth as f64)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
