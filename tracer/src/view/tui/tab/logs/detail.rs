//! Everything known about one stream: the open line, the way its lines go, the reader's own memory, all counts in full,
//! and how each was obtained.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    aggregator::stream::Stream,
    metric::{Unit, stream::find},
    snapshot::Snapshot,
    view::{
        label, lines,
        lines::{flow, table},
        severity, text,
        tui::{
            page::{Page, joined},
            trend,
        },
        unit,
    },
};

const TREND_MOST: usize = 100;

/// What the sections are about, and what they may look at.
pub struct Subject<'a> {
    pub stream: &'a Stream,
    /// The stream is no longer in the picture, and this is what was last known of it.
    pub gone: bool,
    pub snapshot: &'a Snapshot,
    pub page: Page<'a>,
}

/// The pane's lines.
pub fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let first = [title(subject), open_line(subject), way(subject)].concat();
    joined([first, reader(subject), counts(subject), doubts(subject), identity(subject), sources(subject)])
}

/// What the stream is called, and what is to be known of it before anything else.
fn title(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, gone, snapshot, page: Page { theme, width } } = *subject;
    let mut words: Vec<(String, Style)> = Vec::new();
    if gone {
        words.push((String::from("GONE, as last seen"), theme.flag()));
    }
    let reader = snapshot.logs.as_deref().and_then(|logs| lines::reader(logs, stream));
    if let Some(severity) = severity::stream(stream, reader) {
        let text = format!("{} {}", severity.level.mark(), severity.why);
        words.push((text, theme.level(Some(severity.level))));
    }
    let name = text::fit(&table::title(stream), width, theme.charset);
    let mut lines = vec![Line::styled(name, theme.title())];
    lines.extend(words.into_iter().flat_map(|(word, style)| {
        text::wrap(&word, width, theme.charset).into_iter().map(move |line| Line::styled(line, style))
    }));
    lines
}

/// `412 MiB (432013312 bytes)`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{} ({bytes} bytes)", unit::bytes(bytes as f64)),
    }
}

fn open_line(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, page, .. } = subject;
    let growth = unit::format(Unit::BytesPerSecond, stream.open_line_per_s);
    let mut words = format!("{} since the last newline, {growth}", size(stream.open_line));
    if stream.first_line_partial && stream.lines == 0 {
        words = format!("{} since attach and no newline yet, {growth}", size(stream.open_line));
    }
    if stream.max_open_line > stream.open_line {
        words.push_str(&format!("; was once {}", size(stream.max_open_line)));
    }
    let before = stream.open_line_before.map(|before| {
        format!(
            "up to ~{} of it from before attach, inferred: what was relayed less what is in log files",
            size(before)
        )
    });
    let before = before.map(|words| page.say("", &words)).unwrap_or_default();
    [page.say("open line", &words), before].concat()
}

fn way(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, page, .. } = subject;
    let pieces = flow::pieces(stream, page.theme.charset);
    let mut lines = page.beside("way", text::flow(pieces, " ", page.room(), page.theme.charset));
    for hop in &stream.hops {
        let process = lines::process(&hop.process, page.theme.charset);
        lines.extend(page.say("", &format!("{process} took {} since attach", size(hop.taken))));
    }
    if stream.hops.is_empty() {
        lines.extend(page.say("", "nobody has read it since attach"));
    }
    let held = match (stream.held, stream.held_how) {
        (None, _) => return lines,
        (Some(held), None) => format!("{}: taken and not written on", size(held)),
        (Some(held), Some(how)) => format!("{}{}: taken and not written on", unit::mark(how), size(held)),
    };
    lines.extend(page.say("held", &held));
    lines
}

