//! A daemon whose descriptors or threads only grow: what it opens for a request it does not close.
//!
//! Load comes and goes, so growth between two looks says nothing. The time that was watched is cut into quarters; the least
//! that it had in each must be more than in the one before, and all of it a number that is no accident; of a long run the last
//! minutes are looked at likewise. A shim is looked at
//! likewise, for the container that it serves.

use std::{borrow::Cow, sync::Arc};

use super::{
    Finding, Kind, Look, Nature, Severity,
    account::{Account, Accounts},
    evidence::{Evidence, Value},
    named,
    unkillable_task::grown,
};
use crate::{
    aggregator::daemon::{Daemon, Daemons, Growth, Role},
    quantity::seconds,
    resolve::label::label,
};

/// Watched for less, nothing is said.
const WATCHED: f64 = 8.0;
const LOOKS: u32 = 8;
/// Fewer are an accident.
const SEVERAL: u64 = 8;

/// Where `told` has findings of tasks that cannot die, what those explain is told with them.
pub(super) fn check(
    look: &Look<'_>,
    daemons: &Daemons,
    accounts: &Accounts,
    told: &mut [Finding],
) -> Vec<Finding> {
    let mut found = Vec::new();
    for daemon in &daemons.daemons {
        // In a long run what begins late is hidden by what was before.
        let recently = || daemon.recent.filter(leaks).map(|recent| Cow::Owned(daemon.with(recent)));
        let whole = leaks(&daemon.growth).then(|| Cow::Borrowed(&**daemon));
        let Some(leaking) = whole.or_else(recently) else { continue };
        let explains = |finding: &&mut Finding| {
            let row = finding.container.as_ref().map(|container| container.cgroup.id);
            row.is_some_and(|row| daemon.serves.contains(&row))
                || finding.daemon.as_ref() == Some(&daemon.process)
        };
        let mut explained = false;
        for finding in told.iter_mut().filter(explains) {
            explained = true;
            finding.tells(Kind::DaemonLeak);
        }
        if !explained {
            found.push(finding(look, &leaking, accounts.get(&daemon.process)));
        }
    }
    found
}

fn leaks(growth: &Growth) -> bool {
    let rises = |floors: &Option<[u64; 4]>| {
        floors.is_some_and(|floors| {
            floors.windows(2).all(|two| two[0] < two[1]) && floors[3] - floors[0] >= SEVERAL * 3 / 4
        })
    };
    let several = |growth: Option<i64>| growth.is_some_and(|growth| growth >= SEVERAL as i64);
    growth.watched_s >= WATCHED
        && growth.looks >= LOOKS
        && (rises(&growth.floors[0]) && several(growth.fds)
            || rises(&growth.floors[1]) && several(growth.threads))
}

fn finding(look: &Look<'_>, daemon: &Daemon, account: Option<&Account>) -> Finding {
    let process = &daemon.process;
    let own = (daemon.role == Role::Shim).then(|| daemon.serves.first()).flatten();
    let container = own
        .and_then(|own| look.rows.iter().find(|row| row.container.cgroup.id == *own))
        .map(|row| Arc::clone(&row.container));
    let whose = container.as_ref().map(|container| format!(", the shim of {},", label(container)));
    let is_shim = daemon.role == Role::Shim;
    let evidence = Evidence::default()
        .with("daemon_fds", "descriptors", Value::Count(daemon.fds.map(|fds| fds.total)))
        .with("daemon_fd_growth", "growth of that", Value::Difference(daemon.growth.fds))
        .with("daemon_socket_growth", "of them sockets", Value::Difference(daemon.socket_growth))
        .with("daemon_threads", "threads", Value::Count(daemon.threads))
        .with("daemon_threads_growth", "growth of that", Value::Difference(daemon.growth.threads))
        .with("daemon_growth", "growth of its anonymous memory", Value::Growth(daemon.growth.anon));
    let shims = if is_shim { vec![process.clone()] } else { Vec::new() };
    Finding {
        id: format!("{}:{}", Kind::DaemonLeak.as_str(), process.pid),
        kind: Kind::DaemonLeak,
        severity: Severity::Warning,
        container,
        daemon: (!is_shim).then(|| process.clone()),
        summary: format!(
            "{}{} keeps what it opens: {} more after {}, and in no quarter of that fewer than before",
            named(process),
            whose.unwrap_or_default(),
            grown(daemon),
            seconds(daemon.growth.watched_s)
        ),
        advice: [
            "See what it keeps, and who is at the other end.".to_owned(),
            format!("$ ls -l /proc/{}/fd", process.pid),
            "Find who repeats a request that does not end, and end that; then restart the daemon, which gives back what it \
             holds."
                .to_owned(),
        ]
        .into_iter()
        .chain(Account::doubt(account))
        .collect(),
        refuted_by: format!(
            "Descriptors in /proc/{0}/fd and Threads in /proc/{0}/status that fall back once its clients have ended: then it \
             was load.",
            process.pid
        ),
        evidence: Account::tell(account, evidence)
            .with("shims", "a container's own", Value::Processes(shims))
            .with("clients", "holds connections to it:", Value::Clients(daemon.clients.clone())),
        also: Vec::new(),
        weight: daemon.growth.anon.map_or(0, |growth| growth.max(0) as u64),
        grown: None,
        nature: Nature::Plain,
    }
}
