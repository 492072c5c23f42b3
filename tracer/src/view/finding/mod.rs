//! One finding whole, as a report and a screen have it: the sentence, its evidence, what would refute it, what to do.

mod fact;

use self::fact::cells;
use super::text::{self, Charset};
use crate::{
    finding::{Change, Open},
    metric::Unit,
    snapshot::Snapshot,
    view::unit,
};

/// Where each kind is explained.
const PAGE: &str = "docs/findings.md";

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of the sentence at the top.
    Sentence,
    /// What the lines below it are.
    Title,
    Body,
}

/// Lines of at most so many columns, commands apart: these are whole, to be pasted.
pub fn lines(finding: &Open, snapshot: &Snapshot, columns: usize, charset: Charset) -> Vec<(Part, String)> {
    let mut lines = Vec::new();
    let head = finding.severity.as_str().to_uppercase() + " ";
    let wrapped = |head: &str, said: &str| {
        let room = columns.saturating_sub(text::width(head));
        let heads = std::iter::once(head.to_owned()).chain(std::iter::repeat(" ".repeat(text::width(head))));
        let lines = text::wrap(said, room, charset).into_iter().zip(heads);
        lines.map(|(line, head)| format!("{head}{line}")).collect::<Vec<_>>()
    };
    let body = |line: String| (Part::Body, line);
    let title = |line: String| (Part::Title, line);
    lines.extend(wrapped(&head, &finding.summary).into_iter().map(|line| (Part::Sentence, line)));
    let also: String = finding.also.iter().map(|kind| format!(", also {}", kind.as_str())).collect();
    lines.push(title(format!("  evidence ({}{also})", finding.kind.as_str())));
    let facts = finding.evidence.facts();
    let keys = facts.iter().map(|fact| fact.key.len()).max().unwrap_or(0);
    for fact in facts {
        if let Some((value, how, says)) = cells(fact) {
            let line = format!("    {:<keys$}  {value:>11}  {how:<8}  {says}", fact.key);
            lines.push(body(text::head(&line, columns, charset)));
        }
    }
    let course = course(finding, &snapshot.finding_events);
    if !course.is_empty() {
        lines.push(title("  timeline, since memtrace began".to_owned()));
        lines.extend(course.iter().map(|line| body(text::head(&format!("    {line}"), columns, charset))));
    }
    lines.push(title("  refuted by".to_owned()));
    lines.extend(wrapped("    ", &finding.refuted_by).into_iter().map(body));
    lines.push(title("  what to do".to_owned()));
    let mut number = 0;
    for advice in &finding.advice {
        match advice.strip_prefix("$ ") {
            Some(command) => lines.push(body(format!("       {}", text::clean(command, charset)))),
            None => {
                number += 1;
                lines.extend(wrapped(&format!("    {number}. "), advice).into_iter().map(body));
            }
        }
    }
    lines.push(title(format!("  explained in {PAGE}#{}", finding.kind.as_str())));
    lines
}

/// When it was found, and each time that it became worse or better, with what was said then.
fn course(finding: &Open, events: &[Change]) -> Vec<String> {
    let seconds = |value: f64| unit::format(Unit::Seconds, Some(value));
    let of = events.iter().filter(|change| change.id == finding.id);
    let mut course: Vec<String> = of
        .map(|change| {
            let (became, severity) = (change.became.as_str(), change.severity.as_str());
            format!("{:>7}  {became}, {severity}: {}", seconds(change.at_s), change.summary)
        })
        .collect();
    course.extend(
        finding.unseen_s.map(|unseen| format!("{:>7}  not found any more for so long", seconds(unseen))),
    );
    course
}
