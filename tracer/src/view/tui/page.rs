//! Lines of a detail: a head at the left, what it is about beside it.

use ratatui::text::{Line, Span};

use crate::view::{
    text,
    tui::{tab::memory::column::MARK, theme::Theme},
};

/// Columns of the word that a line begins with.
pub const HEAD: usize = 12;

/// What lines are made for.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    pub theme: &'a Theme,
    /// Columns of the screen.
    pub width: usize,
}

impl Page<'_> {
    pub fn head(&self, head: &str) -> Span<'static> {
        Span::styled(text::left(head, HEAD, self.theme.charset), self.theme.title())
    }

    /// Columns beside the head.
    pub fn room(&self) -> usize {
        self.width.saturating_sub(HEAD).max(8)
    }

    /// Lines beside a head, which only the first of them has.
    pub fn beside(&self, head: &str, lines: Vec<String>) -> Vec<Line<'static>> {
        let heads = std::iter::once(head).chain(std::iter::repeat(""));
        heads.zip(lines).map(|(head, line)| Line::from(vec![self.head(head), Span::raw(line)])).collect()
    }

    /// A sentence beside a head, over as many lines as it takes.
    pub fn say(&self, head: &str, what: &str) -> Vec<Line<'static>> {
        self.beside(head, text::wrap(what, self.room(), self.theme.charset))
    }
}

/// Sections with an empty line between; those that have nothing to say give no lines and take no room.
pub fn joined(sections: impl IntoIterator<Item = Vec<Line<'static>>>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for section in sections {
        if !section.is_empty() && !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(section);
    }
    lines
}

/// Fewer lines than this below a table are left empty.
const BELOW: usize = 4;

/// The lines of a table, and of a part below it as many as the screen has room for.
pub fn below(
    lines: Vec<Line<'static>>,
    part: Vec<Line<'static>>,
    height: usize,
    rest: &str,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let room = height.saturating_sub(lines.len() + 1);
    if room < BELOW.min(part.len()) {
        return lines;
    }
    joined([lines, shortened(part, room, rest, theme)])
}

/// What stands in the place of a table.
pub fn instead(words: &str, page: Page<'_>) -> Vec<Line<'static>> {
    let Page { theme, width } = page;
    let lines = text::wrap(words, width.saturating_sub(MARK), theme.charset).into_iter();
    lines.map(|line| Line::styled(format!("{:MARK$}{line}", ""), theme.dim())).collect()
}

/// So many lines of it, with a word that there are more.
fn shortened(mut lines: Vec<Line<'static>>, room: usize, rest: &str, theme: &Theme) -> Vec<Line<'static>> {
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::styled(format!("{:MARK$}{rest}", ""), theme.dim()));
    }
    lines
}
