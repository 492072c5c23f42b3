//! Daemons that serve containers, their shims, and whoever is watched: what each holds of descriptors, threads and memory,
//! how that grows, and who is connected to it. Shims stand apart: each has one container.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

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
    /// How long it has been looked at, and in how many looks.
    pub watched_s: f64,
    pub looks: u32,
    /// At the last look.
    pub fds: Option<Descriptors>,
    pub threads: Option<u64>,
    pub anon: Option<u64>,
    /// Connections by unix sockets that it accepted and has not closed; those that wait count.
    pub accepted: Option<u64>,
    /// Against the first look, signed.
    pub fd_growth: Option<i64>,
    pub socket_growth: Option<i64>,
    pub threads_growth: Option<i64>,
    pub anon_growth: Option<i64>,
    pub accepted_growth: Option<i64>,
    /// The least that it had in each quarter of the time, descriptors and threads: what comes and goes does not count.
    pub floors: [Option<[u64; 4]>; 2],
    /// `None`: the kernel does not tell.
    pub clients: Option<Vec<Client>>,
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

/// Looks that are kept: when there are more, two become one, with the least of both.
const LOOKS: usize = 256;
/// Processes that are kept.
const DAEMONS: usize = 1024;

struct Kept {
    process: Process,
    role: Role,
    row: Option<u64>,
    serves: BTreeSet<u64>,
    first: (Duration, Holdings),
    last: (Duration, Holdings),
    /// Kinds of descriptors are not told by every look, nor are connections.
    sockets: Option<(u64, u64)>,
    accepted: Option<(u64, u64)>,
    clients: Option<Vec<Client>>,
    looks: Vec<(Duration, [Option<u64>; 2])>,
    /// Looks that one of these stands for, and how many the last stands for yet.
    stride: u32,
    in_last: u32,
    count: u32,
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
            first: Default::default(),
            last: Default::default(),
            sockets: None,
            accepted: None,
            clients: None,
            looks: Vec::new(),
            stride: 1,
            in_last: 0,
            count: 0,
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
        if kept.count == 0 {
            kept.first = (at, holdings);
        }
        kept.last = (at, holdings);
        kept.count += 1;
        let since = |before: Option<(u64, u64)>, now: Option<u64>| match (before, now) {
            (Some((first, _)), Some(now)) => Some((first, now)),
            (None, Some(now)) => Some((now, now)),
            (before, None) => before,
        };
        kept.sockets = since(kept.sockets, holdings.fds.and_then(|fds| fds.sockets));
        kept.accepted = since(kept.accepted, accepted);
        kept.clients = clients.or(kept.clients.take());
        kept.remember(at, [holdings.fds.map(|fds| fds.total), holdings.threads]);
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
            (*target, kept.role, kept.serves.clone(), (kept.count > 0).then_some(kept.last.0))
        };
        self.kept.iter().map(of).collect()
    }

    pub fn tell(&self) -> Daemons {
        let mut daemons: Vec<Arc<Daemon>> =
            self.kept.values().filter(|kept| kept.count > 0).map(|kept| Arc::new(kept.tell())).collect();
        daemons.sort_by_key(|daemon| (daemon.role, daemon.process.pid));
        Daemons { daemons }
    }
}

impl Kept {
    fn remember(&mut self, at: Duration, values: [Option<u64>; 2]) {
        match self.looks.last_mut().filter(|_| self.in_last < self.stride) {
            Some((_, least)) => *least = least_of(*least, values),
            None => {
                self.looks.push((at, values));
                self.in_last = 0;
            }
        }
        self.in_last += 1;
        if self.looks.len() > LOOKS {
            let merged = self.looks.chunks(2).map(|pair| match pair {
                [(at, first), (_, second)] => (*at, least_of(*first, *second)),
                _ => pair[0],
            });
            self.looks = merged.collect();
            self.stride *= 2;
            self.in_last = self.stride / 2;
        }
    }

    fn tell(&self) -> Daemon {
        let (since, first) = self.first;
        let (at, last) = self.last;
        let growth = |of: fn(&Holdings) -> Option<u64>| difference(of(&first), of(&last));
        let grown = |pair: Option<(u64, u64)>| pair.map(|(first, last)| last as i64 - first as i64);
        let fds = |holdings: &Holdings| holdings.fds.map(|fds| fds.total);
        Daemon {
            process: self.process.clone(),
            role: self.role,
            row: self.row,
            serves: self.serves.clone(),
            watched_s: at.saturating_sub(since).as_secs_f64(),
            looks: self.count,
            fds: last.fds,
            threads: last.threads,
            anon: last.anon,
            accepted: self.accepted.map(|(_, now)| now),
            fd_growth: growth(fds),
            socket_growth: grown(self.sockets),
            threads_growth: growth(|holdings| holdings.threads),
            anon_growth: growth(|holdings| holdings.anon),
            accepted_growth: grown(self.accepted),
            floors: [self.floors(0), self.floors(1)],
            clients: self.clients.clone(),
        }
    }

    /// `None` where a quarter had no look.
    fn floors(&self, what: usize) -> Option<[u64; 4]> {
        let (first, last) = (self.looks.first()?.0, self.looks.last()?.0);
        let whole = last.saturating_sub(first).as_secs_f64();
        let mut floors = [None; 4];
        for (at, values) in &self.looks {
            let share = at.saturating_sub(first).as_secs_f64() / whole.max(f64::MIN_POSITIVE);
            let place = &mut floors[((share * 4.0) as usize).min(3)];
            let value = values[what]?;
            *place = Some(place.map_or(value, |least: u64| least.min(value)));
        }
        let [Some(a), Some(b), Some(c), Some(d)] = floors else { return None };
        Some([a, b, c, d])
    }
}

fn least_of(a: [Option<u64>; 2], b: [Option<u64>; 2]) -> [Option<u64>; 2] {
    let least = |at: usize| a[at].zip(b[at]).map(|(a, b)| a.min(b));
    [least(0), least(1)]
}

fn difference(first: Option<u64>, last: Option<u64>) -> Option<i64> {
    Some(last? as i64 - first? as i64)
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
    fn growth_is_against_the_first_look_and_floors_leave_out_what_comes_and_goes() {
        let (mut state, target) = one();
        assert!(state.tell().daemons.is_empty(), "it was not looked at yet");
        for second in 0..16 {
            let busy = if second % 2 == 0 { 40 } else { 0 };
            state.look(target, Duration::from_secs(second), holds(10 + second + busy, 5));
        }
        let told = state.tell();
        let daemon = &told.daemons[0];
        assert_eq!((daemon.fd_growth, daemon.threads_growth, daemon.looks), (Some(15 - 40), Some(0), 16));
        assert_eq!(daemon.floors, [Some([11, 15, 19, 23]), Some([5; 4])]);
    }

    #[test]
    fn it_is_bounded_and_forgets_who_is_gone() {
        let (mut state, target) = one();
        for second in 0..10_000 {
            state.look(target, Duration::from_secs(second), holds(second, 5));
        }
        assert!(state.kept[&target].looks.len() <= LOOKS);
        let floors = state.tell().daemons[0].floors[0].expect("each quarter has some");
        assert!(floors.windows(2).all(|two| two[0] + 2000 < two[1]), "{floors:?}");
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
