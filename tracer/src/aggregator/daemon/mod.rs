//! Daemons that serve containers, their shims, and whoever is watched: what each holds of descriptors, threads and memory,
//! how that grows, and who is connected to it. Shims stand apart: each has one container.

mod course;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use self::course::Course;
pub use self::course::Growth;
use super::{signal::Target, stream::Process};
use crate::event::descriptors::{Descriptors, Holdings};

/// What a process is to containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The parent of a container's first process.
    Shim,
    /// Many containers': it reads their logs, or is connected to their shims, or to who is.
    Server,
    /// Somebody asked for it.
    Watched,
}

/// Whom somebody wants to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Pid(u32),
    Comm(String),
}

impl Wanted {
    /// A number is a process, anything else a name.
    pub fn parse(word: &str) -> Result<Wanted, String> {
        match word.parse() {
            Ok(0) => Err("a process's number is at least 1".to_owned()),
            Ok(pid) => Ok(Wanted::Pid(pid)),
            Err(_) if word.is_empty() || word.len() > 15 => {
                Err("a number, or a name of at most 15 bytes as in /proc/PID/comm".to_owned())
            }
            Err(_) => Ok(Wanted::Comm(word.to_owned())),
        }
    }
}

/// Clients that are told one by one: those with most connections.
pub const CLIENTS: usize = 32;

/// Who is connected to a daemon, by how many connections that it has not closed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Client {
    pub pid: u32,
    pub comm: Arc<str>,
    pub open: u64,
    /// The row it runs in.
    #[serde(skip)]
    pub row: Option<u64>,
}

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    pub process: Process,
    pub role: Role,
    /// The row it runs in.
    pub row: Option<u64>,
    /// Rows of containers that it serves; of a shim its own.
    pub serves: BTreeSet<u64>,
    /// At the last look.
    pub fds: Option<Descriptors>,
    pub threads: Option<u64>,
    pub anon: Option<u64>,
    /// Connections by unix sockets that it accepted and has not closed; those that wait count.
    pub accepted: Option<u64>,
    /// Against the first look.
    pub growth: Growth,
    /// Against a look some minutes ago; `None` where the first one is not older.
    pub recent: Option<Growth>,
    /// As `growth`, signed.
    pub socket_growth: Option<i64>,
    pub accepted_growth: Option<i64>,
    /// `None`: the kernel does not tell.
    pub clients: Option<Vec<Client>>,
}

impl Daemon {
    /// The same with another growth; what that does not tell is not known.
    pub fn with(&self, growth: Growth) -> Daemon {
        Daemon { growth, socket_growth: None, accepted_growth: None, ..self.clone() }
    }
}

/// All that are looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Daemons {
    pub daemons: Vec<Arc<Daemon>>,
}

impl Daemons {
    /// The shim of a container.
    pub fn shims(&self, row: u64) -> impl Iterator<Item = &Arc<Daemon>> {
        self.daemons.iter().filter(move |daemon| daemon.role == Role::Shim && daemon.serves.contains(&row))
    }

    /// Those that serve a container and others.
    pub fn servers(&self, row: u64) -> impl Iterator<Item = &Arc<Daemon>> {
        self.daemons.iter().filter(move |daemon| daemon.role == Role::Server && daemon.serves.contains(&row))
    }
}

/// What a look brought.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub holdings: Holdings,
    /// Where connections were looked at.
    pub accepted: Option<u64>,
    pub clients: Option<Vec<Client>>,
}

/// Processes that are kept.
const DAEMONS: usize = 1024;

struct Kept {
    process: Process,
    role: Role,
    row: Option<u64>,
    serves: BTreeSet<u64>,
    course: Course,
    /// Kinds of descriptors are not told by every look, nor are connections.
    sockets: Option<(u64, u64)>,
    accepted: Option<(u64, u64)>,
    clients: Option<Vec<Client>>,
}

/// The state.
#[derive(Default)]
pub struct State {
    kept: HashMap<Target, Kept>,
}

impl State {
    pub fn knows(&self, target: Target) -> bool {
        self.kept.contains_key(&target)
    }

    /// A process has such a role for these rows, from now on; whether there was room.
    pub fn place(&mut self, target: Target, process: Process, role: Role, row: Option<u64>) -> bool {
        if self.kept.len() >= DAEMONS && !self.kept.contains_key(&target) {
            return false;
        }
        let kept = self.kept.entry(target).or_insert_with(|| Kept {
            process: process.clone(),
            role,
            row,
            serves: BTreeSet::new(),
            course: Course::default(),
            sockets: None,
            accepted: None,
            clients: None,
        });
        kept.process = process;
        // What it is to a container says more than that it is watched, and a shim stays one.
        kept.role = kept.role.min(role);
        kept.row = row.or(kept.row);
        true
    }

