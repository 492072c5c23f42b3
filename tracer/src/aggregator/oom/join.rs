//! The two ends of a kill: the probe's mark and the line of the kernel's log, by the victim's number.
//!
//! The line comes a moment after the mark, and is never left out. A mark without one is of a task that dies anyway and asks
//! for more: no kill, where the log can be read.

use std::{collections::VecDeque, time::Duration};

use crate::event::{kmsg::KernelKill, oom::Mark};

/// Victims that are remembered, and for so long: threads of one process are marked one by one.
const REMEMBERED: usize = 1024;
const MEMORY: Duration = Duration::from_secs(10);
/// Waiting for their other end at most.
const WAITING: usize = 1024;
/// So long a mark waits for its line, and a line for its mark.
const PATIENCE: Duration = Duration::from_millis(300);

/// A mark, and what was found out about it at once.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    pub mark: Mark,
    pub with: T,
}

/// A kill with what is known of it from either side.
#[derive(Debug, Clone)]
pub struct Joined<T> {
    pub mark: Option<Seen<T>>,
    pub line: Option<KernelKill>,
    /// The line stood in the log when it was opened.
    pub early: bool,
}

pub struct Joiner<T> {
    marks: VecDeque<(Duration, Seen<T>)>,
    /// Since when: those that stood in the log wait for nothing.
    lines: VecDeque<(Option<Duration>, KernelKill)>,
    /// Threads and thread groups of late, and when.
    victims: VecDeque<(Duration, u32)>,
    /// Ends for which there was no room.
    pub lost: u64,
}

impl<T> Default for Joiner<T> {
    fn default() -> Self {
        Joiner { marks: VecDeque::new(), lines: VecDeque::new(), victims: VecDeque::new(), lost: 0 }
    }
}

impl<T> Joiner<T> {
    /// Whether the mark is news: each thread of a victim may be marked.
    pub fn is_news(&mut self, mark: &Mark, at: Duration) -> bool {
        self.victims.retain(|(then, _)| at.saturating_sub(*then) < MEMORY);
        let victim = mark.victim.pid.unwrap_or(mark.victim.tid);
        if self.victims.iter().any(|(_, known)| *known == victim) {
            return false;
        }
        if self.victims.len() >= REMEMBERED {
            self.victims.pop_front();
        }
        self.victims.push_back((at, victim));
        true
    }

    pub fn waits(&self) -> bool {
        !self.marks.is_empty() || !self.lines.is_empty()
    }

    pub fn marked(&mut self, seen: Seen<T>, at: Duration) {
        if self.marks.len() >= WAITING {
            self.marks.pop_front();
            self.lost += 1;
        }
        self.marks.push_back((at, seen));
    }

    pub fn logged(&mut self, line: KernelKill, at: Option<Duration>) {
        if self.lines.len() >= WAITING {
            self.lines.pop_front();
            self.lost += 1;
        }
        self.lines.push_back((at, line));
    }

    /// Kills that need not wait any longer, in the order in which they were seen. `whole`: the log was read without a gap,
    /// so that a mark without a line is none; `last`: nothing more will come.
    pub fn ripe(&mut self, at: Duration, whole: bool, last: bool) -> Vec<Joined<T>> {
        let mut ripe = Vec::new();
        let waited = |since: Duration| last || at.saturating_sub(since) >= PATIENCE;
        let mut left = VecDeque::new();
        while let Some((since, line)) = self.lines.pop_front() {
            let is_it =
                |seen: &Seen<T>| seen.mark.victim.tid == line.pid || seen.mark.victim.pid == Some(line.pid);
            match self.marks.iter().position(|(_, seen)| is_it(seen)) {
                Some(place) => {
                    let mark = self.marks.remove(place).map(|(_, seen)| seen);
                    ripe.push((since, Joined { mark, line: Some(line), early: since.is_none() }));
                }
                None if since.is_none_or(waited) => {
                    ripe.push((since, Joined { mark: None, line: Some(line), early: since.is_none() }));
                }
                None => left.push_back((since, line)),
            }
        }
        self.lines = left;
        let mut left = VecDeque::new();
        while let Some((since, seen)) = self.marks.pop_front() {
            match waited(since) {
                true if whole => {}
                true => ripe.push((Some(since), Joined { mark: Some(seen), line: None, early: false })),
                false => left.push_back((since, seen)),
            }
        }
        self.marks = left;
        ripe.sort_by_key(|(since, _)| *since);
        ripe.into_iter().map(|(_, joined)| joined).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::oom::{Limit, Resident, Task};

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn seen(pid: u32, tid: u32) -> Seen<()> {
        let victim = Task { pid: Some(pid), tid, comm: None, cgroup: None };
        let trigger = Task::default();
        let mark = Mark { at: at(0), victim, resident: Resident::default(), trigger, limit: Limit::Unknown };
        Seen { mark, with: () }
    }

    fn line(pid: u32) -> KernelKill {
        KernelKill {
            at: at(0),
            pid,
            comm: "eat".to_owned(),
            resident: Resident::default(),
            memcg: true,
            constraint: None,
            report: None,
        }
    }

    fn ends(joined: &[Joined<()>]) -> Vec<(Option<u32>, Option<u32>)> {
        let mark = |joined: &Joined<()>| joined.mark.as_ref().and_then(|seen| seen.mark.victim.pid);
        joined.iter().map(|joined| (mark(joined), joined.line.as_ref().map(|line| line.pid))).collect()
    }

    #[test]
    fn both_ends_meet_whichever_comes_first() {
        let mut joiner = Joiner::default();
        joiner.marked(seen(7, 8), at(0));
        joiner.logged(line(8), Some(at(10)));
        joiner.logged(line(9), Some(at(10)));
        assert_eq!(ends(&joiner.ripe(at(20), true, false)), [(Some(7), Some(8))]);
        joiner.marked(seen(9, 9), at(30));
        assert_eq!(ends(&joiner.ripe(at(40), true, false)), [(Some(9), Some(9))]);
        assert!(joiner.ripe(at(9999), true, true).is_empty());
    }

    #[test]
    fn one_end_alone_waits_a_little() {
        let mut joiner = Joiner::default();
        joiner.logged(line(9), Some(at(0)));
        joiner.marked(seen(7, 7), at(0));
        assert!(joiner.ripe(at(100), false, false).is_empty());
        assert_eq!(ends(&joiner.ripe(at(400), false, false)), [(None, Some(9)), (Some(7), None)]);
        joiner.marked(seen(7, 7), at(0));
        assert!(joiner.ripe(at(400), true, false).is_empty(), "it was dying anyway");
    }

    #[test]
    fn a_victim_is_marked_once() {
        let mut joiner = Joiner::<()>::default();
        assert!(joiner.is_news(&seen(7, 7).mark, at(0)));
        assert!(!joiner.is_news(&seen(7, 8).mark, at(5)), "another thread of it");
        assert!(joiner.is_news(&seen(9, 9).mark, at(5)));
        assert!(joiner.is_news(&seen(7, 7).mark, at(20_000)), "the number was used again");
    }
}
