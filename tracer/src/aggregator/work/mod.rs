//! Work in flight by row: from looks at processes and counts of arrivals to what comes, what ends, and what stays.
//!
//! A connection ends with its descriptor, which no hook of the kernel tells of: what ended is what arrived less how much more
//! there is, accepted or waiting.

pub mod flight;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::work::{LifeCount, Listener};

use self::flight::{Child, Flight, Peer};
use super::row::How;
use crate::event::sweep::{Life, Socket};

/// Peers and names of children that are told.
const PEERS: usize = 8;
const CHILDREN: usize = 8;
/// A look is good for so long.
const FRESH: Duration = Duration::from_secs(15);

/// What was seen of a row's processes.
#[derive(Debug, Default)]
pub struct Look {
    pub lives: Vec<Life>,
    /// The clock that their births are of.
    pub clock: Duration,
    /// Sockets that they have open: namespace, inode, and what it is, if it is one of TCP that is not closed. `None`: that
    /// could not be read.
    pub sockets: Option<Vec<(u32, u64, Option<Socket>)>>,
}

/// A moment in the course of a row.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Duration,
    connections: u64,
    queued: u64,
    arrivals: u64,
}

/// What is kept of a row between looks.
struct Course {
    listeners: BTreeSet<Listener>,
    /// Open connections by inode.
    accepted: HashMap<u64, IpAddr>,
    first: Option<Mark>,
    /// The first look was when the run began, or the row began after that.
    whole: bool,
    last: Option<Mark>,
    looked: Duration,
    flight: Arc<Flight>,
}

/// All rows'.
#[derive(Default)]
pub struct WorkState {
    courses: HashMap<u64, Course>,
    /// By listening port, since attach; `None` without the probe.
    arrivals: Option<HashMap<Listener, u64>>,
    /// Arrivals when each row was looked at last, for telling whether any came.
    owned: HashSet<Listener>,
}

impl WorkState {
    /// Totals since attach. Returns whether some came to a port that no row is known to listen on.
    pub fn arrived(&mut self, now: Option<HashMap<Listener, u64>>) -> bool {
        let before = std::mem::replace(&mut self.arrivals, now);
        let more = |(listener, count): (&Listener, &u64)| {
            !self.owned.contains(listener)
                && before.as_ref().and_then(|before| before.get(listener)) != Some(count)
        };
        self.arrivals.as_ref().is_some_and(|now| now.iter().any(more))
    }

    /// Whether connections came to a row since it was looked at.
    pub fn moved(&self, row: u64) -> bool {
        let Some(course) = self.courses.get(&row) else { return false };
        course.last.is_some_and(|last| self.total(&course.listeners).is_some_and(|now| now != last.arrivals))
    }

    /// When a row was looked at last.
    pub fn looked(&self, row: u64) -> Option<Duration> {
        self.courses.get(&row).map(|course| course.looked)
    }

    pub fn knows(&self, row: u64) -> bool {
        self.courses.contains_key(&row)
    }

    fn total(&self, listeners: &BTreeSet<Listener>) -> Option<u64> {
        let arrivals = self.arrivals.as_ref()?;
        Some(listeners.iter().filter_map(|listener| arrivals.get(listener)).sum())
    }

    /// A row was looked at. `born`: it began after the run did; `opening`: the run begins. `ended`: by name, processes of it
    /// that ended; `None` without the probe. Returns whether it is as it was at the look before.
    pub fn look(
        &mut self,
        row: u64,
        look: &Look,
        ended: Option<HashMap<&str, Vec<LifeCount>>>,
        when: (Duration, bool, bool),
    ) -> bool {
        let (at, born, opening) = when;
        let mut course = self.courses.remove(&row).unwrap_or_else(|| Course {
            listeners: BTreeSet::new(),
            accepted: HashMap::new(),
            // What it had before it was there is nothing.
            first: born.then_some(Mark { at, connections: 0, queued: 0, arrivals: 0 }),
            whole: born || opening,
            last: None,
            looked: at,
            flight: Arc::default(),
        });
        course.looked = at;
        let mut flight = Flight {
            processes: look.lives.iter().filter(|life| !life.zombie).count() as u64,
            threads: look.lives.iter().map(|life| life.threads).sum(),
            children: children(look, ended),
            ..Flight::default()
        };
        if let Some(sockets) = &look.sockets {
            let queued = course.sort(sockets);
            self.owned.extend(course.listeners.iter().copied());
            let total = self.total(&course.listeners);
            let connections = course.accepted.len() as u64;
            let now = Mark { at, connections, queued, arrivals: total.unwrap_or(0) };
            let first = *course.first.get_or_insert(now);
            let last = course.last.replace(now);
            flight.connections = Some(connections);
            flight.queued = Some(queued);
            flight.connections_growth = Some(connections as i64 - first.connections as i64);
            flight.connections_growth_how = (!course.whole).then_some(How::AtLeast);
            flight.peers = peers(&course.accepted);
            if total.is_some() {
                flight.arrivals = Some(now.arrivals.saturating_sub(first.arrivals));
                flight.completions = Some(now.completed(&first));
                if let Some(last) = last {
                    let seconds = at.saturating_sub(last.at).as_secs_f64();
                    let rate = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
                    flight.arrivals_per_s = rate(now.arrivals.saturating_sub(last.arrivals));
                    flight.completions_per_s = rate(now.completed(&last));
                }
            }
        }
        let at_hand = |flight: &Flight| (flight.connections, flight.queued, flight.processes);
        // Where nothing is in flight there is nothing to be confirmed.
        let before = &course.flight;
        let is_idle = flight.connections == Some(0) && flight.queued == Some(0) && flight.children.is_empty();
        let was_idle = before.connections.unwrap_or(0) == 0 && before.queued.unwrap_or(0) == 0;
        let is_same = at_hand(&flight) == at_hand(before) || is_idle && was_idle;
        course.flight = Arc::new(flight);
        self.courses.insert(row, course);
        is_same
    }

