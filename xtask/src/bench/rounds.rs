//! What is measured beside each of several things, in rounds there and back again: a drift of the machine falls on all
//! alike.

use std::fmt::Debug;

use anyhow::Result;

use super::{
    Bed, quiet,
    report::{Line, Unit},
    storm::{Took, median},
};

/// By kind, by what is measured, of each round.
pub(super) struct Rounds<K> {
    pub(super) kinds: Vec<K>,
    took: Vec<Vec<Vec<Took>>>,
}

impl<K: Copy + Debug + PartialEq> Rounds<K> {
    /// `kinds` begins with nothing beside; `measure` gives what each of its works took, or None if another memtrace
    /// came by.
    pub(super) fn run(
        bed: &Bed,
        kinds: Vec<K>,
        works: usize,
        mut measure: impl FnMut(K) -> Result<Option<Vec<Took>>>,
    ) -> Result<Self> {
        let mut took: Vec<Vec<Vec<Took>>> = kinds.iter().map(|_| vec![Vec::new(); works]).collect();
        // The first round brings caches and the clock's frequency to where they stay.
        for round in 0..=bed.rounds {
            let mut both: Vec<Vec<Vec<Took>>> = kinds.iter().map(|_| vec![Vec::new(); works]).collect();
            for index in (0..kinds.len()).chain((0..kinds.len()).rev()) {
                if round == 0 && index > 0 {
                    continue;
                }
                let found = loop {
                    quiet::wait(bed)?;
                    if let Some(found) = measure(kinds[index])?
                        && quiet::is_alone(bed)?
                    {
                        break found;
                    }
                    eprintln!("bench: another memtrace came by, so that {:?} is tried again", kinds[index]);
                };
                for (took, found) in both[index].iter_mut().zip(found) {
                    took.push(found);
                }
            }
            if round == 0 {
                continue;
            }
            for (all, both) in took.iter_mut().flatten().zip(both.iter().flatten()) {
                if !both.is_empty() {
                    all.push(Took::mean(both));
                }
            }
        }
        Ok(Self { kinds, took })
    }

    fn of(&self, kind: K, work: usize) -> Option<&[Took]> {
        let index = self.kinds.iter().position(|one| *one == kind)?;
        Some(&self.took[index][work]).filter(|took| !took.is_empty()).map(Vec::as_slice)
    }

    fn pairs(&self, kind: K, work: usize) -> Option<impl Iterator<Item = (&Took, &Took)>> {
        Some(self.of(kind, work)?.iter().zip(self.of(self.kinds[0], work)?))
    }

    /// Nanoseconds of CPU time that it adds to an operation, in each round.
    pub(super) fn added(&self, kind: K, work: usize) -> Option<Vec<f64>> {
        Some(self.pairs(kind, work)?.map(|(with, alone)| (with.cpu - alone.cpu).max(0.0)).collect())
    }

    /// A row of an operation beside `kind`, beside nothing.
    pub(super) fn line(
        &self,
        kind: K,
        work: usize,
        name: &'static str,
        what: String,
        clock: fn(&Took) -> f64,
    ) -> Result<Option<Line>> {
        let (Some(pairs), Some(with), Some(alone)) =
            (self.pairs(kind, work), self.of(kind, work), self.of(self.kinds[0], work))
        else {
            return Ok(None);
        };
        let ratios: Vec<f64> = pairs.map(|(with, alone)| clock(with) / clock(alone)).collect();
        let line = Line::new(name, what, Unit::Nanoseconds, median(with.iter().map(clock)));
        Ok(Some(line.beside(median(alone.iter().map(clock))).ratios(&ratios)?))
    }
}
