//! Work in flight, from the kernel's counts and `/proc` to the rows: which rows are worth a look, and what one may cost.
//!
//! All rows are looked at once, as the run begins or, where a moment does not suffice, soon after; then those whose anonymous
//! memory grows, that are throttled, to whom connections come, or that start and end programs. A row where nothing moves
//! costs nothing more.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tracer_ebpf::abi::work::LifeCount;

use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        row::Row,
        work::{Look, WorkState, flight::Flight},
    },
    event::{
        sweep::{self, Table},
        work::{Lives, WorkMaps},
    },
    kernel::clock,
};

/// The first look takes so long at most, later ones so long in all.
const OPENING: Duration = Duration::from_millis(50);
const LOOKING: Duration = Duration::from_millis(20);
/// After a look at those whose memory grows it rests for so many times what that took of a CPU,
const REST: u32 = 25;
/// after one at others for so many,
const REST_OTHERS: u32 = 250;
/// and may be behind with that by so long: what goes wrong fast is looked at often at first.
const BEHIND: Duration = Duration::from_secs(10);
/// The urgency of those whose memory grows.
const GROWS: u8 = 0;
/// Rows looked at in a tick, and processes of one.
const ROWS: usize = 16;
const PROCESSES: usize = 4096;
/// Anonymous memory that grows slower, bytes a second, is at rest.
const SLOW: f64 = 64.0 * 1024.0;
/// A share of periods that is worth a look.
const THROTTLED: f64 = 0.1;
/// A process without a socket is not asked again before this.
const SOCKETLESS: Duration = Duration::from_secs(10);

/// A row that is worth a look. Of equally urgent ones who waits longest is next: a neighbour that takes all the time of a
/// look would starve the others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// The least is the most urgent.
    urgency: u8,
    /// `None`: never yet.
    looked: Option<Duration>,
    growth: Reverse<u64>,
    row: u64,
}

/// Rows that are worth a look, most urgent first, and how often there may be one.
struct Suspects {
    rows: Vec<u64>,
    rest: u32,
    /// When it will have rested enough for all looks so far.
    rested: Instant,
}

impl Suspects {
    fn new(rest: u32) -> Suspects {
        Suspects { rows: Vec::new(), rest, rested: Instant::now() }
    }

    fn allows(&self, now: Instant) -> bool {
        now + BEHIND >= self.rested
    }

    fn took(&mut self, now: Instant, cpu: Duration) {
        self.rested = self.rested.max(now) + cpu * self.rest;
    }
}

/// What is followed of work in flight in a run.
pub struct Work {
    wanted: bool,
    state: WorkState,
    opened: bool,
    /// Those whose memory grows, and all others.
    suspects: [Suspects; 2],
    /// Something moved in these since they were looked at, or the last look told something new: looked at until it does not.
    unsettled: HashSet<u64>,
    /// Connections came to somebody unknown.
    strangers: bool,
    /// Processes that had no socket, by number and birth.
    socketless: HashMap<(u32, Duration), Instant>,
}

impl Work {
    pub fn new(wanted: bool) -> Work {
        Work {
            wanted,
            state: WorkState::default(),
            opened: false,
            suspects: [REST, REST_OTHERS].map(Suspects::new),
            unsettled: HashSet::new(),
            strangers: false,
            socketless: HashMap::new(),
        }
    }

