//! System calls of chosen containers: an object of its own, loaded while they are asked for, and gone with its maps when
//! nobody asks. What it counted stays in the picture.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::rows::Rows;
use crate::{
    aggregator::call::{CallReport, Calls},
    event::{self, Event},
    kernel::Facts,
    probe::{
        attach::{AttachError, Loader},
        outcome::Outcome,
        plan::{Force, Wishes, plan},
        registry,
        size::Sizes,
    },
    view::select::Filter,
};

/// Whose calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Callers {
    /// Every row's.
    Every,
    /// Those of every row that a pattern fits.
    Pattern(Filter),
    /// Those of some rows.
    Rows(HashSet<u64>),
}

/// Room is made for as many chosen memory cgroups.
const CHOSEN: usize = 16;
/// What is gone is looked for this often.
const UPKEEP: Duration = Duration::from_secs(10);

struct Attached {
    /// Dropping it detaches.
    _loader: Loader,
    maps: event::calls::Calls,
    /// It was loaded to count every cgroup's.
    every: bool,
    /// Memory cgroups that could not be followed.
    beyond: u64,
    since: Duration,
    /// Attaching took its time.
    began: Instant,
    kept_up: Instant,
}

/// The probe of system calls, attached or not, and what it has told.
#[derive(Default)]
pub struct CallCounter {
    attached: Option<Attached>,
    callers: Option<Callers>,
    state: Calls,
    how: String,
    report: Option<Arc<CallReport>>,
    ticked: Option<Duration>,
    /// Of runs that are over, so that a loss stays told.
    lost: HashMap<&'static str, u64>,
    losing: HashMap<&'static str, u64>,
}

impl CallCounter {
    /// Counts calls of these from now on, or of none; true if programs were loaded or went for that. What was counted of
    /// others stays told, and goes on when they are asked for again.
    pub fn want(
        &mut self,
        callers: Option<Callers>,
        facts: &Facts,
        force: &[Force],
        rows: &Rows,
        (at, now): (Duration, Instant),
    ) -> anyhow::Result<bool> {
        let callers = callers.filter(|callers| !matches!(callers, Callers::Rows(rows) if rows.is_empty()));
        if self.callers == callers {
            return Ok(false);
        }
        self.callers = callers;
        let Some(callers) = &self.callers else {
            self.end();
            return Ok(true);
        };
        let every = *callers == Callers::Every;
        if self.attached.as_ref().is_some_and(|attached| attached.every == every) {
            return Ok(false);
        }
        self.end();
        let cgroups = if every { rows.tree.len() } else { CHOSEN };
        let attached = attach(facts, force, cgroups, every, (at, now));
        match attached {
            Ok((attached, outcome)) => {
                self.how = outcome.line();
                self.attached = Some(attached);
                self.ticked = None;
                Ok(true)
            }
            Err(error) => {
                self.how = format!("{error:#}");
                self.publish();
                Err(error)
            }
        }
    }

    pub fn counting_since(&self) -> Option<Instant> {
        self.attached.as_ref().map(|attached| attached.began)
    }

    /// Counts for the rows that were chosen and are there now: at each tick, and when cgroups came.
    pub fn follow(&mut self, rows: &Rows, at: Duration) {
        let (Some(attached), Some(callers)) = (&mut self.attached, &self.callers) else { return };
        if *callers == Callers::Every {
            return;
        }
        self.state.pause();
        let chosen: HashSet<u64> = rows
            .containers()
            .filter(|(id, container)| match callers {
                Callers::Every => true,
                Callers::Pattern(filter) => filter.matches(container),
                Callers::Rows(rows) => rows.contains(id),
            })
            .map(|(id, container)| {
                self.state.follow(id, container, at, at);
                id
            })
            .collect();
        attached.beyond = attached.maps.follow(&rows.tree.members(&chosen)) as u64;
    }

    /// Reads what was counted, closes the interval.
    pub fn tick(&mut self, rows: &Rows, at: Duration, now: Instant, events: &mut Vec<Event>) {
        self.follow(rows, at);
        if let Some(attached) = &mut self.attached {
            let totals = attached.maps.read();
            let cgroups: HashSet<u64> = totals.keys().map(|(cgroup, _)| *cgroup).collect();
            for cgroup in &cgroups {
                let row = self.state.owner(*cgroup, || rows.row_of(*cgroup));
                if attached.every
                    && let Some(row) = row
                    && let Some(container) = rows.aggregator.container(row)
                {
                    self.state.follow(row, container, attached.since, at);
                }
            }
            let interval = self.ticked.replace(at).map(|before| at.saturating_sub(before));
            self.state.tick(totals, interval, |row| rows.aggregator.container(row).is_some());
            if now.saturating_duration_since(attached.kept_up) >= UPKEEP {
                attached.kept_up = now;
                let gone: HashSet<u64> = cgroups.into_iter().filter(|cgroup| !rows.knows(*cgroup)).collect();
                if !gone.is_empty() {
                    self.state.forget(&gone);
                    attached.maps.forget(&gone);
                }
            }
            let mut read = Vec::new();
            attached.maps.lost(&mut read);
            self.losing.clear();
            let beyond = "memory cgroups whose system calls were not counted because there are too many";
            self.losing.insert(beyond, attached.beyond);
            for event in read {
                if let Event::Lost { what, count } = event {
                    self.losing.insert(what, count);
                }
            }
            self.publish();
        }
        let mut lost = self.lost.clone();
        for (what, count) in &self.losing {
            *lost.entry(what).or_default() += count;
        }
        events.extend(
            lost.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Event::Lost { what, count }),
        );
    }

    fn end(&mut self) {
        if self.attached.take().is_none() {
            return;
        }
        self.state.keep();
        for (what, count) in self.losing.drain() {
            *self.lost.entry(what).or_default() += count;
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.report = Some(Arc::new(self.state.report(self.how.clone(), self.attached.is_some())));
    }

    /// `None`: nobody has asked yet.
    pub fn report(&self) -> Option<Arc<CallReport>> {
        self.report.clone()
    }
}

fn attach(
    facts: &Facts,
    force: &[Force],
    cgroups: usize,
    every: bool,
    (at, now): (Duration, Instant),
) -> anyhow::Result<(Attached, Outcome)> {
    let wishes = Wishes { force: force.to_vec(), on_demand: true, ..Wishes::default() };
    let planned = plan(facts, &wishes);
    let planned = planned.iter().find(|planned| planned.probe.name == registry::OF_CALLS);
    let planned = planned.context("the registry has no probe of system calls")?;
    let mut loader = Loader::load(facts, Sizes::of_calls(facts, cgroups, every), 0)?;
    let outcome = loader.serve(planned)?;
    if outcome.chosen.is_none() {
        let why = outcome.why().unwrap_or_default().to_owned();
        return Err(AttachError::Required { probe: planned.probe.name, why }.into());
    }
    let maps = event::calls::Calls::take(&mut loader.ebpf).context("cannot open the maps of system calls")?;
    loader.rest();
    let began = Instant::now();
    Ok((Attached { _loader: loader, maps, every, beyond: 0, since: at, began, kept_up: now }, outcome))
}
