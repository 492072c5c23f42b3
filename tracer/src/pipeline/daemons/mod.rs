//! Daemons of containers, found by what they do: a shim is the parent of a container's first process; a daemon reads what
//! containers log, or is connected to their shims, or to who is. No name is looked at. All are looked at now and then; those
//! of containers that somebody fails to end at each tick.

mod peers;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::peers::Peers;
use super::rows::Rows;
use crate::{
    aggregator::{
        daemon::{Daemons, Look, Role, State, Wanted},
        log::is_container,
        signal::Target,
        stream::{Logs, Process},
    },
    event::{descriptors::holdings, procfs},
    kernel::clock,
    resolve::stream::{birth, memory_cgroup, processes},
};

/// Those that are under no suspicion are looked at this often: shims, of which there is one a container,
const SWEEP: Duration = Duration::from_secs(5);
/// and the few that serve many, so that a run of `diagnose` is long enough;
const SERVERS: Duration = Duration::from_millis(900);
/// none for more than this part of the time,
const PART: u32 = 50;
/// and so many a tick.
const SWEPT: usize = 64;
/// Roles are looked for this often, or at once for a container that is new among the suspects.
const SEARCH: Duration = Duration::from_secs(5);
/// Containers whose shim is looked for in one go.
const SHIMS: usize = 512;
/// While a runtime makes a container its first process is two below the shim.
const NEAR: usize = 3;
/// A daemon does not begin and end with a request.
const OLD: Duration = Duration::from_secs(3);

/// Looks for daemons and at them.
pub struct DaemonWatch {
    wanted: Vec<Wanted>,
    state: State,
    peers: Peers,
    /// The first process's shim by row, once found.
    shims: HashMap<u64, Target>,
    suspects: BTreeSet<u64>,
    /// How long the last look at each took.
    took: HashMap<Target, Duration>,
    searched: Option<Instant>,
}

impl DaemonWatch {
    pub fn new(wanted: Vec<Wanted>) -> DaemonWatch {
        DaemonWatch {
            wanted,
            state: State::default(),
            peers: Peers::default(),
            shims: HashMap::new(),
            suspects: BTreeSet::new(),
            took: HashMap::new(),
            searched: None,
        }
    }

    /// `suspects`: rows of containers that somebody fails to end.
    pub fn tick(
        &mut self,
        rows: &Rows,
        logs: Option<&Logs>,
        suspects: BTreeSet<u64>,
        at: Duration,
        now: Instant,
    ) -> Arc<Daemons> {
        let due = self.searched.is_none_or(|searched| now.saturating_duration_since(searched) >= SEARCH);
        if due || !suspects.is_subset(&self.suspects) {
            self.searched = Some(now);
            self.search(rows, logs, &suspects, now);
        }
        self.suspects = suspects;
        self.look(rows, at, now);
        Arc::new(self.state.tell())
    }

    fn search(&mut self, rows: &Rows, logs: Option<&Logs>, suspects: &BTreeSet<u64>, now: Instant) {
        self.state.retain(lives, |row| rows.tree.is_row(row));
        self.shims.retain(|row, shim| rows.tree.is_row(*row) && lives(*shim));
        self.took.retain(|target, _| lives(*target));
        self.find_shims(rows, suspects);
        let shims: HashSet<u32> = self.shims.values().map(|shim| shim.pid).collect();
        for reader in logs.iter().flat_map(|logs| &logs.readers) {
            let pid = reader.process.pid;
            if !shims.contains(&pid) {
                let of = |stream: &&Arc<_>| {
                    let stream: &crate::aggregator::stream::Stream = stream;
                    stream.reader() == Some(&reader.process)
                };
                let read: Vec<u64> =
                    logs.iter().flat_map(|logs| &logs.streams).filter(of).map(|stream| stream.row).collect();
                self.serve(rows, pid, &read);
            }
        }
        self.find_wanted(rows);
        // The walk over everybody's descriptors is for those only who have a reason.
        if suspects.is_empty() && self.wanted.is_empty() {
            return;
        }
        let own: HashMap<u32, u64> = self
            .shims
            .iter()
            .filter(|(row, _)| suspects.contains(row))
            .map(|(row, shim)| (shim.pid, *row))
            .collect();
        self.peers.search(now);
        for (pid, serves) in self.peers.servers(&own) {
            if !shims.contains(&pid) {
                self.serve(rows, pid, &serves);
            }
        }
    }

