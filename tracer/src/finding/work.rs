//! How work in flight went, beside the memory that it holds: what rules about requests need of earlier ticks. A row that is
//! not looked at is not kept.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::aggregator::{
    row::Row,
    work::flight::{Child, Flight},
};

/// Looks that are kept of a row: of a long run the last minutes.
const KEPT: usize = 300;
/// A row must be watched so long, and looked at so often.
const SPAN: Duration = Duration::from_secs(5);
const LOOKS: usize = 4;
/// What grows by less may be chance.
pub(super) const LEAST: f64 = 3.0;
/// Of all the ways up and down so much must have led up.
const STRAIGHT: f64 = 0.5;
/// Rows whose system calls are counted at once.
const CANDIDATES: usize = 4;
/// How closely memory must follow what is in flight.
const TOGETHER: f64 = 0.8;

/// A row at one look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment {
    at: Duration,
    pub anon: Option<f64>,
    /// Accepted and open.
    pub connections: Option<f64>,
    /// Accepted, or waiting for that.
    pub backlog: Option<f64>,
    /// Children alive, more than at the first look, of the name of which there are most more: requests are of a kind, what a
    /// start brings up is of many.
    pub children: f64,
    pub arrivals: Option<f64>,
    pub completions: Option<f64>,
    pub throttled: Option<f64>,
}

impl Moment {
    fn of(at: Duration, row: &Row, flight: &Flight, first: &HashMap<Arc<str>, u64>) -> Moment {
        let more = |child: &Child| child.running.saturating_sub(first.get(&child.comm).copied().unwrap_or(0));
        let number = |count: Option<u64>| count.map(|count| count as f64);
        Moment {
            at,
            anon: number(row.memory.anon),
            connections: number(flight.connections),
            backlog: number(flight.connections.zip(flight.queued).map(|(open, queued)| open + queued)),
            children: flight.children.iter().map(more).max().unwrap_or(0) as f64,
            arrivals: number(flight.arrivals),
            completions: number(flight.completions),
            throttled: row.throttled_share,
        }
    }

    /// Whether it leaves unknown what the other knows.
    fn lacks(&self, other: &Moment) -> bool {
        let of: [Of; 3] = [|moment| moment.anon, |moment| moment.connections, |moment| moment.backlog];
        of.into_iter().any(|of| of(self).is_none() && of(other).is_some())
    }
}

/// One row's, since it is looked at.
#[derive(Debug, Default)]
pub(super) struct Course {
    moments: VecDeque<Moment>,
    /// Children at the first look, by name.
    first: HashMap<Arc<str>, u64>,
    /// The last look: a row is not looked at in each tick.
    seen: Option<Arc<Flight>>,
}

type Of = fn(&Moment) -> Option<f64>;

impl Course {
    fn look(&mut self, at: Duration, row: &Row, flight: &Arc<Flight>) {
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, flight)) {
            return;
        }
        if self.seen.is_none() {
            self.first =
                flight.children.iter().map(|child| (Arc::clone(&child.comm), child.running)).collect();
        }
        self.seen = Some(Arc::clone(flight));
        self.push(Moment::of(at, row, flight, &self.first));
    }

    /// A look that could not tell everything (a process ended under it) is left out, and the first ones if a later one can:
    /// one unknown among them would be the last word for the whole run.
    fn push(&mut self, moment: Moment) {
        match self.moments.back() {
            Some(last) if moment.lacks(last) => return,
            Some(last) if last.lacks(&moment) => self.moments.clear(),
            _ => {}
        }
        self.moments.push_back(moment);
        if self.moments.len() > KEPT {
            self.moments.pop_front();
        }
    }

    pub fn span(&self) -> Duration {
        self.moments
            .back()
            .zip(self.moments.front())
            .map_or(Duration::ZERO, |(now, first)| now.at.saturating_sub(first.at))
    }

    pub fn is_long_enough(&self) -> bool {
        self.moments.len() >= LOOKS && self.span() >= SPAN
    }

    fn values(&self, of: Of) -> Option<Vec<f64>> {
        self.moments.iter().map(of).collect()
    }

    /// How much more there is than at the first look.
    pub fn change(&self, of: Of) -> Option<f64> {
        Some(of(self.moments.back()?)? - of(self.moments.front()?)?)
    }

    pub fn per_second(&self, of: Of) -> Option<f64> {
        let seconds = self.span().as_secs_f64();
        self.change(of).filter(|_| seconds > 0.0).map(|change| change / seconds)
    }

    pub fn mean(&self, of: Of) -> Option<f64> {
        let known: Vec<f64> = self.moments.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// How much more is in flight, where memory grows as well.
    fn more(&self) -> Option<f64> {
        let of: [Of; 2] = [|moment| moment.connections, |moment| Some(moment.children)];
        let more = of.into_iter().filter_map(|of| self.change(of)).fold(0.0, f64::max);
        let memory = self.change(|moment| moment.anon)?;
        (self.moments.len() > 1 && more >= 2.0 && memory > 0.0).then_some(more)
    }

    /// It grew by more than chance would have it where as much comes as goes, in both halves of the time, and is at its most.
    pub fn piles_up(&self, of: Of) -> bool {
        let Some(values) = self.values(of).filter(|values| values.len() >= LOOKS) else { return false };
        let (first, middle, last) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        let most = values.iter().copied().fold(first, f64::max);
        // Of many that come and go as many more or less are there by chance as the root of their number.
        let chance =
            self.change(|moment| moment.arrivals).map_or(0.0, |come| (come * 0.3).min(3.0 * come.sqrt()));
        let ways: f64 = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
        last - first >= LEAST.max(chance)
            && middle >= first
            && last > middle
            && last >= most * 0.9
            && last - first >= ways * STRAIGHT
    }

    /// Whether memory goes up and down with it.
    pub fn goes_with_memory(&self, of: Of) -> bool {
        let (Some(a), Some(b)) = (self.values(of), self.values(|moment| moment.anon)) else { return false };
        correlation(&a, &b).is_some_and(|together| together >= TOGETHER)
    }

    /// The same at each of the looks since half of the time: memory goes on growing.
    pub fn memory_grows_on(&self) -> bool {
        let Some(anon) = self.values(|moment| moment.anon) else { return false };
        let middle = anon[anon.len() / 2];
        anon.last().is_some_and(|last| *last > middle && middle > anon[0])
    }
}

