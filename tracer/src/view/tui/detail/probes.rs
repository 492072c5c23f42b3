//! Which hook serves each probe of the run.

use ratatui::text::Line;

use super::Subject;
use crate::view::text;

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let theme = subject.theme;
    let mut lines = vec![Line::styled("probes", theme.title())];
    let probes = subject.snapshot.probes.iter();
    lines.extend(probes.map(|probe| Line::from(format!("  {}", text::clean(probe, theme.charset)))));
    lines
}
