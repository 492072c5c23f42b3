//! What the row is called, and what is to be known of it before anything else.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::Subject;
use crate::{
    metric::Unit,
    view::{host, label, text, tui::page::Page, unit},
};

/// Less of a name is no name: then the words stand in lines of their own.
const NAME_LEAST: usize = 24;

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { row, gone, severity, page: Page { theme, width }, .. } = *subject;
    let mut words: Vec<(String, Style)> = Vec::new();
    if gone || row.removed.is_some() {
        words.push((String::from("GONE, as last seen"), theme.flag()));
    }
    if let Some(severity) = severity {
        let text = format!("{} {}", severity.level.mark(), severity.why);
        words.push((text, theme.level(Some(severity.level))));
    }
    let name = label::label(&row.container);
    let taken: usize = words.iter().map(|(word, _)| text::width(word) + 2).sum();
    let least = text::width(&text::clean(&name, theme.charset)).min(NAME_LEAST);
    let mut lines = if taken + least <= width {
        let mut spans = vec![Span::styled(text::fit(&name, width - taken, theme.charset), theme.title())];
        for (word, style) in words {
            spans.extend([Span::raw("  "), Span::styled(word, style)]);
        }
        vec![Line::from(spans)]
    } else {
        let mut lines = vec![Line::styled(text::fit(&name, width, theme.charset), theme.title())];
        lines.extend(words.into_iter().flat_map(|(word, style)| {
            text::wrap(&word, width, theme.charset).into_iter().map(move |line| Line::styled(line, style))
        }));
        lines
    };
    if let Some(removed) = &row.removed {
        let lived = unit::format(Unit::Seconds, removed.lived_s);
        let (peak, left) = (host::size(removed.peak), host::size(removed.left));
        lines.extend(
            subject.say("removed", &format!("lived {lived}, peak {peak}, left {left} to the row around it")),
        );
    }
    lines
}
