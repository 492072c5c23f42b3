//! Which processes of the row are charged, and through which kernel functions: sampled when it is asked for.

use ratatui::text::{Line, Span};

use super::Subject;
use crate::{
    aggregator::site::RowSites,
    view::{
        demand::SITES,
        site,
        text::{self, Charset},
        unit,
    },
};

const SIZE: usize = 10;
const SHARE: usize = 7;
/// Of what stands below numbers.
const INDENT: usize = SIZE + SHARE + 2;
/// Processes and sites that are shown; the others are told by their number.
const PROCESSES: usize = 5;
const PLACES: usize = 6;

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Some(report) = subject.snapshot.sites.as_deref() else { return ask(subject) };
    let id = subject.row.container.cgroup.id;
    let Some(row) = report.rows.iter().find(|row| row.container.cgroup.id == id) else {
        // Asked for and refused: then there are no rows at all.
        return match report.rows.is_empty() && !report.running && !report.how.is_empty() {
            true => subject.say("charged by", &report.how),
            false => ask(subject),
        };
    };
    let state = if report.running { "counting" } else { "ended, w counts again" };
    let head = format!(
        "{} in {} ({state}), sampled: {}",
        site::size(row.charged()),
        unit::seconds(row.watched_s),
        site::kinds(row)
    );
    let mut lines = subject.say("charged by", &head);
    lines.extend(processes(subject, row));
    lines.extend(places(subject, row));
    lines
}

fn ask(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let what = format!(
        "press w: which processes and kernel functions charge memory here, for {} s",
        SITES.as_secs()
    );
    subject.say("charged by", &what)
}

fn numbers(charged: u64, all: u64) -> String {
    let right = |text: &str, width| text::right(text, width, Charset::Unicode);
    format!("{}{}  ", right(&site::size(charged), SIZE), right(&site::share(charged, all), SHARE))
}

fn line(subject: &Subject<'_>, text: &str) -> Line<'static> {
    let text = text::fit(text, subject.room(), subject.theme.charset);
    Line::from(vec![subject.head(""), Span::raw(text)])
}

fn processes(subject: &Subject<'_>, row: &RowSites) -> Vec<Line<'static>> {
    let all = row.processes();
    let mut lines: Vec<Line<'static>> = all
        .iter()
        .take(PROCESSES)
        .map(|(pid, comm, charged)| {
            let process = site::process(comm, *pid, subject.theme.charset);
            line(subject, &format!("{}{process}", numbers(*charged, row.charged())))
        })
        .collect();
    if all.len() > PROCESSES {
        lines.push(line(subject, &format!("and {} more processes", all.len() - PROCESSES)));
    }
    lines
}

fn places(subject: &Subject<'_>, row: &RowSites) -> Vec<Line<'static>> {
    if row.sites.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for place in row.sites.iter().take(PLACES) {
        let process = site::process(&place.comm, place.pid, subject.theme.charset);
        let what =
            format!("{}{}, {process}", numbers(place.charged, row.charged()), place.stack.kind.title());
        lines.push(line(subject, &what));
        let room = subject.room().saturating_sub(INDENT).max(8);
        let at = site::place(place, room, subject.theme.charset);
        lines.push(line(subject, &format!("{:INDENT$}{at}", "")));
    }
    if row.sites.len() > PLACES {
        let more = format!("and {} more stacks: --sites --folded FILE keeps all", row.sites.len() - PLACES);
        lines.push(line(subject, &more));
    }
    lines
}
