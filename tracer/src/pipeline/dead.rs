//! When the dead memory cgroups are looked for, and what is read beside them. A look costs a few hundred nanoseconds for each
//! cgroup there is, so it is taken when some were removed or the kernel's own count is another, else now and then.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use tracer_ebpf::abi::offsets::Symbol;

use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        dead::{
            DeadCgroups, DeadReport, Heir, Place,
            kinds::{Survey, inherited_slab, pinned, without_kernel},
        },
        row::Row,
    },
    event::{DeadCgroups as Count, Event, HostMemory, dead::Walked, survey},
    kernel::Facts,
    resolve::label::label,
};

/// Nothing told of a change: looked at all the same.
const AGE: Duration = Duration::from_secs(10);
/// Of the time between two looks, one may take such a part,
const SHARE: u32 = 100;
/// and such a part where nothing told of a change.
const SHARE_UNTOLD: u32 = 500;
/// Living cgroups whose files are read for a look.
const READ: usize = 8192;
const HEIRS: usize = 16;

/// Looks for dead memory cgroups.
pub struct Undertaker {
    /// One by one, with what they pin; else only how many there are.
    whole: bool,
    reparents: bool,
    state: DeadCgroups,
    report: Option<Arc<DeadReport>>,
    /// The last look: when, what it took, the kernel's own count then, what it found.
    last: Option<Look>,
    removed: bool,
    failed: u64,
    /// Living cgroups in which one was seen to die, and what the row then held.
    bereaved: HashSet<u64>,
    before: HashMap<u64, Option<u64>>,
}

struct Look {
    at: Instant,
    took: Duration,
    count: Option<u64>,
    found: Option<Count>,
}

impl Undertaker {
    pub fn new(whole: bool, facts: &Facts) -> Undertaker {
        Undertaker {
            whole,
            reparents: facts.symbol(Symbol::UnchargeObjcg).is_some(),
            state: DeadCgroups::default(),
            report: None,
            last: None,
            removed: false,
            failed: 0,
            bereaved: HashSet::new(),
            before: HashMap::new(),
        }
    }

    /// Looks if it is time to, and puts the number found in the place of the one that the kernel counts.
    pub fn tick(
        &mut self,
        probes: &mut Probes,
        rows: &mut Rows,
        facts: &Facts,
        host: &mut HostMemory,
        (at, now): (Duration, Instant),
    ) -> Option<Event> {
        self.bury(rows, at);
        let count = host.dead_cgroups.map(|(Count::Measured(count) | Count::Inferred(count))| count);
        if self.is_due(count, now) {
            let start = Instant::now();
            match probes.walk_dead() {
                Some(Ok(walked)) => {
                    let found = self.look(walked, rows, facts, at);
                    self.last = Some(Look { at: now, took: start.elapsed(), count, found: Some(found) });
                }
                // A walk that cannot be had takes its time, too.
                Some(Err(_)) => {
                    self.failed += 1;
                    self.last = Some(Look { at: now, took: start.elapsed(), count, found: None });
                }
                None => {}
            }
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.count == count && !self.removed) {
            host.dead_cgroups = last.found.or(host.dead_cgroups);
        }
        let what = "walks over the dead memory cgroups that did not come to an end";
        (self.failed > 0).then_some(Event::Lost { what, count: self.failed })
    }

    /// Names of those that are gone, for when they are found to be kept.
    fn bury(&mut self, rows: &mut Rows, at: Duration) {
        for died in rows.died.drain(..) {
            self.removed = true;
            if !self.whole {
                continue;
            }
            self.state.died(died.id, died.container, at);
            if let Some(parent) = died.parent.filter(|_| self.bereaved.len() < READ) {
                self.bereaved.insert(parent);
            }
            if let Some(row) = died.above.filter(|_| self.reparents && self.before.len() < READ) {
                self.before.entry(row).or_insert(died.held_above);
            }
        }
    }

    fn is_due(&self, count: Option<u64>, now: Instant) -> bool {
        let Some(last) = &self.last else { return true };
        let age = now.saturating_duration_since(last.at);
        let told = self.removed || count != last.count;
        if told { age >= last.took * SHARE } else { age >= AGE.max(last.took * SHARE_UNTOLD) }
    }