    /// A process serves these rows, if it is a daemon at all.
    fn serve(&mut self, rows: &Rows, pid: u32, serves: &[u64]) {
        if pid <= 1 || pid == std::process::id() || !is_old(pid) {
            return;
        }
        let row = row_of(rows, pid);
        // What runs in a container is another container's affair at most.
        if row.and_then(|row| rows.aggregator.container(row)).is_some_and(is_container) {
            return;
        }
        if let Some(target) = self.place(pid, Role::Server, row) {
            self.state.serves(target, serves.iter().copied());
        }
    }

    fn place(&mut self, pid: u32, role: Role, row: Option<u64>) -> Option<Target> {
        let target = target(pid)?;
        let comm = procfs::comm(pid)?;
        self.state.place(target, Process { pid, comm: comm.into() }, role, row).then_some(target)
    }

    fn find_shims(&mut self, rows: &Rows, suspects: &BTreeSet<u64>) {
        let mut wanted: Vec<(u64, String)> = rows
            .containers()
            .filter(|(id, container)| !self.shims.contains_key(id) && is_container(container))
            .map(|(id, container)| (id, container.cgroup.path.clone()))
            .collect();
        wanted.sort_by_key(|(id, _)| !suspects.contains(id));
        for (row, path) in wanted.into_iter().take(SHIMS) {
            let first = rows.processes(row, 1).first().copied().or_else(|| rows.all_processes(row, 1).pop());
            let Some(pid) = first.and_then(|pid| outside(pid, &path)) else { continue };
            let home = row_of(rows, pid);
            if let Some(target) = self.place(pid, Role::Shim, home) {
                self.state.serves(target, [row]);
                self.shims.insert(row, target);
            }
        }
    }

    fn find_wanted(&mut self, rows: &Rows) {
        let mut pids: Vec<u32> = Vec::new();
        let mut names = Vec::new();
        for wanted in &self.wanted {
            match wanted {
                Wanted::Pid(pid) => pids.push(*pid),
                Wanted::Comm(comm) => names.push(comm.clone()),
            }
        }
        if !names.is_empty() {
            pids.extend(
                processes().filter(|pid| procfs::comm(*pid).is_some_and(|comm| names.contains(&comm))),
            );
        }
        for pid in pids {
            let row = row_of(rows, pid);
            self.place(pid, Role::Watched, row);
        }
    }

    fn look(&mut self, rows: &Rows, at: Duration, now: Instant) {
        let mut all = self.state.all();
        // Those that waited longest, and were never looked at, first.
        all.sort_by_key(|(.., looked)| *looked);
        let mut swept = 0;
        for (target, role, serves, looked) in all {
            let suspect = role == Role::Watched || !serves.is_disjoint(&self.suspects);
            let often = if role == Role::Server { SERVERS } else { SWEEP };
            let rest = often.max(self.took.get(&target).copied().unwrap_or_default() * PART);
            let due = looked.is_none_or(|looked| at.saturating_sub(looked) >= rest);
            if !suspect {
                if !due || swept >= SWEPT {
                    continue;
                }
                swept += 1;
            }
            if !lives(target) {
                continue;
            }
            let start = Instant::now();
            let (holdings, sockets) = holdings(target.pid, suspect);
            self.took.insert(target, start.elapsed());
            let connected = suspect.then(|| self.peers.clients(&sockets, now, |pid| row_of(rows, pid)));
            let (accepted, clients) = connected.flatten().unzip();
            self.state.look(target, at, Look { holdings, accepted, clients });
        }
    }
}

fn target(pid: u32) -> Option<Target> {
    birth(pid).map(|birth| Target { pid, start: birth.start })
}

fn lives(known: Target) -> bool {
    target(known.pid) == Some(known)
}

fn is_old(pid: u32) -> bool {
    let now = procfs::ticks(clock::boottime().as_secs().saturating_mul(1_000_000_000));
    let age = procfs::ticks(OLD.as_nanos() as u64);
    birth(pid).is_some_and(|birth| birth.start + age <= now)
}

/// The row that a process runs in.
fn row_of(rows: &Rows, pid: u32) -> Option<u64> {
    let path = memory_cgroup(pid)?;
    rows.tree.nodes().find(|(_, node)| node.path == path).and_then(|(id, _)| rows.row_of(id))
}

/// The nearest ancestor of a process that is not in the cgroup; never process 1, which takes in whoever lost its parent.
fn outside(pid: u32, path: &str) -> Option<u32> {
    let mut up = pid;
    for _ in 0..NEAR {
        up = birth(up)?.parent;
        if up <= 1 {
            return None;
        }
        let inside = memory_cgroup(up).is_some_and(|own| std::path::Path::new(&own).starts_with(path));
        if !inside {
            return Some(up);
        }
    }
    None
}