/// The last process of the way.
fn reader(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, snapshot, page, .. } = subject;
    let logs = snapshot.logs.as_deref();
    let Some((logs, reader)) = logs.and_then(|logs| Some((logs, lines::reader(logs, stream)?))) else {
        return Vec::new();
    };
    let process = lines::process(&reader.process, page.theme.charset);
    let its = logs.streams.iter().filter(|other| other.reader() == stream.reader()).count();
    let said = [
        format!("{process}, last reader of {}", table::plural(its, "stream")),
        format!(
            "anonymous memory {}, {} since attach, {} now",
            reader.anon.map_or_else(|| String::from("-"), size),
            flow::grown(reader.anon_growth),
            unit::format(Unit::BytesPerSecond, reader.anon_per_s)
        ),
        format!(
            "took {} from streams, wrote {} to files, pipes and sockets since attach",
            size(reader.taken),
            reader.written.map_or_else(|| String::from("-"), size)
        ),
    ];
    let heads = ["reader", "", ""];
    let mut lines: Vec<Line<'static>> =
        heads.iter().zip(said).flat_map(|(head, words)| page.say(head, &words)).collect();
    lines.extend(flow::explained(reader).map(|words| page.say("", &words)).unwrap_or_default());
    lines
}

fn counts(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, page, .. } = subject;
    let traffic = unit::format(Unit::Traffic, stream.bytes_per_s);
    let rate = unit::format(Unit::PerSecond, stream.lines_per_s);
    let mut lines = page.say("lines", &format!("{} finished since attach, {rate}/s", stream.lines));
    lines.extend(page.say("bytes", &format!("{} since attach, newlines too, {traffic}", size(stream.bytes))));
    let longest = if stream.lines > 0 { size(stream.max) } else { String::from("-, none has ended") };
    lines.extend(page.say("longest", &longest));
    lines.extend(match &stream.lengths {
        None => page.say("lengths", "not counted here: `memtrace lines --histogram` does"),
        Some(_) => {
            let words = ["p50", "p90", "p99", "p999"].into_iter().filter_map(find).map(|metric| {
                format!("{} {}", metric.title.to_lowercase(), unit::format(metric.unit, metric.of(stream)))
            });
            page.beside("lengths", text::flow(words, "   ", page.room(), page.theme.charset))
        }
    });
    if stream.trend.iter().flatten().any(|bytes| *bytes > 0) {
        let columns = page.room().min(TREND_MOST).min(stream.trend.len());
        let shape = trend::line(&stream.trend, columns, page.theme.charset);
        lines.push(Line::from(vec![page.head("went"), Span::raw(shape)]));
    }
    lines
}

fn doubts(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, page, .. } = subject;
    let mut lines = Vec::new();
    if stream.first_line_partial {
        lines.extend(page.say(
            "first line",
            "was under way at attach, or may have been: it counts with the bytes that were seen of it",
        ));
    }
    if stream.unscanned > 0 {
        let words = format!(
            "{} of its bytes, spliced or beyond what one look takes: it may have more lines, and shorter ones",
            size(stream.unscanned)
        );
        lines.extend(page.say("unscanned", &words));
    }
    lines
}

fn identity(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { stream, page, .. } = subject;
    let container = &stream.container;
    let said = [
        ("container", Some(label::label(container))),
        ("runtime", Some(container.runtime.as_str().to_owned())),
        ("id", Some(container.id.clone()).filter(|id| *id != container.cgroup.path)),
        ("image", container.image.clone()),
        ("cgroup", Some(container.cgroup.path.clone())),
    ];
    let charset = page.theme.charset;
    // One line each: a name's blanks are not to be taken for ours.
    let line = |(head, what): (&str, Option<String>)| {
        page.beside(head, what.map(|what| text::fit(&what, page.room(), charset)).into_iter().collect())
    };
    said.into_iter().flat_map(line).collect()
}

/// Where the numbers come from.
fn sources(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { snapshot, page, .. } = subject;
    let mut lines = page.say(
        "from",
        "lines, bytes, lengths and readers: counted in the kernel where writes and reads of pipes and terminals return; \
         a reader's memory and what it wrote: /proc/PID",
    );
    for probe in snapshot.probes.iter().filter(|probe| probe.starts_with("log")) {
        // Hooks are joined by `+`, which is a place to break the line at.
        lines.extend(page.say("", &format!("probe {}", probe.replace('+', " + "))));
    }
    lines
}
