//! Findings from tick to tick: since when each is open, and what became of it. One that is not found any more, or not as
//! bad, stays as it was for a while, so that what is about to be found again does not blink.

use std::{cmp::Ordering, ops::Deref, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Finding, Kind, Severity};

/// Changes kept for who looks late.
const KEPT: usize = 256;

/// A finding that is open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Open {
    #[serde(flatten)]
    pub finding: Arc<Finding>,
    /// For how long.
    pub open_s: f64,
    /// Not found since: as last seen, and about to close.
    pub unseen_s: Option<f64>,
}

impl Deref for Open {
    type Target = Finding;

    fn deref(&self) -> &Finding {
        &self.finding
    }
}

impl From<Arc<Finding>> for Open {
    fn from(finding: Arc<Finding>) -> Open {
        Open { finding, open_s: 0.0, unseen_s: None }
    }
}

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    Opened,
    Worse,
    Better,
    /// Not found for as long as it is kept.
    Closed,
    /// Told with a worse one from now on.
    Folded,
}

impl Became {
    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Became::Opened => "found",
            Became::Worse => "worse",
            Became::Better => "better",
            Became::Closed => "over",
            Became::Folded => "told with another",
        }
    }
}

/// An event: it happened in this tick.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Counts them from 1.
    pub number: u64,
    pub became: Became,
    pub id: String,
    #[serde(rename = "finding")]
    pub kind: Kind,
    pub severity: Severity,
    /// Since the run began.
    pub at_s: f64,
    /// Since it opened.
    pub open_s: f64,
    pub summary: String,
}

/// Keeps what is open.
pub struct Standing {
    /// How long what is not found any more is kept.
    hold: Duration,
    known: Vec<Known>,
    changes: Arc<Vec<Change>>,
    number: u64,
}

struct Known {
    finding: Arc<Finding>,
    since: Duration,
    seen: Duration,
    /// When it was last as bad as it is told.
    bad: Duration,
}

impl Standing {
    pub fn new(hold: Duration) -> Standing {
        Standing { hold, known: Vec::new(), changes: Arc::default(), number: 0 }
    }

    /// What is open now, worst first; `found` in this tick.
    pub fn tick(&mut self, at: Duration, found: Vec<Arc<Finding>>) -> Vec<Arc<Open>> {
        let mut before = std::mem::take(&mut self.known);
        for finding in found {
            let known = before.iter().position(|known| known.finding.id == finding.id);
            let known = match known.map(|place| before.swap_remove(place)) {
                Some(known) => self.again(known, finding, at),
                None => {
                    self.tell(Became::Opened, &finding, at, at);
                    Known { finding, since: at, seen: at, bad: at }
                }
            };
            self.known.push(known);
        }
        for known in before {
            let folded =
                self.known.iter().any(|other| other.seen == at && told_with(&other.finding, &known.finding));
            if folded || at.saturating_sub(known.seen) >= self.hold {
                let became = if folded { Became::Folded } else { Became::Closed };
                self.tell(became, &known.finding, at, known.since);
            } else {
                self.known.push(known);
            }
        }
        // What is kept comes after what is found.
        self.known.sort_by(|a, b| super::order(&a.finding, &b.finding));
        let open = |known: &Known| {
            Arc::new(Open {
                finding: Arc::clone(&known.finding),
                open_s: at.saturating_sub(known.since).as_secs_f64(),
                unseen_s: (known.seen < at).then(|| at.saturating_sub(known.seen).as_secs_f64()),
            })
        };
        self.known.iter().map(open).collect()
    }

    /// The latest changes, oldest first; the same ones while nothing changes.
    pub fn changes(&self) -> &Arc<Vec<Change>> {
        &self.changes
    }

    fn again(&mut self, known: Known, mut finding: Arc<Finding>, at: Duration) -> Known {
        let Known { finding: before, since, bad, .. } = known;
        let kept = finding.severity < before.severity && at.saturating_sub(bad) < self.hold;
        if kept {
            Arc::make_mut(&mut finding).severity = before.severity;
        }
        let became = match finding.severity.cmp(&before.severity) {
            Ordering::Greater => Some(Became::Worse),
            Ordering::Less => Some(Became::Better),
            Ordering::Equal => None,
        };
        if let Some(became) = became {
            self.tell(became, &finding, at, since);
        }
        Known { finding, since, seen: at, bad: if kept { bad } else { at } }
    }

    fn tell(&mut self, became: Became, finding: &Finding, at: Duration, since: Duration) {
        self.number += 1;
        let changes = Arc::make_mut(&mut self.changes);
        if changes.len() == KEPT {
            changes.remove(0);
        }
        changes.push(Change {
            number: self.number,
            became,
            id: finding.id.clone(),
            kind: finding.kind,
            severity: finding.severity,
            at_s: at.as_secs_f64(),
            open_s: at.saturating_sub(since).as_secs_f64(),
            summary: finding.summary.clone(),
        });
    }
}

