//! Tasks that cannot die: SIGKILL is pending, they sleep where it is not looked at, and they have not run since the last
//! look. One that moves, as on its way out, is none.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{row::How, signal::Killer};
use crate::{event::pending::Pending, resolve::Container};

/// A task as `stuck` tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unkillable {
    pub container: Arc<Container>,
    pub pid: u32,
    pub tid: u32,
    pub comm: Arc<str>,
    pub state: char,
    pub blocked_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_s_how: Option<How>,
    pub wchan: Option<String>,
    pub stack: Vec<String>,
    pub syscall: Option<String>,
    pub waits_on: Option<String>,
    pub sigkill_pending: bool,
    /// Since attach; `None` without the probe.
    pub kill_attempts: Option<u64>,
    pub killers: Vec<Killer>,
}

/// Which have stood still, by thread: since when, how often each had run, in how many looks.
#[derive(Default)]
pub struct State {
    still: HashMap<(u32, u32), Still>,
}

struct Still {
    since: Duration,
    switches: u64,
    looks: u32,
}

/// Looks at which it must have stood still, and for how long: a slow disk may keep one for seconds.
const LOOKS: u32 = 3;
const STILL: Duration = Duration::from_secs(4);

impl State {
    /// Takes a look in; gives those that have stood still, and for how long at least.
    pub fn tick(&mut self, at: Duration, seen: Vec<Pending>) -> Vec<(Pending, Duration)> {
        let mut still = HashMap::new();
        let mut stuck = Vec::new();
        for task in seen {
            let key = (task.pid, task.tid);
            let before = self.still.remove(&key).filter(|before| before.switches == task.switches);
            let now = match before {
                Some(before) => Still { looks: before.looks + 1, ..before },
                None => Still { since: at, switches: task.switches, looks: 1 },
            };
            let still_for = at.saturating_sub(now.since);
            if now.looks >= LOOKS && still_for >= STILL {
                stuck.push((task, still_for));
            }
            still.insert(key, now);
        }
        self.still = still;
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(switches: u64) -> Pending {
        Pending { pid: 1, tid: 2, comm: "x".into(), state: 'D', switches, wchan: None, stack: Vec::new() }
    }

    #[test]
    fn one_that_runs_now_and_then_is_not_stuck() {
        let second = Duration::from_secs;
        let mut state = State::default();
        for tick in 0..10 {
            assert_eq!(state.tick(second(tick), vec![task(tick)]), []);
        }
        for tick in 10..13 {
            assert_eq!(state.tick(second(tick), vec![task(9)]), []);
        }
        assert_eq!(state.tick(second(13), vec![task(9)]), [(task(9), second(4))]);
        assert_eq!(state.tick(second(14), vec![]), []);
        assert_eq!(state.tick(second(20), vec![task(9)]), [], "it was gone meanwhile");
    }
}
