//! What the dead pin, by kind: what the living cgroup around them holds beyond those that live in it, and beyond itself. And
//! the slab that living cgroups got from their dead.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    aggregator::row::How,
    event::{
        dead::Walked,
        survey::{Held, Own},
    },
};

/// What dead cgroups pin. `file` includes `shmem`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pinned {
    pub total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_how: Option<How>,
    pub anon: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anon_how: Option<How>,
    pub file: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_how: Option<How>,
    pub shmem: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmem_how: Option<How>,
    pub swap: Option<u64>,
}

/// The living cgroups: what each holds, and those directly in it.
#[derive(Debug, Default)]
pub struct Survey {
    pub v2: bool,
    pub root: u64,
    pub held: HashMap<u64, Held>,
    pub children: HashMap<u64, Vec<u64>>,
    /// Of these some cgroup in them has no memory files of its own: what its tasks use is theirs.
    pub shared: HashSet<u64>,
    /// One in them was seen to die.
    pub bereaved: HashSet<u64>,
}

type Kind = fn(&Held) -> Option<u64>;

impl Survey {
    /// What a cgroup holds beyond those that live in it. Readings are not simultaneous: never below nothing.
    fn beyond(&self, id: u64, kind: Kind) -> Option<u64> {
        let all = kind(self.held.get(&id)?)?;
        let children = self.children.get(&id).into_iter().flatten();
        let living = children.map(|child| kind(self.held.get(child)?)).sum::<Option<u64>>()?;
        Some(all.saturating_sub(living))
    }

    /// The cgroup itself has no task whose memory would be counted with that of its dead.
    fn vacant(&self, id: u64) -> bool {
        !self.shared.contains(&id) && self.held.get(&id).is_some_and(|held| held.vacant)
    }

    /// Of the dead in a living cgroup. The second is whether it was measured: v1 tells what a cgroup has itself.
    fn of_dead(&self, id: u64, kind: Kind, own: fn(&Own) -> u64) -> Option<(u64, bool)> {
        let beyond = self.beyond(id, kind)?;
        match self.held.get(&id)?.own {
            Some(of_itself) => Some((beyond.saturating_sub(own(&of_itself)), true)),
            None if self.v2 && id != self.root && self.vacant(id) => Some((beyond, false)),
            None => None,
        }
    }
}

/// Sums over cgroups of which some may not be known.
#[derive(Default)]
struct Gathered {
    sum: u64,
    known: bool,
    unknown: bool,
    inferred: bool,
}

impl Gathered {
    fn add(&mut self, part: Option<(u64, bool)>) {
        match part {
            Some((bytes, measured)) => {
                self.sum += bytes;
                self.known = true;
                self.inferred |= !measured;
            }
            None => self.unknown = true,
        }
    }

    /// With nothing to add up it is nothing.
    fn told(&self) -> (Option<u64>, Option<How>) {
        match (self.known, self.unknown) {
            (false, true) => (None, None),
            (true, true) => (Some(self.sum), Some(How::AtLeast)),
            _ => (Some(self.sum), self.inferred.then_some(How::Inferred)),
        }
    }
}

/// By kind.
pub fn pinned(walked: &Walked, survey: &Survey) -> Pinned {
    let mut gathered: [Gathered; 3] = Default::default();
    let mut total = 0;
    for (living, sum) in &walked.sums {
        let mut anon = survey.of_dead(*living, |held| held.anon, |own| own.anon);
        let mut file = survey.of_dead(*living, |held| held.file, |own| own.file);
        let mut shmem = survey.of_dead(*living, |held| held.shmem, |own| own.shmem);
        let pages = anon.zip(file).map(|(anon, file)| anon.0 + file.0);
        // On v2 a cgroup may have pages of its own from before it handed the controller on: more than its dead can hold.
        if survey.v2 && pages.is_some_and(|pages| pages > sum.pinned + sum.pinned / 20 + (1 << 20)) {
            (anon, file, shmem) = (None, None, None);
        }
        // Their counters hold the kernel memory that they handed on, too, which v2 does not tell apart.
        total += match pages.filter(|_| survey.v2 && anon.is_some()) {
            Some(pages) => pages.min(sum.pinned),
            None => sum.pinned,
        };
        for (gathered, part) in gathered.iter_mut().zip([anon, file, shmem]) {
            gathered.add(part);
        }
    }
    // What is around some of them could not be kept.
    let of_sums: u64 = walked.sums.iter().map(|(_, sum)| sum.pinned).sum();
    total += walked.all.pinned.saturating_sub(of_sums);
    let [(anon, anon_how), (file, file_how), (shmem, shmem_how)] = gathered.map(|kind| kind.told());
    Pinned {
        total: Some(total),
        total_how: (survey.v2 && total > 0).then_some(How::Inferred),
        anon,
        anon_how,
        file,
        file_how,
        shmem,
        shmem_how,
        swap: Some(walked.all.swap),
    }
}

/// Kernel memory of living cgroups in which nobody is but who died: it was theirs (v1: slab is most of it). `None` where no
/// cgroup can be told of.
pub fn inherited_slab(walked: &Walked, survey: &Survey) -> Option<u64> {
    let with_dead = walked.sums.iter().map(|(living, _)| *living);
    let with_living = survey.children.iter().filter(|(_, children)| !children.is_empty()).map(|(id, _)| *id);
    let heirs: HashSet<u64> = with_dead.chain(with_living).chain(survey.bereaved.iter().copied()).collect();
    let mut sum = None;
    for id in heirs {
        // The root of v1 is charged for nothing of its own; that of v2 does not tell.
        let alone = if id == survey.root { !survey.v2 } else { survey.vacant(id) };
        if let Some(bytes) = survey.beyond(id, |held| held.slab).filter(|_| alone) {
            sum = Some(sum.unwrap_or(0) + bytes);
        }
    }
    sum
}
