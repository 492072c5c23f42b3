//! Charges of chosen containers by process and kernel site: an object of its own, loaded when it is asked for, and
//! gone, with its maps, when its time is up. What it counted stays in the picture.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::rows::Rows;
use crate::{
    aggregator::site::{Site, SiteReport, Sites},
    event::{self, Event},
    kernel::Facts,
    probe::{
        attach::{AttachError, Loader},
        outcome::Outcome,
        plan::{Force, Wishes, plan},
        size::Sizes,
    },
    resolve::stack::{Stack, Stacks},
    view::select::Filter,
};

/// Whose charges.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// Every row that a pattern fits.
    Pattern(Filter),
    /// One row.
    Row(u64),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SiteWish {
    pub chosen: Chosen,
    /// Also where every page costs, so for a bounded time.
    pub time: Duration,
}

/// What is attached.
struct Attached {
    /// Dropping it detaches.
    _loader: Loader,
    maps: event::sites::Sites,
    stacks: Stacks,
    named: HashMap<u64, Arc<Stack>>,
    unknown: Arc<Stack>,
    until: Instant,
    /// Memory cgroups that could not be followed.
    beyond: u64,
}

/// The probe of sites, attached or not, and what it has told.
#[derive(Default)]
pub struct Sampler {
    attached: Option<Attached>,
    chosen: Option<Chosen>,
    state: Sites,
    how: String,
    report: Option<Arc<SiteReport>>,
    /// Of runs that are over, so that a loss stays told.
    lost: HashMap<&'static str, u64>,
    losing: HashMap<&'static str, u64>,
}

impl Sampler {
    /// Follows what was chosen from now on; what was followed before is forgotten.
    pub fn start(
        &mut self,
        wish: &SiteWish,
        facts: &Facts,
        force: &[Force],
        now: Instant,
    ) -> anyhow::Result<()> {
        if let (Some(attached), Some(Chosen::Row(before)), Chosen::Row(row)) =
            (&mut self.attached, &self.chosen, &wish.chosen)
            && before == row
        {
            attached.until = now + wish.time;
            return Ok(());
        }
        self.end();
        self.state = Sites::default();
        self.chosen = Some(wish.chosen.clone());
        match attach(facts, force, now + wish.time) {
            Ok((attached, outcome)) => {
                self.how = outcome.line();
                self.attached = Some(attached);
                Ok(())
            }
            Err(error) => {
                self.how = format!("{error:#}");
                self.publish();
                Err(error)
            }
        }
    }

    /// Follows the rows that were chosen and are there now: at each tick, and when cgroups came.
    pub fn follow(&mut self, rows: &Rows, at: Duration) {
        let (Some(attached), Some(chosen)) = (&mut self.attached, &self.chosen) else { return };
        let chosen: HashSet<u64> = rows
            .containers()
            .filter(|(id, container)| match chosen {
                Chosen::Pattern(filter) => filter.matches(container),
                Chosen::Row(row) => row == id,
            })
            .map(|(id, container)| {
                self.state.follow(id, container, at);
                id
            })
            .collect();
        attached.beyond = attached.maps.follow(&rows.tree.members(&chosen)) as u64;
    }

    /// Reads what was charged since the last tick. True when the time is up: then it is detached.
    pub fn tick(&mut self, rows: &Rows, at: Duration, now: Instant, events: &mut Vec<Event>) -> bool {
        self.follow(rows, at);
        let Some(attached) = &mut self.attached else {
            events.extend(losses(&self.lost));
            return false;
        };
        let mut read = Vec::new();
        attached.maps.read(&mut read);
        self.losing.clear();
        let beyond = "memory cgroups whose charges were not followed because there are too many";
        self.losing.insert(beyond, attached.beyond);
        for event in read {
            match event {
                Event::Charged { id, pid, comm, stack, bytes, samples } => {
                    let Some(row) = rows.row_of(id) else { continue };
                    let key = (id, pid, stack);
                    let stack = attached.name(stack);
                    let site = Site { pid, comm: Arc::from(comm), stack, charged: bytes, samples };
                    self.state.charged(row, key, site);
                }
                Event::Lost { what, count } => {
                    self.losing.insert(what, count);
                }
                _ => {}
            }
        }
        let over = now >= attached.until;
        let mut lost = self.lost.clone();
        for (what, count) in &self.losing {
            *lost.entry(what).or_default() += count;
        }
        events.extend(losses(&lost));
        if over {
            self.end();
        }
        self.publish();
        over
    }

    fn end(&mut self) {
        self.attached = None;
        for (what, count) in self.losing.drain() {
            *self.lost.entry(what).or_default() += count;
        }
    }

    fn publish(&mut self) {
        self.report = Some(Arc::new(self.state.report(self.how.clone(), self.attached.is_some())));
    }

    pub fn report(&self) -> Option<Arc<SiteReport>> {
        self.report.clone()
    }
}

impl Attached {
    fn name(&mut self, stack: Option<u64>) -> Arc<Stack> {
        let Some(key) = stack else { return Arc::clone(&self.unknown) };
        if let Some(known) = self.named.get(&key) {
            return Arc::clone(known);
        }
        let Some(addresses) = self.maps.stack(key) else { return Arc::clone(&self.unknown) };
        let stack = Arc::new(self.stacks.name(&addresses));
        self.named.insert(key, Arc::clone(&stack));
        stack
    }
}

fn attach(facts: &Facts, force: &[Force], until: Instant) -> anyhow::Result<(Attached, Outcome)> {
    let wishes = Wishes { force: force.to_vec(), per_page: true, on_demand: true, ..Wishes::default() };
    let planned = plan(facts, &wishes);
    let planned = planned.iter().find(|planned| planned.probe.name == "charge_site");
    let planned = planned.context("the registry has no probe charge_site")?;
    let lacking = |why: String| AttachError::Required { probe: planned.probe.name, why };
    let stacks = Stacks::read()
        .map_err(|error| lacking(format!("kernel stacks cannot be named from /proc/kallsyms: {error}")))?;
    let mut loader = Loader::load(facts, Sizes::of_sites(facts), 0)?;
    let outcome = loader.serve(planned)?;
    if outcome.chosen.is_none() {
        return Err(lacking(outcome.why().unwrap_or_default().to_owned()).into());
    }
    let maps = event::sites::Sites::take(&mut loader.ebpf).context("cannot open the maps of sites")?;
    loader.rest();
    let unknown = Arc::new(Stack::unknown());
    Ok((
        Attached { _loader: loader, maps, stacks, named: HashMap::new(), unknown, until, beyond: 0 },
        outcome,
    ))
}

fn losses(lost: &HashMap<&'static str, u64>) -> Vec<Event> {
    let lost = lost.iter().filter(|(_, count)| **count > 0);
    lost.map(|(what, count)| Event::Lost { what, count: *count }).collect()
}
