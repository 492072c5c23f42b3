//! Where dead cgroups came from: by the name of the row that counted them while they lived; of those that died before attach
//! by what their path says, with the numbers that tell one from the next left out.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;

use super::{Place, name};
use crate::{
    aggregator::row::How,
    event::dead::{DeadCgroup, Walked},
    resolve::{
        Container, Runtime,
        container::{Role, classify},
    },
};

/// Groups that are told; the rest are one.
const GROUPS: usize = 512;
/// Deeper than any path: lists that are walked over while they change may lead in a circle.
const DEPTH: usize = 64;
const EXAMPLES: usize = 3;

/// Dead cgroups of one origin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Origin {
    pub origin: String,
    pub count: u64,
    /// Without those in them that are of another origin.
    pub pinned: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_how: Option<How>,
    /// Since the first of them died.
    pub oldest_s: Option<f64>,
    /// At least, where some died before attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_s_how: Option<How>,
    /// They were seen while they lived; else the name is what is left of their paths.
    pub seen_alive: bool,
    pub runtime: Option<Runtime>,
    pub pod: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    /// Path of the first living cgroup around them, where it is one.
    pub parent: Option<String>,
    /// Paths that some of them had.
    pub examples: Vec<String>,
}

/// Who was seen to die, and when: by its id.
pub type Seen<'a> = dyn Fn(u64) -> Option<(Option<&'a Container>, Duration)> + 'a;

/// Every dead cgroup's origin.
pub struct Origins {
    by_id: HashMap<u64, String>,
    groups: BTreeMap<String, Origin>,
    with_kernel: bool,
}

impl Origins {
    pub fn of(
        walked: &Walked,
        at: Duration,
        seen: &Seen<'_>,
        place: &dyn Fn(u64) -> Option<Place>,
    ) -> Origins {
        let dead: HashMap<u64, &DeadCgroup> = walked.listed.iter().map(|dead| (dead.id, dead)).collect();
        // What is nested counts where it is.
        let mut inner: HashMap<u64, u64> = HashMap::new();
        for one in walked.listed.iter().filter(|one| dead.contains_key(&one.above)) {
            *inner.entry(one.above).or_default() += one.pinned;
        }
        let places: HashMap<u64, Option<Place>> =
            walked.sums.iter().map(|(living, _)| (*living, place(*living))).collect();
        let mut origins =
            Origins { by_id: HashMap::new(), groups: BTreeMap::new(), with_kernel: walked.with_kernel };
        for one in &walked.listed {
            let pinned = one.pinned.saturating_sub(inner.get(&one.id).copied().unwrap_or(0));
            let living = places.get(&one.living).and_then(Option::as_ref);
            let remains = Remains::of(one, &dead, living);
            let container = nearest_seen(one, &dead, seen);
            let died = seen(one.id).map(|(_, died)| died);
            let origin = container.map_or_else(|| remains.origin(living), name);
            origins.by_id.insert(one.id, origin.clone());
            let group = origins.groups.entry(origin.clone()).or_insert_with(|| Origin {
                origin,
                pinned: Some(0),
                seen_alive: container.is_some(),
                runtime: container.map(|container| container.runtime).or(remains.runtime),
                pod: container.and_then(|container| container.pod.clone()).or(remains.pod_uid.clone()),
                namespace: container.and_then(|container| container.namespace.clone()),
                image: container.and_then(|container| container.image.clone()),
                parent: living.map(|living| living.path.clone()),
                ..Origin::default()
            });
            group.add(1, pinned);
            let age = at.saturating_sub(died.unwrap_or_default()).as_secs_f64();
            group.oldest_s = Some(group.oldest_s.map_or(age, |oldest| oldest.max(age)));
            if died.is_none() {
                group.oldest_s_how = Some(How::AtLeast);
            }
            if group.parent.as_deref() != living.map(|living| living.path.as_str()) {
                group.parent = None;
            }
            if group.examples.len() < EXAMPLES {
                group.examples.push(remains.path);
            }
        }
        origins.count_unlisted(walked, &dead, &places);
        origins
    }

    /// Those for which the list had no room are counted by the cgroup around them.
    fn count_unlisted(
        &mut self,
        walked: &Walked,
        dead: &HashMap<u64, &DeadCgroup>,
        places: &HashMap<u64, Option<Place>>,
    ) {
        let mut listed: HashMap<u64, (u64, u64)> = HashMap::new();
        for one in &walked.listed {
            let sum = listed.entry(one.living).or_default();
            sum.0 += 1;
            sum.1 += if dead.contains_key(&one.above) { 0 } else { one.pinned };
        }
        let mut counted = 0;
        for (living, sum) in &walked.sums {
            let (count, pinned) = listed.get(living).copied().unwrap_or_default();
            let left = sum.count.saturating_sub(count);
            counted += left;
            if left == 0 {
                continue;
            }
            let path = places.get(living).and_then(Option::as_ref).map(|place| place.path.clone());
            let origin = format!("{}: not listed one by one", path.as_deref().unwrap_or("elsewhere"));
            let group = Origin { origin: origin.clone(), pinned: Some(0), parent: path, ..Origin::default() };
            self.groups.entry(origin).or_insert(group).add(left, sum.pinned.saturating_sub(pinned));
        }
        // Of what is around these not even a sum was kept.
        let left = walked.all.count.saturating_sub(walked.listed.len() as u64 + counted);
        if left > 0 {
            let origin = String::from("elsewhere: not listed one by one");
            let group = self.groups.entry(origin.clone()).or_default();
            group.origin = origin;
            group.count += left;
            group.pinned = None;
        }
    }