    /// It serves these containers.
    pub fn serves(&mut self, target: Target, rows: impl IntoIterator<Item = u64>) {
        if let Some(kept) = self.kept.get_mut(&target) {
            kept.serves.extend(rows);
        }
    }

    pub fn look(&mut self, target: Target, at: Duration, look: Look) {
        let Some(kept) = self.kept.get_mut(&target) else { return };
        let Look { holdings, accepted, clients } = look;
        kept.course.look(at, holdings);
        let since = |before: Option<(u64, u64)>, now: Option<u64>| match (before, now) {
            (Some((first, _)), Some(now)) => Some((first, now)),
            (None, Some(now)) => Some((now, now)),
            (before, None) => before,
        };
        kept.sockets = since(kept.sockets, holdings.fds.and_then(|fds| fds.sockets));
        kept.accepted = since(kept.accepted, accepted);
        kept.clients = clients.or(kept.clients.take());
    }

    /// Forgets those that are not there any more, and rows that are gone.
    pub fn retain(&mut self, lives: impl Fn(Target) -> bool, is_row: impl Fn(u64) -> bool) {
        self.kept.retain(|target, kept| {
            kept.serves.retain(|row| is_row(*row));
            // A shim whose container is gone is nobody's; it ends, too.
            lives(*target) && (kept.role != Role::Shim || !kept.serves.is_empty())
        });
    }

    /// Everyone, with when it was looked at last.
    pub fn all(&self) -> Vec<(Target, Role, BTreeSet<u64>, Option<Duration>)> {
        let of = |(target, kept): (&Target, &Kept)| {
            (*target, kept.role, kept.serves.clone(), kept.course.last().map(|(at, _)| at))
        };
        self.kept.iter().map(of).collect()
    }

    pub fn tell(&self) -> Daemons {
        let mut daemons: Vec<Arc<Daemon>> = self.kept.values().filter_map(Kept::tell).map(Arc::new).collect();
        daemons.sort_by_key(|daemon| (daemon.role, daemon.process.pid));
        Daemons { daemons }
    }
}

impl Kept {
    /// `None` before the first look.
    fn tell(&self) -> Option<Daemon> {
        let (_, last) = self.course.last()?;
        let grown = |pair: Option<(u64, u64)>| pair.map(|(first, last)| last as i64 - first as i64);
        Some(Daemon {
            process: self.process.clone(),
            role: self.role,
            row: self.row,
            serves: self.serves.clone(),
            fds: last.fds,
            threads: last.threads,
            anon: last.anon,
            accepted: self.accepted.map(|(_, now)| now),
            growth: self.course.whole(),
            socket_growth: grown(self.sockets),
            accepted_growth: grown(self.accepted),
            recent: self.course.recent(),
            clients: self.clients.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(fds: u64, threads: u64) -> Look {
        let fds = Some(Descriptors { total: fds, ..Descriptors::default() });
        let holdings = Holdings { fds, threads: Some(threads), anon: Some(1000) };
        Look { holdings, ..Look::default() }
    }

    fn one() -> (State, Target) {
        let target = Target { pid: 9, start: 1 };
        let mut state = State::default();
        assert!(state.place(target, Process { pid: 9, comm: "d".into() }, Role::Server, None));
        (state, target)
    }

    #[test]
    fn it_is_bounded_and_forgets_who_is_gone() {
        let (mut state, target) = one();
        assert!(state.tell().daemons.is_empty(), "it was not looked at yet");
        state.look(target, Duration::ZERO, holds(1, 5));
        assert_eq!(state.tell().daemons.len(), 1);
        for pid in 0..2 * DAEMONS as u32 {
            let target = Target { pid, start: 2 };
            state.place(target, Process { pid, comm: "s".into() }, Role::Shim, None);
            state.serves(target, [u64::from(pid)]);
        }
        assert_eq!(state.kept.len(), DAEMONS);
        state.retain(|target| target.pid != 9, |row| row < 5);
        assert_eq!(state.kept.len(), 5);
    }

    #[test]
    fn a_number_is_a_process_and_a_word_its_name() {
        assert_eq!(Wanted::parse("812"), Ok(Wanted::Pid(812)));
        assert_eq!(Wanted::parse("dockerd"), Ok(Wanted::Comm("dockerd".into())));
        for wrong in ["", "0", "a-name-of-sixteen"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
