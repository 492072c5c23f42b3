//! Everything known about one row: what it holds and how each kind grows and went, its limits, who it is and how that
//! is known.
//!
//! The pane is a list of sections, the most important first. A section that has nothing to say gives no lines and
//! takes no room.

mod composition;
mod history;
mod identity;
mod limits;
mod numbers;
mod probes;
mod sites;
mod title;

use ratatui::text::{Line, Span};

use crate::{
    aggregator::row::{Memory, Row},
    snapshot::Snapshot,
    view::{
        severity::Severity,
        text,
        tui::{theme::Theme, trail::Trails},
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
    pub theme: &'a Theme,
    /// Columns of the screen.
    pub width: usize,
}

type Section = fn(&Subject<'_>) -> Vec<Line<'static>>;

/// In the order shown; between two of them is an empty line.
const SECTIONS: &[Section] = &[
    // What fits a small screen, without empty lines between.
    |subject| [title::lines(subject), limits::lines(subject), history::current(subject)].concat(),
    composition::lines,
    sites::lines,
    history::lines,
    identity::lines,
    numbers::lines,
    probes::lines,
];

/// The pane's lines.
pub fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for section in SECTIONS {
        let section = section(subject);
        if !section.is_empty() && !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(section);
    }
    lines
}

/// Columns of the word that a line begins with.
const HEAD: usize = 12;

impl Subject<'_> {
    fn head(&self, head: &str) -> Span<'static> {
        Span::styled(text::left(head, HEAD, self.theme.charset), self.theme.title())
    }

    /// Columns beside the head.
    fn room(&self) -> usize {
        self.width.saturating_sub(HEAD).max(8)
    }

    /// Lines beside a head, which only the first of them has.
    fn beside(&self, head: &str, lines: Vec<String>) -> Vec<Line<'static>> {
        let heads = std::iter::once(head).chain(std::iter::repeat(""));
        heads.zip(lines).map(|(head, line)| Line::from(vec![self.head(head), Span::raw(line)])).collect()
    }

    /// A sentence beside a head, over as many lines as it takes.
    fn say(&self, head: &str, what: &str) -> Vec<Line<'static>> {
        self.beside(head, text::wrap(what, self.room(), self.theme.charset))
    }

    /// What the row holds; of a removed one what it held when it held most.
    fn memory(&self) -> &Memory {
        self.row.removed.as_ref().map_or(&self.row.memory, |removed| &removed.most)
    }
}
