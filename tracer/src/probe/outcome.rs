//! What became of each probe and of its alternatives, for whom to tell it.

use std::time::Duration;

use super::{
    plan::Planned,
    registry::{self, Alternative, Probe},
};

/// What became of one alternative.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub alternative: &'static Alternative,
    /// It is (doctor: could be) attached.
    pub usable: bool,
    /// Why it is not the one that serves.
    pub why: Option<String>,
    /// What attaching took, if it was tried and done.
    pub took: Option<Duration>,
}

/// What became of one probe.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub probe: &'static Probe,
    pub chosen: Option<&'static Alternative>,
    pub attempts: Vec<Attempt>,
}

impl Outcome {
    /// Nothing could be tried, for a reason that is the same for all.
    pub fn refused(planned: &Planned, why: &str) -> Outcome {
        let attempts = planned.candidates.iter().map(|candidate| Attempt {
            alternative: candidate.alternative,
            usable: false,
            why: Some(candidate.why_not.clone().unwrap_or_else(|| why.to_owned())),
            took: None,
        });
        Outcome { probe: planned.probe, chosen: None, attempts: attempts.collect() }
    }

    /// Nothing is tried before it is asked for.
    pub fn at_rest(planned: &Planned) -> Outcome {
        Outcome::untried(planned, &on_demand(planned.probe))
    }

    /// This command has no use for it.
    pub fn unasked(planned: &Planned) -> Outcome {
        Outcome::untried(planned, "not asked for here")
    }

    fn untried(planned: &Planned, why: &str) -> Outcome {
        let attempts = planned.candidates.iter().map(|candidate| Attempt {
            alternative: candidate.alternative,
            usable: candidate.why_not.is_none(),
            why: Some(candidate.why_not.clone().unwrap_or_else(|| why.to_owned())),
            took: None,
        });
        Outcome { probe: planned.probe, chosen: None, attempts: attempts.collect() }
    }

    /// Why it is not served: by the first alternative that could be had if asked for, else by the last that was tried.
    pub fn why(&self) -> Option<&str> {
        let usable = self.attempts.iter().find(|attempt| attempt.usable);
        let refused = || self.attempts.iter().rev().find(|attempt| attempt.why.is_some());
        usable.or_else(refused)?.why.as_deref()
    }

    /// One line: what serves it, or what is lost and why.
    pub fn line(&self) -> String {
        match self.chosen {
            Some(chosen) => {
                format!("{}: {} {} ({})", self.probe.name, chosen.kind, chosen.target(), chosen.precision)
            }
            None if self.probe.on_demand.is_some() && self.attempts.iter().any(|attempt| attempt.usable) => {
                format!("{}: not attached; {}", self.probe.name, on_demand(self.probe))
            }
            None => {
                let why = self.why().unwrap_or("no alternative");
                format!("{}: not attached: {why}; {}", self.probe.name, self.probe.lost)
            }
        }
    }
}

/// How to have what is not attached without being asked for.
pub(super) fn on_demand(probe: &Probe) -> String {
    match probe.on_demand {
        Some(how) => format!("attached on demand: {how}"),
        None if probe.name == registry::WRITTEN => {
            "runs with each page that is charged (65-190 ns a fault): attached by `memtrace dirty --written`"
                .to_owned()
        }
        None => "runs once a page (65-190 ns a fault): attached on demand, for a bounded time (--charges)"
            .to_owned(),
    }
}