    /// Looks at what is worth it; `last`: for the last time. Returns what is known of the rows now.
    pub fn tick(
        &mut self,
        probes: &mut Probes,
        rows: &Rows,
        at: Duration,
        last: bool,
    ) -> HashMap<u64, Arc<Flight>> {
        if !self.wanted {
            return HashMap::new();
        }
        let start = Instant::now();
        self.strangers |= self
            .state
            .arrived(probes.work.as_ref().filter(|_| probes.served.arrivals).map(WorkMaps::arrivals));
        let opening = !std::mem::replace(&mut self.opened, true);
        if opening {
            let mut all: Vec<(Reverse<u64>, u64)> = rows
                .containers()
                .map(|(id, _)| {
                    (Reverse(rows.aggregator.whole(id).and_then(|memory| memory.anon).unwrap_or(0)), id)
                })
                .collect();
            all.sort_unstable();
            let all: Vec<u64> = all.into_iter().map(|(_, id)| id).collect();
            self.look(&all, probes, rows, at, OPENING);
        } else {
            for which in 0..self.suspects.len() {
                let chosen = std::mem::take(&mut self.suspects[which].rows);
                if chosen.is_empty() || !self.suspects[which].allows(start) && !last {
                    continue;
                }
                let before = clock::thread_cpu();
                self.look(&chosen, probes, rows, at, LOOKING);
                self.suspects[which].took(start, clock::thread_cpu().saturating_sub(before));
            }
        }
        self.state.flights(at)
    }

    /// Which rows are worth a look at the next tick, by what they did in this one.
    pub fn choose(&mut self, rows: &[Arc<Row>]) {
        if !self.wanted {
            return;
        }
        let strangers = std::mem::take(&mut self.strangers);
        let there: HashSet<u64> = rows.iter().map(|row| row.container.cgroup.id).collect();
        self.unsettled.retain(|id| there.contains(id));
        let unsettled = &self.unsettled;
        let urgency = |row: &Arc<Row>| {
            let id = row.container.cgroup.id;
            let moves = |rate: Option<f64>| rate.is_some_and(|rate| rate > 0.0);
            let growth = row.growth_ewma_per_s.anon.filter(|rate| *rate > SLOW);
            let urgency = match () {
                () if row.removed.is_some() => None,
                () if growth.is_some() => Some(GROWS),
                () if row.throttled_share.is_some_and(|share| share > THROTTLED) => Some(1),
                () if self.state.moved(id) => Some(1),
                () if strangers && !self.state.knows(id) => Some(2),
                () if moves(row.tasks.execs_per_s) || moves(row.tasks.exits_per_s) => Some(3),
                () if unsettled.contains(&id) => Some(4),
                () => None,
            };
            urgency.map(|urgency| Turn {
                urgency,
                looked: self.state.looked(id),
                growth: Reverse(growth.unwrap_or(0.0) as u64),
                row: id,
            })
        };
        let mut turns: Vec<Turn> = rows.iter().filter_map(urgency).collect();
        turns.sort_unstable();
        // In which nobody may look for a while yet.
        self.unsettled.extend(turns.iter().map(|turn| turn.row));
        let (growing, others) = turns.split_at(turns.partition_point(|turn| turn.urgency == GROWS));
        for (suspects, turns) in self.suspects.iter_mut().zip([growing, others]) {
            suspects.rows = turns.iter().take(ROWS).map(|turn| turn.row).collect();
        }
        self.state.retain(|id| there.contains(&id));
    }

    fn look(&mut self, chosen: &[u64], probes: &mut Probes, rows: &Rows, at: Duration, budget: Duration) {
        let opening = budget == OPENING;
        let start = Instant::now();
        let wanted: HashSet<u64> = chosen.iter().copied().collect();
        let of = |id: u64| rows.row_of(id).filter(|row| wanted.contains(row));
        let counted = probes.work.as_mut().filter(|_| !opening && probes.served.tasks);
        let lives: Option<Lives> = counted.map(|work| work.lives(|id| of(id).is_some()));
        let mut tables: HashMap<u32, Option<Table>> = HashMap::new();
        // Who is not reached in time is looked at later, though nothing moves there.
        self.unsettled.extend(chosen);
        for row in chosen {
            let look = self.look_at(rows.all_processes(*row, PROCESSES), &mut tables);
            let ended = lives.as_ref().map(|lives| {
                let mut own: HashMap<&str, Vec<LifeCount>> = HashMap::new();
                for ((id, comm), counts) in lives {
                    if of(*id) == Some(*row) {
                        own.entry(comm).or_default().extend(counts);
                    }
                }
                own
            });
            let is_same = self.state.look(*row, &look, ended, (at, rows.aggregator.born(*row), opening));
            if is_same || opening {
                self.unsettled.remove(row);
            }
            if start.elapsed() > budget {
                break;
            }
        }
        let now = Instant::now();
        self.socketless.retain(|_, seen| now.saturating_duration_since(*seen) < SOCKETLESS);
    }

