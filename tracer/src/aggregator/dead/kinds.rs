//! What the dead pin, by kind: what the living cgroup around them holds beyond those that live in it, and beyond itself. And
//! the slab that living cgroups got from their dead.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    aggregator::row::How,
    event::{
        dead::{Listed, Walked},
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

/// What the dead in a living cgroup pin of each kind; `None` where that cannot be told.
fn kinds(living: u64, pinned: u64, survey: &Survey) -> [Option<(u64, bool)>; 3] {
    let anon = survey.of_dead(living, |held| held.anon, |own| own.anon);
    let file = survey.of_dead(living, |held| held.file, |own| own.file);
    let shmem = survey.of_dead(living, |held| held.shmem, |own| own.shmem);
    let pages = anon.zip(file).map(|(anon, file)| anon.0 + file.0);
    // On v2 a cgroup may have pages of its own from before it handed the controller on: more than its dead can hold.
    let too_much = |pages: u64| pages > pinned + pinned / 20 + (1 << 20);
    if survey.v2 && pages.is_some_and(too_much) { [None; 3] } else { [anon, file, shmem] }
}

/// Takes the kernel memory that was handed on out of the sizes, where they hold it: of those in one living cgroup it is known
/// what they pin together, and each is taken to have handed on as large a part.
pub fn without_kernel(mut walked: Walked, survey: &Survey) -> Walked {
    if !walked.with_kernel {
        return walked;
    }
    let mut true_sums: HashMap<u64, (u64, u64)> = HashMap::new();
    for (living, sum) in &mut walked.sums {
        let [anon, file, _] = kinds(*living, sum.pinned, survey);
        let sock = survey.of_dead(*living, |held| held.sock, |_| 0).map_or(0, |(bytes, _)| bytes);
        if let Some(pages) = anon.zip(file).map(|(anon, file)| anon.0 + file.0 + sock)
            && pages < sum.pinned
        {
            true_sums.insert(*living, (pages, sum.pinned));
            walked.all.pinned = walked.all.pinned.saturating_sub(sum.pinned - pages);
            sum.pinned = pages;
        }
    }
    for dead in &mut walked.listed {
        if let Some((pages, pinned)) = true_sums.get(&dead.living) {
            dead.pinned = (u128::from(dead.pinned) * u128::from(*pages) / u128::from(*pinned)) as u64;
        }
    }
    walked
}

/// By kind.
pub fn pinned(walked: &Walked, survey: &Survey) -> Pinned {
    let mut gathered: [Gathered; 3] = Default::default();
    for (living, sum) in &walked.sums {
        let kinds = match sum.listed {
            // Nobody is in a dead cgroup: what lies beside the files is tmpfs, but for what somebody took away with him.
            Some(Listed { anon, file }) => [None, Some((file + anon, false)), Some((anon, false))],
            None => kinds(*living, sum.pinned, survey),
        };
        for (gathered, part) in gathered.iter_mut().zip(kinds) {
            gathered.add(part);
        }
    }
    let [(anon, anon_how), (file, file_how), (shmem, shmem_how)] = gathered.map(|kind| kind.told());
    let total = walked.all.pinned;
    Pinned {
        total: Some(total),
        total_how: (walked.with_kernel && total > 0).then_some(How::Inferred),
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
