//! Removed memory cgroups that the kernel keeps: how many, what they pin, where they came from, who makes them. Joins what a
//! walk found with the names that were known while they lived.

pub mod kinds;
pub mod origin;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use self::{kinds::Pinned, origin::Origin};
use super::row::How;
use crate::{
    event::dead::Walked,
    resolve::{Container, label::label},
};

/// Names of removed cgroups that are kept; of those that the kernel let go they are forgotten with the next walk.
const KNOWN: usize = 32_768;
/// How far back it is looked for what is made.
const WINDOW: Duration = Duration::from_secs(30);
/// Below this no rate is told.
const WINDOW_LEAST: Duration = Duration::from_millis(500);
const MAKERS: usize = 8;

/// What is known of a living cgroup.
#[derive(Debug, Clone)]
pub struct Place {
    pub path: String,
    /// Of the row that counts it.
    pub container: Option<Arc<Container>>,
}

/// One that was seen to die.
#[derive(Debug, Clone)]
struct Known {
    container: Option<Arc<Container>>,
    at: Duration,
}

/// Who makes dead cgroups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Maker {
    /// The living row that they were in.
    pub parent: Option<Arc<Container>>,
    /// The living row that bears the name which most of them had: a container that is started over and over.
    pub workload: Option<Arc<Container>>,
    /// What most of them came from.
    pub origin: String,
    /// Within the last half minute.
    pub made: u64,
    pub per_s: Option<f64>,
}

/// A living row that got what those in it held when they died (a kernel that hands their pages on).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heir {
    pub container: Arc<Container>,
    /// What it holds beyond those that live in it,
    pub current: Option<u64>,
    /// and by how much that grew since one in it was first seen to die.
    pub growth: Option<i64>,
}

/// The dead, as of the last walk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeadReport {
    pub dead: u64,
    pub dead_how: Option<How>,
    pub pinned: Pinned,
    /// Memory of kernel objects that living cgroups got from dead ones.
    pub inherited_slab: Option<u64>,
    pub made_per_s: Option<f64>,
    pub made_per_s_how: Option<How>,
    /// Most pinned first.
    pub by_origin: Vec<Origin>,
    pub makers: Vec<Maker>,
    /// The kernel hands the pages of dead cgroups to the one around them.
    pub reparents: bool,
    pub heirs: Vec<Heir>,
    /// Living cgroups that the walk came by.
    pub live: u64,
    /// Since attach.
    pub walked_at: Duration,
    pub walk_took: Duration,
    pub walks: u32,
}

/// The state between walks.
#[derive(Default)]
pub struct DeadCgroups {
    known: HashMap<u64, Known>,
    /// Those that the last walk listed, and how many there were.
    before: Option<(HashSet<u64>, u64)>,
    /// When a walk was, what it found new, by the living cgroup around and by what they came from.
    made: VecDeque<(Duration, Vec<Made>)>,
    /// Some were made that were not listed.
    uncounted: bool,
}

#[derive(Debug, Clone)]
struct Made {
    living: u64,
    origin: String,
    count: u64,
}

impl DeadCgroups {
    /// A cgroup's directory is gone. `container`: the row that counted it.
    pub fn died(&mut self, id: u64, container: Option<Arc<Container>>, at: Duration) {
        if self.known.len() >= KNOWN && !self.known.contains_key(&id) {
            return;
        }
        let known = self.known.entry(id).or_insert(Known { container: None, at });
        if container.is_some() {
            known.container = container;
        }
    }

