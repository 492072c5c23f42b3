//! How what one daemon holds went: over all the time that it is looked at, and over the last minutes, for a leak that begins
//! late in a long run.

use std::{collections::VecDeque, time::Duration};

use crate::event::descriptors::Holdings;

/// Looks that are kept of all the time: when there are more, two become one, with the least of both.
const LOOKS: usize = 64;
/// The last minutes,
const RECENT: Duration = Duration::from_secs(128);
/// of which looks are kept that lie so far apart.
const GAP: Duration = Duration::from_secs(4);

/// Descriptors and threads.
type Counts = [Option<u64>; 2];

/// What it came to over some time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Growth {
    pub watched_s: f64,
    pub looks: u32,
    pub fds: Option<i64>,
    pub threads: Option<i64>,
    pub anon: Option<i64>,
    /// The least that it had in each quarter of the time, descriptors and threads: what comes and goes does not count.
    pub floors: [Option<[u64; 4]>; 2],
}

#[derive(Debug, Default)]
pub(super) struct Course {
    first: (Duration, Holdings),
    last: (Duration, Holdings),
    looks: Vec<(Duration, Counts)>,
    /// Looks that one of these stands for, and how many the last stands for yet.
    stride: u32,
    in_last: u32,
    count: u32,
    recent: VecDeque<(Duration, Counts, Option<u64>)>,
}

impl Course {
    pub fn look(&mut self, at: Duration, holdings: Holdings) {
        if self.count == 0 {
            self.first = (at, holdings);
            self.stride = 1;
        }
        self.last = (at, holdings);
        self.count += 1;
        let counts = [holdings.fds.map(|fds| fds.total), holdings.threads];
        self.remember(at, counts);
        if self.recent.back().is_none_or(|last| at.saturating_sub(last.0) >= GAP) {
            self.recent.push_back((at, counts, holdings.anon));
        }
        while self.recent.front().is_some_and(|first| at.saturating_sub(first.0) > RECENT) {
            self.recent.pop_front();
        }
    }

    /// When it was looked at last, and what it held then.
    pub fn last(&self) -> Option<(Duration, Holdings)> {
        (self.count > 0).then_some(self.last)
    }

    /// Against the first look.
    pub fn whole(&self) -> Growth {
        let ((since, first), (at, last)) = (self.first, self.last);
        let fds = |holdings: &Holdings| holdings.fds.map(|fds| fds.total);
        let looks = || self.looks.iter().copied();
        Growth {
            watched_s: at.saturating_sub(since).as_secs_f64(),
            looks: self.count,
            fds: difference(fds(&first), fds(&last)),
            threads: difference(first.threads, last.threads),
            anon: difference(first.anon, last.anon),
            floors: [floors(looks(), 0), floors(looks(), 1)],
        }
    }

    /// Against the look some minutes ago; `None` where the first one is not older.
    pub fn recent(&self) -> Option<Growth> {
        let (first, last) = (self.recent.front()?, self.recent.back()?);
        if first.0 == self.first.0 {
            return None;
        }
        let looks = || self.recent.iter().map(|(at, counts, _)| (*at, *counts));
        Some(Growth {
            watched_s: last.0.saturating_sub(first.0).as_secs_f64(),
            looks: self.recent.len() as u32,
            fds: difference(first.1[0], last.1[0]),
            threads: difference(first.1[1], last.1[1]),
            anon: difference(first.2, last.2),
            floors: [floors(looks(), 0), floors(looks(), 1)],
        })
    }

    fn remember(&mut self, at: Duration, counts: Counts) {
        match self.looks.last_mut().filter(|_| self.in_last < self.stride) {
            Some((_, least)) => *least = least_of(*least, counts),
            None => {
                self.looks.push((at, counts));
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
}

/// `None` where a quarter had no look, or one did not tell.
fn floors(looks: impl Iterator<Item = (Duration, Counts)> + Clone, what: usize) -> Option<[u64; 4]> {
    let (first, last) = (looks.clone().next()?.0, looks.clone().last()?.0);
    let whole = last.saturating_sub(first).as_secs_f64();
    let mut floors = [None; 4];
    for (at, counts) in looks {
        let share = at.saturating_sub(first).as_secs_f64() / whole.max(f64::MIN_POSITIVE);
        let place = &mut floors[((share * 4.0) as usize).min(3)];
        let count = counts[what]?;
        *place = Some(place.map_or(count, |least: u64| least.min(count)));
    }
    let [Some(a), Some(b), Some(c), Some(d)] = floors else { return None };
    Some([a, b, c, d])
}

fn least_of(a: Counts, b: Counts) -> Counts {
    let least = |at: usize| a[at].zip(b[at]).map(|(a, b)| a.min(b));
    [least(0), least(1)]
}

fn difference(first: Option<u64>, last: Option<u64>) -> Option<i64> {
    Some(last? as i64 - first? as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::descriptors::Descriptors;

    fn course(seconds: u64, fds: impl Fn(u64) -> u64) -> Course {
        let mut course = Course::default();
        for second in 0..seconds {
            let fds = Some(Descriptors { total: fds(second), ..Descriptors::default() });
            let holdings = Holdings { fds, threads: Some(5), anon: Some(1000 + second) };
            course.look(Duration::from_secs(second), holdings);
        }
        course
    }

    #[test]
    fn growth_is_against_the_first_look_and_floors_leave_out_what_comes_and_goes() {
        let whole = course(16, |second| 10 + second + if second % 2 == 0 { 40 } else { 0 }).whole();
        assert_eq!(
            (whole.fds, whole.threads, whole.anon, whole.looks),
            (Some(15 - 40), Some(0), Some(15), 16)
        );
        assert_eq!(whole.floors, [Some([11, 15, 19, 23]), Some([5; 4])]);
    }

    #[test]
    fn it_is_bounded() {
        let long = course(10_000, |second| second);
        assert!(long.looks.len() <= LOOKS && long.recent.len() <= 33);
        let floors = long.whole().floors[0].expect("each quarter has some");
        assert!(floors.windows(2).all(|two| two[0] + 2000 < two[1]), "{floors:?}");
    }

    /// What was before hides it in the whole.
    #[test]
    fn what_begins_late_is_seen_in_the_last_minutes() {
        assert_eq!(course(100, |second| second).recent(), None, "it is the whole");
        let late = course(4000, |second| 100 + u64::saturating_sub(second, 3850));
        let whole = late.whole().floors[0].expect("each quarter has some");
        assert_eq!(whole[0], whole[2]);
        let recent = late.recent().expect("it is looked at for long");
        let floors = recent.floors[0].expect("each quarter has some");
        assert!(floors.windows(2).all(|two| two[0] + 20 < two[1]), "{floors:?}");
        assert!((120.0..=128.0).contains(&recent.watched_s), "{recent:?}");
        assert_eq!((recent.fds, recent.anon), (Some(recent.watched_s as i64), Some(recent.watched_s as i64)));
    }
}
