//! What the screen shows and what the keys do. The columns' sentences are the metrics' own.

use ratatui::text::{Line, Span};

use crate::view::{
    severity,
    text::{self, Charset},
    tui::{
        input,
        tab::{calls, findings, logs, memory::column, stuck},
        theme::Theme,
    },
};

/// What a newcomer asks about the screen itself.
fn screen(theme: &Theme) -> [(&'static str, String); 7] {
    let [in_rows, outside, free] = theme.bar();
    [
        (
            "rows",
            String::from(
                "one per container, pod, systemd unit or other cgroup; what rows hold adds up: none is counted twice",
            ),
        ),
        (
            "bar",
            format!("{in_rows} memory in rows, {outside} used outside every row (unattributed), {free} free"),
        ),
        (
            "LOST n",
            String::from(
                "events that memtrace lost since attach: numbers may be short of them; the line below says which",
            ),
        ),
        (
            "urgent",
            String::from("the order of streams: lines over 1 MiB that still grow first, then the busiest"),
        ),
        ("-", String::from("not known here; never stands for 0")),
        ("~", String::from("inferred or sampled, not simply measured; >= at least")),
        (
            "growth",
            String::from(
                "smoothed over about ten seconds, also that of the host beside its bar; 1 KiB is 1024 bytes",
            ),
        ),
    ]
}

pub fn lines(theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut section = |title: &'static str, entries: Vec<(String, String)>| {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::styled(title, theme.title()));
        let head = entries.iter().map(|(head, _)| text::width(head)).max().unwrap_or(0).min(width / 3);
        for (name, sentence) in entries {
            lines.extend(entry(&name, &sentence, head, theme, width));
        }
    };
    let owned = |entries: &[(&str, &str)]| {
        entries.iter().map(|(head, what)| ((*head).to_owned(), (*what).to_owned())).collect::<Vec<_>>()
    };
    section("Keys", owned(input::HELP));
    section("Marks before a row, worst first", owned(severity::RULES));
    section("Marks before a stream, worst first", owned(severity::STREAM_RULES));
    section("Marks before a stuck task, worst first", owned(severity::TASK_RULES));
    section("The screen", screen(theme).into_iter().map(|(head, what)| (head.to_owned(), what)).collect());
    section(
        "Columns of rows, as many as fit",
        column::all().map(|column| (column.title().to_owned(), column.help().replace('`', ""))).collect(),
    );
    section(
        "Columns of streams, as many as fit",
        logs::columns()
            .map(|column| (column.title(false).to_owned(), column.help().replace('`', "")))
            .collect(),
    );
    section(
        "Columns of system calls",
        calls::columns()
            .iter()
            .map(|metric| (metric.title.to_owned(), metric.help.replace('`', "")))
            .collect(),
    );
    section(
        "Columns of stuck tasks, as many as fit",
        stuck::COLUMNS
            .iter()
            .map(|column| (column.title.to_owned(), column.help.replace('`', "")))
            .chain([(String::from("SLEEPS"), String::from(stuck::SLEEPS))])
            .collect(),
    );
    section("Columns of findings", owned(findings::COLUMNS));
    lines
}

/// `  head  sentence`, the sentence wrapped beside the head; a head that is too long stands alone.
fn entry(name: &str, sentence: &str, head: usize, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(head + 4).max(10);
    let mut lines: Vec<Line<'static>> = Vec::new();
    let mut first = Some(text::left(name, head, Charset::Unicode));
    if text::width(name) > head {
        lines.push(Line::from(format!("  {name}")));
        first = None;
    }
    for part in text::wrap(sentence, room, theme.charset) {
        let name = first.take().unwrap_or_else(|| " ".repeat(head));
        lines.push(Line::from(vec![
            Span::raw("  "),
            Span::styled(name, theme.title()),
            Span::raw("  "),
            Span::raw(part),
        ]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let theme = Theme::new(Charset::Unicode, false);
        for width in [40, 80, 200] {
            for line in lines(&theme, width) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }
}