    fn look_at(&mut self, pids: Vec<u32>, tables: &mut HashMap<u32, Option<Table>>) -> Look {
        let lives: Vec<sweep::Life> = pids.into_iter().filter_map(sweep::life).collect();
        let mut found = HashSet::new();
        let mut sockets = Some(Vec::new());
        // Our own: two descriptors for each cgroup, and nobody connects to us.
        let own = std::process::id();
        for life in lives.iter().filter(|life| !life.zombie && life.pid != own) {
            if self.socketless.contains_key(&(life.pid, life.born)) {
                continue;
            }
            let open = sweep::sockets(life.pid);
            if open.is_empty() {
                self.socketless.insert((life.pid, life.born), Instant::now());
                continue;
            }
            // It may have ended meanwhile, with its descriptors.
            let Some(net) = sweep::net(life.pid) else { continue };
            let table = tables.entry(net).or_default();
            if table.is_none() {
                *table = sweep::table(life.pid);
            }
            let Some((sockets, table)) = sockets.as_mut().zip(table.as_ref()) else {
                // Of one that ended under it there is nothing to tell.
                if sweep::net(life.pid).is_some() {
                    sockets = None;
                }
                continue;
            };
            let fresh = open.into_iter().filter(|inode| found.insert(*inode));
            sockets.extend(fresh.map(|inode| (net, inode, table.get(&inode).cloned())));
        }
        Look { lives, clock: clock::boottime(), sockets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(row: u64, urgency: u8, looked: Option<u64>, growth: u64) -> Turn {
        Turn { urgency, looked: looked.map(Duration::from_secs), growth: Reverse(growth), row }
    }

    fn next(mut turns: Vec<Turn>) -> Vec<u64> {
        turns.sort_unstable();
        turns.into_iter().map(|turn| turn.row).collect()
    }

    #[test]
    fn nobody_starves_beside_a_neighbour_that_takes_all_the_time() {
        const BIG: u64 = 1;
        const SMALL: u64 = 2;
        let mut looked = HashMap::from([(BIG, None), (SMALL, None)]);
        let mut looks = Vec::new();
        // There is time for one row at a time.
        for tick in 0..6 {
            let first =
                next(vec![turn(BIG, 0, looked[&BIG], 100 << 20), turn(SMALL, 0, looked[&SMALL], 1 << 20)])[0];
            looked.insert(first, Some(tick));
            looks.push(first);
        }
        assert_eq!(looks, [BIG, SMALL, BIG, SMALL, BIG, SMALL]);
    }

    /// Seconds of the looks in a minute of ticks, each of which takes so much of a CPU.
    fn looks(cpu: Duration) -> Vec<u64> {
        let mut pace = Suspects::new(REST);
        let start = pace.rested;
        let looks = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            let allowed = pace.allows(now);
            if allowed {
                pace.took(now, cpu);
            }
            allowed
        };
        (0..60).filter(looks).collect()
    }

    #[test]
    fn looks_are_dense_at_first_and_keep_their_share_of_a_processor_after_that() {
        assert_eq!(looks(Duration::from_millis(20)).len(), 60, "cheap ones are made at each tick");
        let dear = looks(Duration::from_millis(160));
        assert!(dear.starts_with(&[0, 1, 2]), "{dear:?}");
        assert!(
            (15..=18).contains(&dear.len()),
            "a look in four seconds, and what it may be behind: {dear:?}"
        );
    }

    #[test]
    fn what_is_urgent_is_first_then_what_was_never_looked_at_then_what_grows_most() {
        let turns = vec![
            turn(1, 1, None, 0),
            turn(2, 0, Some(3), 9),
            turn(3, 0, None, 1),
            turn(4, 0, None, 2),
            turn(5, 0, Some(1), 0),
        ];
        assert_eq!(next(turns), [4, 3, 5, 2, 1]);
    }
}
