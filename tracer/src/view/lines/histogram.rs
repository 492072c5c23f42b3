//! How long the lines of each stream are: one drawing a stream, all on the same axis, which is the logarithm of the
//! length. Below it stand the longest finished line and the line that has not ended.

use crate::{
    aggregator::stream::Stream,
    metric::Unit,
    view::{
        label,
        lines::table::{Shown, plural},
        text::{self, Charset},
        unit,
    },
};

/// Columns of a drawing where no terminal sets them.
const CELLS: usize = 72;
const CELLS_LEAST: usize = 30;
const NAME_LEAST: usize = 20;
const NAME_MOST: usize = 44;
/// Below the first label is the place of empty lines, and a gap.
const BEFORE_ONE: usize = 2;
/// The axis goes this far at least: it does not jump while the first lines come.
const TOP_LEAST: u64 = 1 << 10;

/// 1, 10, 100, 1K, 10K, 100K, 1M, ...: K is 1024.
fn steps() -> impl Iterator<Item = u64> {
    (0..6).flat_map(|thousands| [1_u64, 10, 100].map(|digits| digits << (10 * thousands)))
}

/// The axis that all drawings share.
struct Axis {
    cells: usize,
    top: u64,
}

impl Axis {
    fn of(streams: &[&Stream], cells: usize) -> Axis {
        let greatest = streams.iter().map(|stream| stream.max.max(stream.open_line)).max().unwrap_or(0);
        let top = steps().find(|step| *step >= greatest.max(TOP_LEAST)).unwrap_or(u64::MAX);
        Axis { cells, top }
    }

    /// The cell of a length.
    fn place(&self, length: u64) -> usize {
        if length == 0 {
            return 0;
        }
        let share = (length as f64).ln() / (self.top as f64).ln();
        let last = self.cells - 1;
        (BEFORE_ONE + (share * (last - BEFORE_ONE) as f64).round() as usize).min(last)
    }

    fn labels(&self) -> String {
        let mut line = vec![' '; self.cells];
        let mut free = 0;
        for step in [0].into_iter().chain(steps().take_while(|step| *step <= self.top)) {
            let label = unit::short(Some(step as f64)).replace(".0", "");
            // The last one ends with the axis.
            let at = self.place(step).min(self.cells - label.len());
            if at >= free {
                put(&mut line, at, &label);
                free = at + label.len() + 1;
            }
        }
        line.into_iter().collect()
    }

    /// Lines of each cell.
    fn counts(&self, stream: &Stream) -> Vec<u64> {
        let mut counts = vec![0_u64; self.cells];
        for (length, count) in stream.lengths.iter().flat_map(|lengths| lengths.buckets()) {
            let cell = &mut counts[self.place(length.min(stream.max))];
            *cell = cell.saturating_add(count);
        }
        counts
    }
}

fn put(line: &mut [char], at: usize, text: &str) {
    for (cell, c) in line[at..].iter_mut().zip(text.chars()) {
        *cell = c;
    }
}

/// Signs of a charset: heights, and the corner of a mark whose words stand at its right or left.
struct Signs {
    heights: [char; 8],
    right: char,
    left: char,
}

fn signs(charset: Charset) -> Signs {
    match charset {
        Charset::Unicode => {
            Signs {
                heights: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], right: '└', left: '┘'
            }
        }
        Charset::Ascii => Signs { heights: ['_', '.', ',', ':', '-', '=', '+', '#'], right: '^', left: '^' },
    }
}