    /// Of one that was listed.
    pub fn name(&self, id: u64) -> &str {
        self.by_id.get(&id).map_or("", String::as_str)
    }

    /// Most pinned first.
    pub fn groups(self) -> Vec<Origin> {
        let mut groups: Vec<Origin> = self.groups.into_values().collect();
        let how = self.with_kernel.then_some(How::Inferred);
        groups.iter_mut().for_each(|group| group.pinned_how = how.filter(|_| group.pinned.is_some()));
        groups.sort_by(|a, b| {
            (b.pinned, b.count).cmp(&(a.pinned, a.count)).then_with(|| a.origin.cmp(&b.origin))
        });
        if groups.len() > GROUPS {
            let rest = groups.split_off(GROUPS - 1);
            let mut others = Origin {
                origin: format!("{} other origins", rest.len()),
                pinned: Some(0),
                pinned_how: how,
                ..Origin::default()
            };
            for one in rest {
                others.add(one.count, one.pinned.unwrap_or(0));
            }
            groups.push(others);
        }
        groups
    }
}

impl Origin {
    fn add(&mut self, count: u64, pinned: u64) {
        self.count += count;
        self.pinned = self.pinned.map(|before| before + pinned);
    }
}

/// The row that counted it, or the dead one around it, while it lived.
fn nearest_seen<'a>(
    one: &DeadCgroup,
    dead: &HashMap<u64, &DeadCgroup>,
    seen: &Seen<'a>,
) -> Option<&'a Container> {
    let mut id = one.id;
    for _ in 0..DEPTH {
        if let Some((Some(container), _)) = seen(id) {
            return Some(container);
        }
        id = dead.get(&id)?.above;
    }
    None
}

/// What the kernel still tells of one that nobody saw alive.
struct Remains {
    path: String,
    /// Below the living cgroup around it, with each number a `*`.
    below: String,
    runtime: Option<Runtime>,
    pod_uid: Option<String>,
}

impl Remains {
    fn of(one: &DeadCgroup, dead: &HashMap<u64, &DeadCgroup>, living: Option<&Place>) -> Remains {
        let mut names = Vec::new();
        let mut at = Some(one);
        while let Some(found) = at.filter(|_| names.len() < DEPTH) {
            let name = found.name.as_deref().unwrap_or("?");
            names.push(if found.name_is_cut { format!("{name}...") } else { name.to_owned() });
            if found.above == found.living {
                break;
            }
            at = dead.get(&found.above).copied();
            if at.is_none() {
                names.push(String::from("..."));
            }
        }
        names.reverse();
        let around = living.map_or("?", |living| living.path.trim_end_matches('/'));
        let path = format!("{around}/{}", names.join("/"));
        let shape = classify(&path);
        let known = matches!(shape.role, Role::Container | Role::Pod | Role::Unit);
        Remains {
            below: names.iter().map(|name| general(name)).collect::<Vec<_>>().join("/"),
            runtime: known.then_some(shape.runtime),
            pod_uid: shape.pod_uid,
            path,
        }
    }

    fn origin(&self, living: Option<&Place>) -> String {
        let named =
            |place: &&Place| place.container.as_ref().is_some_and(|of| of.name.is_some() || of.pod.is_some());
        match (living.filter(named).and_then(|place| place.container.as_deref()), living) {
            (Some(container), _) => format!("{}/{}", name(container), self.below),
            (None, Some(place)) => format!("{}/{}", place.path.trim_end_matches('/'), self.below),
            (None, None) => format!("?/{}", self.below),
        }
    }
}

/// A directory's name with what tells it from its like left out: numbers, ids.
pub fn general(text: &str) -> String {
    let text = without_uids(text);
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        out.push_str(&general_word(&word));
        word.clear();
        out.push(letter);
    }
    out + &general_word(&word)
}

/// Groups of hexadecimal digits in a uid, with `-` or, in a slice's name, `_` between them.
const UID: [usize; 5] = [8, 4, 4, 4, 12];
const UID_LENGTH: usize = 36;

fn is_uid(text: &[u8]) -> bool {
    let mut groups = text.split(|byte| matches!(byte, b'-' | b'_'));
    let hex = |group: &[u8]| group.iter().all(u8::is_ascii_hexdigit);
    let fits = |length: &usize| groups.next().is_some_and(|group| group.len() == *length && hex(group));
    UID.iter().all(fits) && groups.next().is_none()
}

fn without_uids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        match rest.as_bytes().get(..UID_LENGTH).filter(|start| is_uid(start)) {
            Some(_) => {
                out.push('*');
                rest = &rest[UID_LENGTH..];
            }
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    out
}

fn general_word(word: &str) -> String {
    if !word.bytes().any(|byte| byte.is_ascii_digit()) {
        return word.to_owned();
    }
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if word.len() >= 8 && hex(word) {
        return String::from("*");
    }
    // The kubelet's name for a pod that it has from a file.
    if word.strip_prefix("pod").is_some_and(|uid| uid.len() >= 8 && hex(uid)) {
        return String::from("pod*");
    }
    let mut out = String::new();
    for letter in word.chars() {
        match letter.is_ascii_digit() {
            false => out.push(letter),
            true if out.ends_with('*') => {}
            true => out.push('*'),
        }
    }
    out
}
