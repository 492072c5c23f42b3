//! How each kind went since the start: its shape, its least and its most.

use std::time::{Duration, SystemTime};

use ratatui::text::{Line, Span};

use super::{HEAD, Subject};
use crate::view::{
    host,
    text::{self, Charset},
    tui::{
        trail::{self, Seen, Trail},
        trend,
    },
    unit,
};

const SIZE: usize = 9;
const TIME: usize = 11;
const SHAPE_LEAST: usize = 12;
const SHAPE_MOST: usize = 100;
/// From here on the time of day does not tell the day.
const DAY: Duration = Duration::from_secs(86_400);

/// Numbers beside the shape, most important first: as many as there is room for.
const NUMBERS: [(&str, usize); 3] = [("MOST", SIZE + TIME), ("LEAST", SIZE + TIME), ("NOW", SIZE)];

/// `current` alone, in one line.
pub(super) fn current(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Some(way) = Way::of(subject) else { return Vec::new() };
    let Some(range) = way.trail.range(0) else { return Vec::new() };
    let most = format!(" most {} at {}", host::size(Some(range.most.bytes)), way.clock(range.most.at));
    let room = subject.room().saturating_sub(text::width(&most)).min(SHAPE_MOST);
    if room < SHAPE_LEAST {
        return Vec::new();
    }
    vec![Line::from(vec![subject.head("went"), Span::raw(way.shape(subject, 0, room)), Span::raw(most)])]
}

/// The row's trail until the picture's time.
struct Way<'a> {
    trail: &'a Trail,
    started: SystemTime,
    now: SystemTime,
    lasted: Duration,
}

impl<'a> Way<'a> {
    fn of(subject: &Subject<'a>) -> Option<Way<'a>> {
        let (trails, now) = (subject.trails, subject.snapshot.at);
        let trail = trails.of(subject.row.container.cgroup.id)?;
        Some(Way { trail, started: trails.started()?, now, lasted: trails.after(now) })
    }

    /// In exactly `columns`; the first ticks take one each.
    fn shape(&self, subject: &Subject<'_>, kind: usize, columns: usize) -> String {
        let ticks = self.lasted.as_secs_f64() / subject.snapshot.interval_s.max(0.1);
        let cells = columns.min(ticks.round() as usize + 1);
        trend::line(&self.trail.shape(kind, cells, self.lasted), columns, subject.theme.charset)
    }

    /// The time of day, in UTC as in the header; what is older than a day has its date instead.
    fn clock(&self, at: SystemTime) -> String {
        clock(at, self.now)
    }
}

pub(super) fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Some(way) = Way::of(subject) else { return Vec::new() };
    let mut room = subject.room().min(SHAPE_MOST + NUMBERS.iter().map(|(_, width)| width).sum::<usize>());
    let mut numbers = 0;
    while let Some((_, width)) = NUMBERS.get(numbers)
        && room >= width + SHAPE_LEAST
    {
        room -= width;
        numbers += 1;
    }
    let right = |text: &str, width| text::right(text, width, Charset::Unicode);
    let seen = |seen: Seen| {
        format!("{}{}", right(&host::size(Some(seen.bytes)), SIZE), right(&way.clock(seen.at), TIME))
    };
    let since = format!(
        "since {}, for {}; each kind in its own scale",
        way.clock(way.started),
        unit::seconds(way.lasted.as_secs_f64())
    );
    let mut lines = subject.say("history", &since);
    let titles: String = NUMBERS[..numbers].iter().map(|(title, width)| right(title, *width)).collect();
    lines.push(Line::styled(format!("{:1$}{titles}", "", HEAD + room), subject.theme.title()));
    let (mut nothing, mut unknown) = (Vec::new(), Vec::new());
    for (kind, (name, size)) in trail::KINDS.iter().enumerate() {
        let Some(range) = way.trail.range(kind) else {
            unknown.push(*name);
            continue;
        };
        if range.most.bytes == 0 {
            nothing.push(*name);
            continue;
        }
        let shape = way.shape(subject, kind, room);
        let cells = [seen(range.most), seen(range.least), right(&host::size(size(subject.memory())), SIZE)];
        lines.push(Line::from(vec![
            subject.head(name),
            Span::raw(shape),
            Span::raw(cells[..numbers].concat()),
        ]));
    }
    for (words, names) in [("0 throughout", nothing), ("never known", unknown)] {
        if !names.is_empty() {
            lines.extend(subject.say("", &format!("{words}: {}", names.join(", "))));
        }
    }
    lines
}

fn clock(at: SystemTime, now: SystemTime) -> String {
    let stamp = host::timestamp(at);
    let old = now.duration_since(at).is_ok_and(|age| age >= DAY);
    let shown = if old { stamp.get(..10) } else { stamp.get(11..19) };
    format!("{}{}", shown.unwrap_or_default(), if old { "" } else { "Z" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yesterday_has_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_236_765);
        assert_eq!(clock(now, now), "03:06:05Z");
        assert_eq!(clock(now - DAY, now), "2025-12-31");
        assert_eq!(clock(now + DAY, now), "03:06:05Z", "a clock that was set back");
    }
}
