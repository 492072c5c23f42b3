//! Everything known about one row: what it holds and how each kind grows and went, its limits, who it is and how that
//! is known.
//!
//! The pane is a list of sections, the most important first. A section that has nothing to say gives no lines and
//! takes no room.

mod composition;
mod flight;
mod history;
mod identity;
mod limits;
mod numbers;
mod probes;
mod sites;
mod title;

use std::ops::Deref;

use ratatui::text::Line;

use crate::{
    aggregator::row::{Memory, Row},
    snapshot::Snapshot,
    view::{
        severity::Severity,
        tui::{
            page::{self, HEAD, Page},
            trail::Trails,
        },
    },
};

/// What the sections are about, and what they may look at.
pub struct Subject<'a> {
    pub row: &'a Row,
    /// The row is no longer in the picture, and this is what was last known of it.
    pub gone: bool,
    pub severity: Option<&'a Severity>,
    pub snapshot: &'a Snapshot,
    pub trails: &'a Trails,
    pub page: Page<'a>,
}

impl<'a> Deref for Subject<'a> {
    type Target = Page<'a>;

    fn deref(&self) -> &Page<'a> {
        &self.page
    }
}

type Section = fn(&Subject<'_>) -> Vec<Line<'static>>;

/// In the order shown; between two of them is an empty line.
const SECTIONS: &[Section] = &[
    // What fits a small screen, without empty lines between.
    |subject| [title::lines(subject), limits::lines(subject), history::current(subject)].concat(),
    composition::lines,
    sites::lines,
    flight::lines,
    history::lines,
    identity::lines,
    numbers::lines,
    probes::lines,
];

/// The pane's lines.
pub fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    page::joined(SECTIONS.iter().map(|section| section(subject)))
}

impl Subject<'_> {
    /// What the row holds; of a removed one what it held when it held most.
    fn memory(&self) -> &Memory {
        self.row.removed.as_ref().map_or(&self.row.memory, |removed| &removed.most)
    }
}