    /// A walk over all cgroups. `place` tells of the living ones, `alive` of living rows by their label.
    pub fn walked(
        &mut self,
        walked: &Walked,
        at: Duration,
        place: &dyn Fn(u64) -> Option<Place>,
        alive: &dyn Fn(&str) -> Option<Arc<Container>>,
    ) -> DeadReport {
        let seen = |id: u64| self.known.get(&id).map(|known| (known.container.as_deref(), known.at));
        let origins = origin::Origins::of(walked, at, &seen, place);
        let listed: HashSet<u64> = walked.listed.iter().map(|dead| dead.id).collect();
        self.count_made(walked, &origins, &listed, at);
        // Those that died after the walk went by are listed by the next one.
        self.known.retain(|id, known| listed.contains(id) || at.saturating_sub(known.at) < WINDOW);
        let (made_per_s, makers) = self.makers(at, place, alive);
        let how = (made_per_s.is_some() && self.uncounted).then_some(How::AtLeast);
        self.before = Some((listed, walked.all.count));
        DeadReport {
            dead: walked.all.count,
            dead_how: walked.disturbed.then_some(How::Inferred),
            pinned: Pinned {
                total: Some(walked.all.pinned),
                swap: Some(walked.all.swap),
                ..Pinned::default()
            },
            inherited_slab: None,
            made_per_s,
            made_per_s_how: how,
            by_origin: origins.groups(),
            makers,
            reparents: false,
            heirs: Vec::new(),
            live: walked.live,
            walked_at: at,
            walk_took: walked.took,
            walks: walked.walks,
        }
    }

    fn count_made(
        &mut self,
        walked: &Walked,
        origins: &origin::Origins,
        listed: &HashSet<u64>,
        at: Duration,
    ) {
        let mut made: HashMap<(u64, &str), u64> = HashMap::new();
        if let Some((before, count)) = &self.before {
            let mut new = 0;
            for dead in walked.listed.iter().filter(|dead| !before.contains(&dead.id)) {
                *made.entry((dead.living, origins.name(dead.id))).or_default() += 1;
                new += 1;
            }
            let more = walked.all.count.saturating_sub(*count);
            let whole = walked.all.count == listed.len() as u64 && *count == before.len() as u64;
            self.uncounted |= !whole;
            if more > new {
                *made.entry((0, "not listed one by one")).or_default() += more - new;
            }
        }
        let made = made.into_iter().map(|((living, origin), count)| Made {
            living,
            origin: origin.to_owned(),
            count,
        });
        self.made.push_back((at, made.collect()));
        // The first entry that is kept is where the window begins.
        while self.made.len() > 1 && at.saturating_sub(self.made[1].0) >= WINDOW {
            self.made.pop_front();
        }
    }

    fn makers(
        &self,
        at: Duration,
        place: &dyn Fn(u64) -> Option<Place>,
        alive: &dyn Fn(&str) -> Option<Arc<Container>>,
    ) -> (Option<f64>, Vec<Maker>) {
        let Some((start, _)) = self.made.front() else { return (None, Vec::new()) };
        let window = at.saturating_sub(*start);
        let per_second = |count: u64| (window >= WINDOW_LEAST).then(|| count as f64 / window.as_secs_f64());
        let mut by_parent: HashMap<u64, (u64, HashMap<&str, u64>)> = HashMap::new();
        let mut all = 0;
        for made in self.made.iter().skip(1).flat_map(|(_, made)| made) {
            let of = by_parent.entry(made.living).or_default();
            of.0 += made.count;
            *of.1.entry(&made.origin).or_default() += made.count;
            all += made.count;
        }
        let mut makers: Vec<Maker> = by_parent
            .into_iter()
            .map(|(living, (made, origins))| {
                let most = origins.into_iter().max_by_key(|(name, count)| (*count, std::cmp::Reverse(*name)));
                let origin = most.map_or_else(String::new, |(name, _)| name.to_owned());
                Maker {
                    parent: place(living).and_then(|place| place.container),
                    workload: alive(&origin),
                    origin,
                    made,
                    per_s: per_second(made),
                }
            })
            .collect();
        makers.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| a.origin.cmp(&b.origin)));
        makers.truncate(MAKERS);
        (per_second(all), makers)
    }
}

/// What a container's dead are called.
pub fn name(container: &Container) -> String {
    label(container)
}

#[cfg(test)]
mod tests;
