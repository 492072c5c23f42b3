//! Where the row's numbers come from: cgroupfs, and which hook serves each probe.

use ratatui::text::Line;

use super::Subject;

/// What a probe serves of a row, by the name that its line begins with.
const SERVES: &[(&str, &str)] = &[
    ("cgroup_life", "that it appears at once, and what it held when it was removed"),
    ("task_life", "execs/s, exits/s"),
    ("charge", "charged/s, uncharged/s"),
    ("charge_site", "charges by process and by kernel function"),
];

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let cgroupfs =
        "sizes, growth, limits, tasks, kills, throttling: the cgroup's own files, as often as they may move";
    let mut lines = subject.say("from", cgroupfs);
    let sites = subject.snapshot.sites.as_deref().filter(|sites| sites.running).map(|sites| &sites.how);
    for probe in subject.snapshot.probes.iter() {
        // Attached on demand, it tells of itself.
        let probe = sites.filter(|_| probe.starts_with("charge_site:")).unwrap_or(probe);
        let name = probe.split(':').next().unwrap_or_default();
        let serves = SERVES.iter().find(|(known, _)| *known == name);
        let line = match serves {
            Some((_, serves)) => format!("{serves}: probe {probe}"),
            None => format!("probe {probe}"),
        };
        // Hooks are joined by `+`, which is a place to break the line at.
        lines.extend(subject.say("", &line.replace('+', " + ")));
    }
    lines
}