    fn look(&mut self, mut walked: Walked, rows: &Rows, facts: &Facts, at: Duration) -> Count {
        self.removed = false;
        if self.whole {
            let place = |id: u64| {
                let container = rows.tree.nearest_row(id).and_then(|row| rows.aggregator.shared(row));
                Some(Place { path: rows.tree.node(id)?.path.clone(), container })
            };
            let alive = |name: &str| {
                let id = rows.containers().find(|(_, container)| label(container) == name)?.0;
                rows.aggregator.shared(id)
            };
            let survey = self.survey(&walked, rows, facts);
            walked = without_kernel(walked, &survey);
            let mut report = self.state.walked(&walked, at, &place, &alive);
            report.pinned = pinned(&walked, &survey);
            report.inherited_slab = inherited_slab(&walked, &survey);
            report.reparents = self.reparents;
            self.report = Some(Arc::new(report));
        }
        let all = walked.all.count;
        if walked.disturbed { Count::Inferred(all) } else { Count::Measured(all) }
    }

    /// Reads what those living cgroups hold which have dead ones or living ones in them, and these.
    fn survey(&mut self, walked: &Walked, rows: &Rows, facts: &Facts) -> Survey {
        let v2 = facts.cgroup.memory_v2;
        self.bereaved.retain(|id| rows.tree.node(*id).is_some());
        let mut survey =
            Survey { v2, root: rows.tree.root(), bereaved: self.bereaved.clone(), ..Survey::default() };
        for (id, node) in rows.tree.nodes() {
            let Some(parent) = node.parent else { continue };
            if rows.tree.has_memory_files(id) {
                survey.children.entry(parent).or_default().push(id);
            } else {
                survey.shared.insert(parent);
            }
        }
        let around = survey.children.keys().copied().chain(walked.sums.iter().map(|(living, _)| *living));
        let mut wanted: HashSet<u64> = around.chain(self.bereaved.iter().copied()).collect();
        wanted.extend(survey.children.values().flatten());
        if v2 {
            // It does not tell, and reading it is dear.
            wanted.remove(&survey.root);
        }
        let mut wanted: Vec<(usize, u64, &str)> = wanted
            .into_iter()
            .filter_map(|id| Some((id, rows.tree.node(id)?.path.as_str())))
            .map(|(id, path)| (path.trim_end_matches('/').matches('/').count(), id, path))
            .collect();
        // A cgroup is never read before those in it.
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.truncate(READ);
        for (_, id, path) in wanted {
            let directory = facts.cgroup.memory.join(path.trim_start_matches('/'));
            if let Some(held) = survey::read(&directory, v2) {
                survey.held.insert(id, held);
            } else if let Some(parent) = rows.tree.node(id).and_then(|node| node.parent)
                && let Some(children) = survey.children.get_mut(&parent)
                && !directory.exists()
            {
                // Removed meanwhile.
                children.retain(|child| *child != id);
            }
        }
        survey
    }

    /// As of the last look, but for the time that went by.
    pub fn report(&self, rows: &[Arc<Row>], at: Duration) -> Option<Arc<DeadReport>> {
        let report = self.report.as_ref()?;
        let passed = at.saturating_sub(report.walked_at).as_secs_f64();
        if passed == 0.0 && self.before.is_empty() {
            return Some(Arc::clone(report));
        }
        let mut by_origin = report.by_origin.clone();
        for oldest in by_origin.iter_mut().filter_map(|origin| origin.oldest_s.as_mut()) {
            *oldest += passed;
        }
        let heirs = rows.iter().filter_map(|row| {
            let before = self.before.get(&row.container.cgroup.id)?;
            let current = row.memory.current;
            let growth = current.zip(*before).map(|(now, before)| now as i64 - before as i64);
            Some(Heir { container: Arc::clone(&row.container), current, growth })
        });
        let mut heirs: Vec<Heir> = heirs.collect();
        heirs.sort_by_key(|heir| std::cmp::Reverse(heir.growth));
        heirs.truncate(HEIRS);
        Some(Arc::new(DeadReport { heirs, by_origin, ..DeadReport::clone(report) }))
    }
}

/// What memtrace's own thread is called while others may run the program, too.
pub fn token() -> [u8; 15] {
    // The standard library's own keys: nobody else can guess the name.
    let random = RandomState::new().hash_one(0_u8).to_ne_bytes();
    let mut name = *b"memtrace0000000";
    for (place, byte) in name.iter_mut().zip(random) {
        *place = b'a' + byte % 26;
    }
    name
}

/// Renames this thread, which a tracepoint tells of.
pub fn rename(name: &[u8; 15]) -> std::io::Result<()> {
    let name = std::ffi::CString::new(name.as_slice())?;
    Ok(rustix::thread::set_name(&name)?)
}
