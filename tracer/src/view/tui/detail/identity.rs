//! Who the row is and how that is known.

use ratatui::text::{Line, Span};

use super::{HEAD, Subject};
use crate::{
    metric::Unit,
    view::{host, label, text, unit},
};

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { row, gone, severity, theme, width, .. } = *subject;
    let container = &row.container;
    let mut title = vec![Span::styled(
        text::fit(&label::label(container), width.saturating_sub(34).max(20), theme.charset),
        theme.title(),
    )];
    if gone || row.removed.is_some() {
        title.push(Span::styled("  GONE, as last seen", theme.flag()));
    }
    if let Some(severity) = severity {
        let text = format!("  {} {}", severity.level.mark(), severity.why);
        title.push(Span::styled(text, theme.level(Some(severity.level))));
    }
    let mut lines = vec![Line::from(title)];
    let mut say = |head: &str, what: &str| {
        let what = text::fit(what, width.saturating_sub(HEAD).max(8), theme.charset);
        lines.push(Line::from(vec![subject.head(head), Span::raw(what)]));
    };
    say("runtime", container.runtime.as_str());
    if container.id != container.cgroup.path {
        say("id", &container.id);
    }
    if let Some(image) = &container.image {
        say("image", image);
    }
    say("cgroup", &format!("{}  {}", container.cgroup.id, container.cgroup.path));
    say("named by", row.provenance.as_deref().unwrap_or("not known"));
    if let Some(removed) = &row.removed {
        let lived = unit::format(Unit::Seconds, removed.lived_s);
        let (peak, left) = (host::size(removed.peak), host::size(removed.left));
        say("removed", &format!("lived {lived}, peak {peak}, left {left} to its parent"));
    }
    lines
}
