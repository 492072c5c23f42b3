//! A limit that fills with page cache which nobody can take back yet: written faster than the disk takes it.
//!
//! Dirty pages and those under write-back are charged to the container that made them, and reclaim has to wait for them. When
//! most of a limit is such pages the next allocation waits, and may end in a kill, though the processes themselves hold little.
//! What is told is the worst moment: a kill, or a write-back that catches up, empties the picture within a second.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    evidence::{Dirtier, Evidence, Value},
    named, remedy,
};
use crate::{
    aggregator::{
        dirty::row::{Dirty, DirtyRow},
        row::{How, Row},
    },
    quantity::{bytes, seconds, share},
    resolve::label::label,
};

/// Parts of the limit that are dirty or under write-back, beside it nearly full: a kill is near,
const CRITICAL_SHARE: f64 = 0.5;
const FULL: f64 = 0.9;
/// or there is pressure.
const WARNING_SHARE: f64 = 0.2;
/// Throttled seconds a second above which writers are held up.
const HELD_UP: f64 = 0.1;
/// Parts of what is outstanding, or of what comes in, above which write-back has begun: a page of the file system's own
/// may go by itself.
const BEGUN: f64 = 1.0 / 256.0;
/// It is told for so long after it is over.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// Rates are of so long: a disk that completes large pieces takes nothing in one interval and all of it in the next.
const WINDOW: Duration = Duration::from_secs(10);
/// Dirtiers that are named.
const NAMED: usize = 5;

/// The worst moments of rows, which are kept for a while, and what led there.
#[derive(Default)]
pub(super) struct Worst {
    rows: HashMap<u64, (Duration, f64, Finding)>,
    flows: HashMap<u64, VecDeque<Flow>>,
}

/// What a row had dirtied and written by then.
#[derive(Clone, Copy)]
struct Flow {
    at: Duration,
    dirtied: Option<u64>,
    written: Option<u64>,
}

/// Bytes a second into and out of the state of being dirty, and over how long.
#[derive(Clone, Copy, Default)]
struct Rates {
    inflow: Option<f64>,
    outflow: Option<f64>,
    seconds: Option<f64>,
}

pub(super) fn check(look: &Look<'_>, dirty: &Dirty, worst: &mut Worst) -> Vec<Finding> {
    let pages_of: HashMap<u64, &Arc<DirtyRow>> = dirty.rows.iter().map(|pages| (pages.row, pages)).collect();
    worst.flows.retain(|row, _| pages_of.contains_key(row));
    for row in look.rows {
        let id = row.container.cgroup.id;
        let pages = pages_of.get(&id).copied();
        let rates = pages.map(|pages| rates(worst.flows.entry(id).or_default(), pages, look.at));
        let Some(case) = Case::of(row, pages, rates.unwrap_or_default()) else { continue };
        let Some(severity) = case.severity() else { continue };
        let known = worst.rows.get(&id);
        let kept = known.filter(|(_, share, finding)| (finding.severity, *share) >= (severity, case.share));
        let (share, finding) = match kept {
            Some((_, share, finding)) => (*share, finding.clone()),
            None => (case.share, case.finding(severity)),
        };
        worst.rows.insert(id, (look.at, share, finding));
    }
    worst.rows.retain(|_, (at, ..)| look.at.saturating_sub(*at) <= AFTERWARDS);
    let mut found: Vec<Finding> = worst.rows.values().map(|(.., finding)| finding.clone()).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// Over the window as far as it was watched; of the first look those of its interval.
fn rates(flows: &mut VecDeque<Flow>, pages: &DirtyRow, at: Duration) -> Rates {
    while flows.front().is_some_and(|flow| at.saturating_sub(flow.at) > WINDOW) {
        flows.pop_front();
    }
    let now = Flow { at, dirtied: pages.dirtied, written: pages.written };
    let first = flows.front().copied();
    flows.push_back(now);
    let Some(first) = first.filter(|first| first.at < at) else {
        return Rates { inflow: pages.dirtied_per_s, outflow: pages.written_per_s, seconds: None };
    };
    let seconds = (at - first.at).as_secs_f64();
    let rate = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?) as f64 / seconds);
    Rates {
        inflow: rate(first.dirtied, now.dirtied),
        outflow: rate(first.written, now.written),
        seconds: Some(seconds),
    }
}