/// Whether `other` now tells what `finding` told by itself.
fn told_with(other: &Finding, finding: &Finding) -> bool {
    let row = |finding: &Finding| finding.container.as_ref().map(|container| container.cgroup.id);
    let grown = |finding: &Finding| finding.grown.and_then(|grown| grown.row);
    let same = row(other) == row(finding)
        || row(finding).is_none()
        || (grown(other).is_some() && grown(other) == grown(finding));
    other.also.contains(&finding.kind) && same
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::example::incident;

    const HOLD: Duration = Duration::from_secs(5);

    fn finding(id: &str, severity: Severity) -> Arc<Finding> {
        let mut finding = incident(15).remove(0);
        let change = Arc::make_mut(&mut finding);
        change.id = id.to_owned();
        change.severity = severity;
        finding
    }

    /// By id, how bad, and whether it is not found any more.
    type Told = (String, Severity, bool);

    /// What is open after each second, and what became of it in all.
    fn run(hold: Duration, ticks: &[&[(&str, Severity)]]) -> (Vec<Vec<Told>>, Vec<(Became, u64)>) {
        let mut standing = Standing::new(hold);
        let open = ticks.iter().enumerate().map(|(second, found)| {
            let found = found.iter().map(|(id, severity)| finding(id, *severity)).collect();
            let open = standing.tick(Duration::from_secs(second as u64), found);
            open.iter().map(|open| (open.id.clone(), open.severity, open.unseen_s.is_some())).collect()
        });
        let open = open.collect();
        (open, standing.changes().iter().map(|change| (change.became, change.number)).collect())
    }

    #[test]
    fn what_blinks_stays() {
        use Severity::Critical;
        let on: &[(&str, Severity)] = &[("a", Critical)];
        let off: &[(&str, Severity)] = &[];
        let (open, changes) = run(HOLD, &[on, off, off, on, off, off, off, off, off, off]);
        assert!(open[..8].iter().all(|open| open.len() == 1));
        assert!(open[1][0].2 && !open[3][0].2, "told whether it is still found");
        assert!(open[8].is_empty(), "five seconds after it was last found");
        assert_eq!(changes, [(Became::Opened, 1), (Became::Closed, 2)]);
        let (open, _) = run(Duration::ZERO, &[on, off]);
        assert!(open[1].is_empty());
    }

    #[test]
    fn it_gets_worse_at_once_and_better_after_a_while() {
        use Severity::{Critical, Warning};
        let ticks: Vec<&[(&str, Severity)]> =
            [Warning, Critical, Warning, Critical, Warning, Warning, Warning, Warning, Warning]
                .iter()
                .map(|severity| match severity {
                    Critical => &[("a", Critical)][..],
                    _ => &[("a", Warning)][..],
                })
                .collect();
        let (open, changes) = run(HOLD, &ticks);
        let severities: Vec<Severity> = open.iter().map(|open| open[0].1).collect();
        assert_eq!(severities[0], Warning);
        assert!(severities[1..8].iter().all(|severity| *severity == Critical));
        assert_eq!(severities[8], Warning);
        assert_eq!(changes, [(Became::Opened, 1), (Became::Worse, 2), (Became::Better, 3)]);
    }

    #[test]
    fn what_a_worse_one_tells_is_not_kept_beside_it() {
        let mut standing = Standing::new(HOLD);
        let mut own = finding("own", Severity::Warning);
        Arc::make_mut(&mut own).kind = Kind::MemoryGrowth;
        standing.tick(Duration::from_secs(0), vec![Arc::clone(&own)]);
        let mut story = finding("story", Severity::Critical);
        Arc::make_mut(&mut story).also = vec![Kind::MemoryGrowth];
        let open = standing.tick(Duration::from_secs(1), vec![story]);
        assert_eq!(open.iter().map(|open| open.id.as_str()).collect::<Vec<_>>(), ["story"]);
        assert_eq!(standing.changes().last().map(|change| change.became), Some(Became::Folded));
    }

    #[test]
    fn changes_are_bounded_and_numbered_on() {
        let mut standing = Standing::new(Duration::ZERO);
        for second in 0..400 {
            let found = if second % 2 == 0 { vec![finding("a", Severity::Critical)] } else { Vec::new() };
            standing.tick(Duration::from_secs(second), found);
        }
        assert_eq!(standing.changes().len(), KEPT);
        assert_eq!(standing.changes().last().map(|change| change.number), Some(400));
    }
}
