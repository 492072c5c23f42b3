//! Everything known about one row: who it is, how that is known, what it holds and how each kind grows.
//!
//! The pane is a list of sections, the most important first. A section that has nothing to say gives no lines and
//! takes no room.

mod composition;
mod identity;
mod numbers;
mod probes;

use ratatui::text::{Line, Span};

use crate::{
    aggregator::row::Row,
    snapshot::Snapshot,
    view::{severity::Severity, text, tui::theme::Theme},
};

/// What the sections are about, and what they may look at.
pub struct Subject<'a> {
    pub row: &'a Row,
    /// The row is no longer in the picture, and this is what was last known of it.
    pub gone: bool,
    pub severity: Option<&'a Severity>,
    pub snapshot: &'a Snapshot,
    pub theme: &'a Theme,
    /// Columns of the screen.
    pub width: usize,
}

type Section = fn(&Subject<'_>) -> Vec<Line<'static>>;

/// In the order shown; between two of them is an empty line.
const SECTIONS: &[Section] = &[identity::lines, composition::lines, numbers::lines, probes::lines];

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
const HEAD: usize = 14;

impl Subject<'_> {
    fn head(&self, head: &str) -> Span<'static> {
        Span::styled(text::left(head, HEAD, self.theme.charset), self.theme.title())
    }
}