/// Pearson's; `None` where one of them stands still.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |by: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| by(a - mean_a, b - mean_b)).sum::<f64>();
    let (both, of_a, of_b) = (sum(|a, b| a * b), sum(|a, _| a * a), sum(|_, b| b * b));
    (of_a > 0.0 && of_b > 0.0).then(|| both / (of_a * of_b).sqrt())
}

/// All that is kept.
#[derive(Default)]
pub(super) struct Courses {
    rows: HashMap<u64, Course>,
}

impl Courses {
    pub fn note(&mut self, at: Duration, rows: &[Arc<Row>]) {
        let mut before = std::mem::take(&mut self.rows);
        for row in rows.iter().filter(|row| row.removed.is_none()) {
            let Some(flight) = &row.flight else { continue };
            let id = row.container.cgroup.id;
            let mut course = before.remove(&id).unwrap_or_default();
            course.look(at, row, flight);
            self.rows.insert(id, course);
        }
    }

    /// Rows that may be about to pile up: what they do meanwhile is worth knowing before it is sure.
    pub fn candidates(&self) -> HashSet<u64> {
        let mut rows: Vec<(f64, u64)> =
            self.rows.iter().filter_map(|(id, course)| Some((course.more()?, *id))).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        rows.into_iter().take(CANDIDATES).map(|(_, id)| id).collect()
    }

    pub fn row(&self, id: u64) -> Option<&Course> {
        self.rows.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(values: &[f64], arrivals: f64) -> Course {
        let moment = |(second, value): (usize, &f64)| Moment {
            at: Duration::from_secs(second as u64),
            anon: Some(1e6 * value),
            connections: Some(*value),
            backlog: Some(*value),
            children: *value,
            arrivals: Some(arrivals * second as f64),
            completions: None,
            throttled: None,
        };
        Course { moments: values.iter().enumerate().map(moment).collect(), ..Course::default() }
    }

    fn piles_up(values: &[f64], arrivals: f64) -> bool {
        course(values, arrivals).piles_up(|moment| moment.connections)
    }

    #[test]
    fn what_grows_throughout_piles_up_and_what_comes_and_goes_does_not() {
        assert!(piles_up(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1.0));
        assert!(piles_up(&[100.0, 100.0, 101.0, 102.0, 103.0, 104.0], 0.7), "however many there were before");
        assert!(!piles_up(&[1.0, 5.0, 9.0, 5.0, 1.0, 4.0], 9.0));
        assert!(!piles_up(&[1.0, 7.0, 7.0, 7.0, 7.0, 7.0], 1.0), "it came at once and stands");
        assert!(!piles_up(&[500.0, 510.0, 505.0, 520.0, 515.0, 525.0], 400.0), "chance among two thousand");
        assert!(piles_up(&[500.0, 540.0, 580.0, 620.0, 660.0, 700.0], 400.0));
        assert!(!piles_up(&[1.0, 5.0], 1.0), "too few looks");
    }

    #[test]
    fn a_look_that_could_not_tell_is_no_part_of_it() {
        let whole = course(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 1.0);
        let with_unknown = |unknown: usize| {
            let mut course = Course::default();
            for (number, moment) in whole.moments.iter().enumerate() {
                let known = (number != unknown).then_some(());
                course.push(Moment {
                    connections: known.and(moment.connections),
                    backlog: known.and(moment.backlog),
                    ..*moment
                });
            }
            course
        };
        for unknown in [0, 3, 6] {
            let course = with_unknown(unknown);
            assert_eq!(course.moments.len(), 6, "{unknown}");
            assert!(course.piles_up(|moment| moment.connections), "{unknown}");
        }
    }

    #[test]
    fn memory_that_does_something_else_does_not_go_with_it() {
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0]), None);
        assert!(correlation(&[1.0, 9.0, 2.0, 8.0, 3.0], &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap() < TOGETHER);
    }
}
