//! `memtrace doctor`: tries what this kernel allows, and leaves nothing attached.

use std::collections::BTreeMap;

use super::{Failure, facts, permitted, print};
use crate::{
    cli::Doctor,
    event::unix_sockets,
    kernel::Facts,
    probe::{
        attach::Loader,
        outcome::Outcome,
        plan::{Wishes, plan},
        registry::Kind,
        size::Sizes,
    },
    resolve::{container::Role, tree::Tree},
    view::doctor::Report,
};

/// `doctor`: tries every alternative of every probe and leaves none attached.
pub fn run(options: &Doctor) -> Result<(), Failure> {
    let mut facts = facts()?;
    let planned = plan(&facts, &Wishes::default());
    let loader = permitted(&facts).and_then(|()| {
        Loader::load(&facts, Sizes::new(0, &facts).with_logs(true).with_dirty(), 0)
            .map_err(|error| Failure::new(Failure::NOT_PERMITTED, error))
    });
    let (outcomes, done): (Vec<Outcome>, _) = match loader {
        Ok(mut loader) => (planned.iter().map(|probe| loader.examine(probe)).collect(), Ok(())),
        Err(failure) => {
            (planned.iter().map(|probe| Outcome::refused(probe, &failure.message)).collect(), Err(failure))
        }
    };
    if options.facts {
        if done.is_ok() {
            facts.refused = refused(&outcomes);
        }
        let text = serde_json::to_string_pretty(&facts)
            .map_err(|error| Failure::new(Failure::RUN, format!("cannot write the facts: {error}")))?;
        return print(&(text + "\n")).map(drop);
    }
    let sockets = unix_sockets::sockets().map(drop);
    let report = Report { facts: &facts, outcomes: &outcomes, runtimes: runtimes(&facts), sockets };
    print(&if options.json { report.json() + "\n" } else { report.text() })?;
    done
}

/// Kinds of which no alternative at all could be attached, with the kernel's words.
fn refused(outcomes: &[Outcome]) -> BTreeMap<String, String> {
    let attempts = |kind| {
        outcomes
            .iter()
            .flat_map(|outcome| &outcome.attempts)
            .filter(move |attempt| attempt.alternative.kind == kind)
    };
    let words = |kind| {
        let why = attempts(kind).find_map(|attempt| attempt.why.clone())?;
        (!attempts(kind).any(|attempt| attempt.usable)).then(|| (kind.as_str().to_owned(), why))
    };
    Kind::ALL.into_iter().filter_map(words).collect()
}

/// Runtimes that have a container now.
fn runtimes(facts: &Facts) -> Vec<&'static str> {
    let Ok(tree) = Tree::walk(&facts.cgroup.memory, facts.cgroup.memory_v2) else { return Vec::new() };
    let mut found: Vec<&'static str> = tree
        .rows()
        .filter_map(|id| tree.node(id))
        .filter(|node| node.shape.role == Role::Container)
        .map(|node| node.shape.runtime.as_str())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
