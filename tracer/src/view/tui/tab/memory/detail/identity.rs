//! Who the row is and how that is known.

use ratatui::text::Line;

use super::Subject;
use crate::{resolve::Runtime, view::text};

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let row = subject.row;
    let container = &row.container;
    let said = [
        ("runtime", Some(container.runtime.as_str())),
        ("container", container.name.as_deref()),
        ("pod", container.pod.as_deref()),
        ("namespace", container.namespace.as_deref()),
        ("id", Some(container.id.as_str()).filter(|id| *id != container.cgroup.path)),
        ("image", container.image.as_deref()),
        ("cgroup", Some(container.cgroup.path.as_str())),
    ];
    let charset = subject.theme.charset;
    let mut lines = Vec::new();
    for (head, what) in said {
        // One line each: a name's blanks are not to be taken for ours.
        let what = what.map(|what| text::fit(what, subject.room(), charset));
        lines.extend(subject.beside(head, what.into_iter().collect()));
    }
    lines.extend(subject.say("cgroup id", &container.cgroup.id.to_string()));
    let named = match (&row.provenance, container.runtime) {
        (Some(provenance), _) => provenance,
        (None, Runtime::Systemd | Runtime::Cgroup) => "its path: what runs in it is no container",
        (None, _) => "not known",
    };
    lines.extend(subject.say("named by", named));
    lines
}