struct Case<'a> {
    row: &'a Row,
    pages: Option<&'a DirtyRow>,
    limit: u64,
    outstanding: u64,
    /// Of the limit, outstanding.
    share: f64,
    rates: Rates,
}

impl<'a> Case<'a> {
    fn of(row: &'a Arc<Row>, pages: Option<&'a Arc<DirtyRow>>, rates: Rates) -> Option<Case<'a>> {
        let memory = &row.memory;
        let outstanding = memory.dirty? + memory.writeback?;
        let limit = memory.effective_limit.filter(|limit| *limit > 0)?;
        let share = outstanding as f64 / limit as f64;
        Some(Case { row, pages: pages.map(AsRef::as_ref), limit, outstanding, share, rates })
    }

    fn severity(&self) -> Option<Severity> {
        let full = self.row.memory.current.is_some_and(|current| current as f64 >= FULL * self.limit as f64);
        // Pages younger than half a minute wait for their turn: where next to none is written yet, nothing is known of the disk.
        let writing =
            self.row.memory.writeback.is_some_and(|bytes| bytes as f64 >= BEGUN * self.outstanding as f64);
        let faster = self
            .rates
            .inflow
            .zip(self.rates.outflow)
            .is_some_and(|(inflow, outflow)| inflow >= outflow && (writing || outflow >= BEGUN * inflow));
        let throttled =
            self.pages.and_then(|pages| pages.throttled_per_s).is_some_and(|time| time >= HELD_UP);
        match self.share {
            share if share >= CRITICAL_SHARE && full => Some(Severity::Critical),
            share if share >= WARNING_SHARE && (full || faster || throttled) => Some(Severity::Warning),
            _ => None,
        }
    }

    fn finding(&self, severity: Severity) -> Finding {
        let container = &self.row.container;
        let growth = self.row.growth_ewma_per_s.current.filter(|rate| *rate > 0.0);
        Finding {
            id: format!("{}:{}", Kind::DirtyPagePressure.as_str(), container.id),
            kind: Kind::DirtyPagePressure,
            severity,
            container: Some(Arc::clone(container)),
            daemon: None,
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: "A `dirty` and `writeback` that stay when the writer is stopped for a minute: then something else \
                         keeps them. Or `anon` that takes most of the limit at a kill: then the heap is the cause."
                .to_owned(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: self.outstanding,
            grown: Some(Grown { row: Some(container.cgroup.id), bytes_per_s: growth.unwrap_or(0.0) }),
            nature: Nature::Plain,
        }
    }

    /// Who did it in the last minute; of what was done before attach, at most.
    fn dirtiers(&self) -> (Vec<Dirtier>, Option<How>) {
        let Some(pages) = self.pages else { return (Vec::new(), None) };
        let recent = pages.recent.iter().filter(|recent| !recent.backing && recent.dirtied > 0);
        let recent: Vec<Dirtier> = recent
            .take(NAMED)
            .map(|recent| Dirtier {
                process: recent.process.clone(),
                path: recent.path.clone(),
                dirtied: recent.dirtied,
            })
            .collect();
        let before = |writer: &crate::aggregator::dirty::row::Writer| {
            let dirtied = writer.before_attach.filter(|before| *before > 0)?;
            let mut files = pages.files.iter().filter(|file| file.open_before && !file.backing);
            let only = files.next().filter(|_| files.next().is_none());
            let path = only.and_then(|file| file.path.clone());
            Some(Dirtier { process: writer.process.clone(), path, dirtied })
        };
        let sum: u64 = recent.iter().map(|dirtier| dirtier.dirtied).sum();
        if sum >= self.outstanding / 2 {
            return (recent, None);
        }
        let mut all = recent;
        for dirtier in pages.processes.iter().filter_map(before) {
            match all.iter_mut().find(|known| known.process == dirtier.process) {
                Some(known) => known.dirtied += dirtier.dirtied,
                None => all.push(dirtier),
            }
        }
        all.sort_by(|a, b| b.dirtied.cmp(&a.dirtied).then(a.process.pid.cmp(&b.process.pid)));
        all.truncate(NAMED);
        let how = (!all.is_empty()).then_some(How::Inferred);
        (all, how)
    }

    fn evidence(&self) -> Evidence {
        let memory = &self.row.memory;
        let pages = self.pages;
        let written_how = pages.and_then(|pages| pages.written_how);
        let dirtied_how = pages.and_then(|pages| pages.dirtied_how);
        let (dirtiers, how) = self.dirtiers();
        Evidence::default()
            .with("limit", "the least limit around it", Value::Bytes(Some(self.limit)))
            .with("current", "what it holds", Value::Bytes(memory.current))
            .with("anon", "anonymous memory of its processes", Value::Bytes(memory.anon))
            .with("file", "page cache", Value::Bytes(memory.file))
            .with("dirty", "of it not yet written", Value::Bytes(memory.dirty))
            .with("writeback", "of it being written now", Value::Bytes(memory.writeback))
            .with_how("dirtied_per_s", "made dirty", Value::Rate(self.rates.inflow), dirtied_how)
            .with_how("written_per_s", "written back", Value::Rate(self.rates.outflow), written_how)
            .with("rates_over_s", "both, over the last", Value::Seconds(self.rates.seconds))
            .with(
                "throttled_s",
                "its writers were made to wait",
                Value::Seconds(pages.and_then(|pages| pages.throttled_s)),
            )
            .with("oom_kills", "since attach", Value::Count(self.row.oom_kills))
            .with_how("top_dirtiers", "by", Value::Dirtiers(dirtiers), how)
    }

    fn summary(&self) -> String {
        let memory = &self.row.memory;
        let size = |of: Option<u64>| of.map_or_else(|| "an unknown amount".to_owned(), |of| bytes(of as f64));
        let (dirtiers, _) = self.dirtiers();
        let by = dirtiers.first().map_or_else(String::new, |most| {
            let path = most.path.as_ref().map_or_else(String::new, |path| format!(" to {path}"));
            format!(", written by {}{path}", named(&most.process))
        });
        let rates = match self.rates.inflow.zip(self.rates.outflow) {
            Some((inflow, outflow)) => {
                let over =
                    self.rates.seconds.map_or_else(String::new, |over| format!(" over {}", seconds(over)));
                format!(" ({}/s in, {}/s written back{over})", bytes(inflow), bytes(outflow))
            }
            None => String::new(),
        };
        let throttled = self.pages.and_then(|pages| pages.throttled_s).filter(|time| *time >= 1.0);
        let waited =
            throttled.map_or_else(String::new, |time| format!("; its writers waited {}", seconds(time)));
        format!(
            "{} of the limit of {} ({}) of {} is page cache not yet on disk{by}{rates}; its processes hold only {} \
             themselves{waited}",
            bytes(self.outstanding as f64),
            bytes(self.limit as f64),
            share(self.share),
            label(&self.row.container),
            size(memory.anon),
        )
    }

    fn advice(&self) -> Vec<String> {
        let mut advice = vec![
            "Let the writer bypass the page cache: direct or synchronous I/O (`qemu-img convert -t none` and `-T none`, \
             `dd oflag=direct`), or let it sync as it goes."
                .to_owned(),
            "Raising the limit helps only until that is full as well: the disk is what is too slow.".to_owned(),
            "See which files it is, and how fast the disk takes them.".to_owned(),
        ];
        advice.extend(remedy::view(&self.row.container, "dirty"));
        advice.push(
            "On cgroup v2 the kernel slows writers down by their own limit; v1 does so only by the host's: there \
             lower vm.dirty_bytes and vm.dirty_background_bytes."
                .to_owned(),
        );
        advice
    }
}