    /// Rows that were looked at of late.
    pub fn flights(&self, at: Duration) -> HashMap<u64, Arc<Flight>> {
        let fresh = |course: &&Course| at.saturating_sub(course.looked) <= FRESH;
        let courses = self.courses.iter().filter(|(_, course)| fresh(course));
        courses.map(|(row, course)| (*row, Arc::clone(&course.flight))).collect()
    }

    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        self.courses.retain(|row, _| known(*row));
        self.owned = self.courses.values().flat_map(|course| course.listeners.iter().copied()).collect();
    }
}

impl Mark {
    /// How many ended since `before`.
    fn completed(&self, before: &Mark) -> u64 {
        let stay = |mark: &Mark| mark.connections as i64 + mark.queued as i64;
        let arrived = self.arrivals as i64 - before.arrivals as i64;
        (arrived - (stay(self) - stay(before))).max(0) as u64
    }
}

impl Course {
    /// Tells listeners, accepted connections and others apart; returns how many wait.
    fn sort(&mut self, sockets: &[(u32, u64, Option<Socket>)]) -> u64 {
        let mut queued = 0;
        for (net, _, socket) in sockets {
            if let Some(socket) = socket.as_ref().filter(|socket| socket.listens) {
                self.listeners.insert(Listener { net: *net, port: socket.port.into() });
                queued += socket.waiting;
            }
        }
        let before = std::mem::take(&mut self.accepted);
        for (net, inode, socket) in sockets {
            let peer = match socket {
                Some(socket) if socket.listens => None,
                Some(socket) => {
                    let at = Listener { net: *net, port: socket.port.into() };
                    self.listeners.contains(&at).then_some(socket.peer)
                }
                // The peer has torn it down, the descriptor is still there.
                None => before.get(inode).copied(),
            };
            if let Some(peer) = peer {
                self.accepted.insert(*inode, peer);
            }
        }
        queued
    }
}

fn peers(accepted: &HashMap<u64, IpAddr>) -> Vec<Peer> {
    let mut counts: HashMap<IpAddr, u64> = HashMap::new();
    for addr in accepted.values() {
        *counts.entry(*addr).or_default() += 1;
    }
    let mut peers: Vec<Peer> = counts.into_iter().map(|(addr, count)| Peer { addr, count }).collect();
    peers.sort_by(|a, b| b.count.cmp(&a.count).then(a.addr.cmp(&b.addr)));
    peers.truncate(PEERS);
    peers
}

fn children(look: &Look, ended: Option<HashMap<&str, Vec<LifeCount>>>) -> Vec<Child> {
    let pids: HashSet<u32> = look.lives.iter().map(|life| life.pid).collect();
    let mut alive: HashMap<&str, Vec<f64>> = HashMap::new();
    for life in look.lives.iter().filter(|life| !life.zombie && pids.contains(&life.parent)) {
        let age = look.clock.saturating_sub(life.born).as_secs_f64();
        alive.entry(&life.comm).or_default().push(age);
    }
    let known = ended.is_some();
    let mut ended = ended.unwrap_or_default();
    let mut children: Vec<(f64, Child)> = alive
        .into_iter()
        .map(|(comm, ages)| child(comm, ages, known.then(|| ended.remove(comm).unwrap_or_default())))
        .collect();
    children.extend(ended.into_iter().map(|(comm, lives)| child(comm, Vec::new(), Some(lives))));
    children.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.comm.cmp(&b.1.comm)));
    children.into_iter().take(CHILDREN).map(|(_, child)| child).collect()
}

/// Those of a name, and the time that they took together.
fn child(comm: &str, mut ages: Vec<f64>, ended: Option<Vec<LifeCount>>) -> (f64, Child) {
    const NS: f64 = 1e-9;
    ages.sort_by(f64::total_cmp);
    let lives = ended.as_deref().unwrap_or_default();
    let count: u64 = lives.iter().map(|life| life.count).sum();
    let total = lives.iter().map(|life| life.total as f64 * NS).sum::<f64>();
    let alive_s = ages.iter().sum::<f64>();
    let of_ended = median(lives);
    let longest = lives.iter().map(|life| life.max as f64 * NS).chain(ages.last().copied());
    let child = Child {
        comm: Arc::from(comm),
        running: ages.len() as u64,
        oldest_s: ages.last().copied(),
        ended: ended.as_ref().map(|_| count),
        p50_s: of_ended.or_else(|| ages.get(ages.len().saturating_sub(1) / 2).copied()),
        p50_s_how: (of_ended.is_none() && !ages.is_empty()).then_some(How::AtLeast),
        max_s: longest.reduce(f64::max),
        alive_s,
    };
    (total + alive_s, child)
}

/// The mean of the bucket in which the median is.
fn median(lives: &[LifeCount]) -> Option<f64> {
    let count: u64 = lives.iter().map(|life| life.count).sum();
    let mut sorted: Vec<(f64, u64)> = lives
        .iter()
        .filter(|life| life.count > 0)
        .map(|life| (life.total as f64 / life.count as f64 * 1e-9, life.count))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen = 0;
    sorted.into_iter().find_map(|(mean, of)| {
        seen += of;
        (seen * 2 >= count).then_some(mean)
    })
}

#[cfg(test)]
mod tests;