/// The drawings of the streams that have lines, below the line that says how to read them.
pub fn histogram(shown: &Shown<'_>) -> String {
    let has = |stream: &&Stream| stream.open_line > 0 || (stream.lines > 0 && stream.lengths.is_some());
    let streams: Vec<&Stream> = shown.streams.iter().map(|stream| &***stream).filter(has).collect();
    let names = streams
        .iter()
        .map(|stream| text::width(&text::clean(&label::label(&stream.container), shown.charset)));
    let natural = names.max().unwrap_or(0).clamp(NAME_LEAST, NAME_MOST);
    let (name, cells) = match shown.width {
        None => (natural, CELLS),
        Some(width) => {
            let name = natural.min(NAME_LEAST.max(width * 3 / 10));
            (name, width.saturating_sub(name + 1).max(CELLS_LEAST))
        }
    };
    let axis = Axis::of(&streams, cells);
    let drawn: Vec<Vec<u64>> = streams.iter().map(|stream| axis.counts(stream)).collect();
    let greatest = drawn.iter().flatten().copied().max().unwrap_or(0);
    let signs = signs(shown.charset);
    let mut out = shown.say(0, &format!(
        "line lengths since attach: from empty lines (0) to the longest, K is 1024; height: logarithm of the number of \
         lines, {} is {}, the same in all",
        signs.heights[7],
        unit::format(Unit::Count, Some(greatest as f64)),
    ));
    let blank = " ".repeat(name);
    out.push_str(format!("{blank} {}", axis.labels()).trim_end());
    out.push('\n');
    for (stream, counts) in streams.iter().zip(&drawn) {
        let bars: String = counts.iter().map(|count| bar(*count, greatest, &signs)).collect();
        let heads = [
            super::column::name(stream, name, shown.charset),
            text::left(&about(stream), name, shown.charset),
        ];
        let mut heads = heads.into_iter();
        for line in [bars].into_iter().chain(marks(stream, &axis, &signs)) {
            let head = heads.next().unwrap_or_else(|| blank.clone());
            out.push_str(format!("{head} {line}").trim_end());
            out.push('\n');
        }
    }
    let none = shown.streams.len() - streams.len();
    if none > 0 {
        out.push_str(&format!("{}: nothing to draw\n", plural(none, "more stream")));
    }
    out
}

/// Below the name: which stream, and how many lines.
fn about(stream: &Stream) -> String {
    let lines = unit::format(Unit::Count, Some(stream.lines as f64));
    format!(" {} {lines} lines", stream.role.as_str())
}

fn bar(count: u64, greatest: u64, signs: &Signs) -> char {
    if count == 0 {
        return ' ';
    }
    let share = (count as f64).ln_1p() / (greatest as f64).ln_1p();
    let level = (share * signs.heights.len() as f64).ceil() as usize;
    signs.heights[level.clamp(1, signs.heights.len()) - 1]
}

/// One line, or two where the marks would meet.
fn marks(stream: &Stream, axis: &Axis, signs: &Signs) -> Vec<String> {
    let mut marks = Vec::new();
    if stream.lines > 0 {
        marks.push((stream.max, format!("max {}", unit::short(Some(stream.max as f64)))));
    }
    if stream.open_line > 0 {
        let begun_unseen = stream.first_line_partial && stream.lines == 0;
        let least = if begun_unseen { ">=" } else { "" };
        marks.push((stream.open_line, format!("open {least}{}", unit::short(Some(stream.open_line as f64)))));
    }
    let mut lines: Vec<Vec<char>> = vec![vec![' '; axis.cells]];
    for (length, words) in marks {
        let at = axis.place(length);
        if !lines.iter_mut().any(|line| mark(line, at, &words, signs)) {
            let mut line = vec![' '; axis.cells];
            mark(&mut line, at, &words, signs);
            lines.push(line);
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

/// Puts a mark where it is free, with a blank around it.
fn mark(line: &mut [char], at: usize, words: &str, signs: &Signs) -> bool {
    let right = (at, format!("{} {words}", signs.right));
    let left = format!("{words} {}", signs.left);
    let left = ((at + 1).checked_sub(left.chars().count()), left);
    for (from, text) in [(Some(right.0), right.1), left] {
        let Some(from) = from else { continue };
        let end = from + text.chars().count();
        if end > line.len() {
            continue;
        }
        let around = from.saturating_sub(1)..(end + 1).min(line.len());
        if line[around].iter().all(|cell| *cell == ' ') {
            put(line, from, &text);
            return true;
        }
    }
    false
}
