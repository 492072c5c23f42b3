//! The columns of streams: what stands in them, and which of them a width has room for.

use std::sync::Arc;

use crate::{
    aggregator::stream::Stream,
    metric::{Metric, Unit, stream::find},
    view::{
        label,
        lines::{
            self,
            select::{Key, Order},
        },
        text::{self, Charset},
        unit,
    },
};

pub const ROLE: &str = "role";
pub const TREND: &str = "trend";
pub const READER: &str = "reader";

/// A name cut shorter than this tells nothing.
const NAME_LEAST: usize = 18;
/// What `namespace/pod/container` usually takes.
const NAME_ENOUGH: usize = 44;
const READER_LEAST: usize = 12;
const READER_ENOUGH: usize = 48;
/// Columns of this rank and above are shown only where names and readers are easy to read beside them.
const EXTRA: u8 = 8;
const NAME_EASY: usize = 28;
const READER_EASY: usize = 16;
const TREND_LEAST: usize = 8;
const TREND_MOST: usize = 40;

/// A column's word, and its rank: of those that do not fit the one with the greatest goes first.
pub type Kit = &'static [(&'static str, u8)];

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    Role,
    Metric(&'static Metric<Stream>),
    Trend,
    Reader,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    pub cell: Cell,
    pub width: usize,
    rank: u8,
}

impl Column {
    pub fn find(word: &str, rank: u8) -> Option<Column> {
        let cell = match word {
            ROLE => Cell::Role,
            TREND => Cell::Trend,
            READER => Cell::Reader,
            word => Cell::Metric(find(word)?),
        };
        Some(Column { cell, width: 0, rank })
    }

    pub fn title(&self, short: bool) -> &'static str {
        match self.cell {
            Cell::Role => "STREAM",
            Cell::Trend => "TREND",
            Cell::Reader => "READER",
            Cell::Metric(metric) if short => short_title(metric),
            Cell::Metric(metric) => metric.title,
        }
    }

    /// Words read from the left, numbers from the right.
    pub fn is_text(&self) -> bool {
        matches!(self.cell, Cell::Role | Cell::Reader)
    }

    pub fn help(&self) -> &'static str {
        match self.cell {
            Cell::Metric(metric) => metric.help,
            Cell::Role => {
                "stdout and stderr: descriptors 1 and 2 of the container's init; tty: its terminal; other: any else, \
                 such as an exec session's"
            }
            Cell::Trend => "bytes of the last ticks, each stream in its own scale, newest at the right",
            Cell::Reader => "who takes the lines: relays, then the last process, which holds or writes them",
        }
    }

    pub fn is_sorted_by(&self, order: Order) -> bool {
        matches!((self.cell, order.key), (Cell::Metric(a), Key::Metric(b)) if a == b)
    }

    /// What the text takes at least, whatever it is: numbers of the next interval are to fit too.
    fn least(&self, short: bool) -> usize {
        match self.cell {
            Cell::Metric(metric) if short && is_size(metric) => unit::SHORT,
            Cell::Metric(metric) => unit::columns(metric.unit),
            Cell::Role => "stdout".len(),
            Cell::Trend => TREND_LEAST,
            Cell::Reader => READER_LEAST,
        }
    }
}

fn short_title(metric: &Metric<Stream>) -> &'static str {
    match metric.name {
        "bytes" => "B/s",
        "open_line" => "OPEN",
        _ => metric.title,
    }
}

fn is_size(metric: &Metric<Stream>) -> bool {
    matches!(metric.unit, Unit::Bytes | Unit::Traffic)
}

/// A line of a given width: name, columns, and whether sizes are written short (`1.5K`).
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub name: usize,
    pub columns: Vec<Column>,
    pub short: bool,
}

impl Layout {
    fn taken(&self) -> usize {
        self.name + self.columns.iter().map(|column| column.width + 1).sum::<usize>()
    }
}

/// What a line is laid out for.
pub struct Wanted<'a> {
    pub kit: Kit,
    pub streams: &'a [&'a Arc<Stream>],
    pub order: Order,
    /// Columns for the name and all after it; `None` has room for everything.
    pub width: Option<usize>,
    /// What a title needs beside itself: the arrow of the order.
    pub beside_title: usize,
    pub charset: Charset,
}

impl Wanted<'_> {
    /// The columns for a width. The one that sorts is always among them.
    pub fn layout(&self) -> Layout {
        let name = self
            .streams
            .iter()
            .map(|stream| text::width(&text::clean(&label::label(&stream.container), self.charset)));
        let name = name.max().unwrap_or(0).max("CONTAINER".len() + self.beside_title);
        let Some(width) = self.width else {
            return Layout { name, ..self.natural(false) };
        };
        let name = name.min(NAME_ENOUGH);
        let mut layout = self.natural(false);
        layout.name = name.min(NAME_ENOUGH / 2);
        if layout.taken() > width {
            layout = Layout { name: name.min(NAME_EASY), ..self.natural(true) };
            set_reader(&mut layout, READER_EASY);
            self.drop_columns(&mut layout, width, EXTRA);
            layout.name = NAME_LEAST.min(width);
            set_reader(&mut layout, READER_LEAST);
            self.drop_columns(&mut layout, width, 0);
        }
        let spare = width.saturating_sub(layout.taken());
        self.share_out(&mut layout, name, spare);
        layout
    }

    /// Each column as wide as its cells, but a reader, which may be cut.
    fn natural(&self, short: bool) -> Layout {
        let mut columns: Vec<Column> =
            self.kit.iter().filter_map(|(word, rank)| Column::find(word, *rank)).collect();
        if let Key::Metric(metric) = self.order.key
            && !columns.iter().any(|column| column.is_sorted_by(self.order))
        {
            columns.insert(1, Column { cell: Cell::Metric(metric), width: 0, rank: 0 });
        }
        for column in &mut columns {
            let cells = self.streams.iter().map(|stream| self.natural_width(stream, column, short));
            let title = column.title(short).len() + self.beside_title;
            column.width = cells.max().unwrap_or(0).max(column.least(short)).max(title);
        }
        Layout { name: 0, columns, short }
    }

    fn natural_width(&self, stream: &Stream, column: &Column, short: bool) -> usize {
        match column.cell {
            // In a pipe nothing is cut.
            Cell::Reader if self.width.is_none() => text::width(&chain(stream, self.charset)),
            Cell::Reader | Cell::Trend => 0,
            _ => text::width(&cell(stream, column, short, self.charset)),
        }
    }

    /// Those of this rank and above, until the others fit.
    fn drop_columns(&self, layout: &mut Layout, width: usize, rank: u8) {
        let may_go = |column: &Column| column.rank >= rank && !column.is_sorted_by(self.order);
        while layout.taken() > width {
            let last = layout.columns.iter().enumerate().filter(|(_, column)| may_go(column));
            let Some((last, _)) = last.max_by_key(|(_, column)| column.rank) else { break };
            layout.columns.remove(last);
        }
    }

    /// What is left goes to the last reader, then to the name, to the relays, to the trend.
    fn share_out(&self, layout: &mut Layout, name: usize, mut spare: usize) {
        let mut grow = |now: &mut usize, most: usize| {
            let more = most.saturating_sub(*now).min(spare);
            *now += more;
            spare -= more;
        };
        let widest = |text: fn(&Stream, Charset) -> String| {
            let widths = self.streams.iter().map(|stream| text::width(&text(stream, self.charset)));
            widths.max().unwrap_or(0).min(READER_ENOUGH)
        };
        let (last, chain) = (widest(last), widest(chain));
        let reader = layout.columns.iter().position(|column| column.cell == Cell::Reader);
        if let Some(reader) = reader {
            grow(&mut layout.columns[reader].width, last);
        }
        grow(&mut layout.name, name);
        if let Some(reader) = reader {
            grow(&mut layout.columns[reader].width, chain);
        }
        for column in &mut layout.columns {
            if column.cell == Cell::Trend {
                grow(&mut column.width, TREND_MOST);
            }
        }
    }
}

fn set_reader(layout: &mut Layout, width: usize) {
    for column in layout.columns.iter_mut().filter(|column| column.cell == Cell::Reader) {
        column.width = width;
    }
}

/// What stands in a cell; a trend is drawn by who has a screen for it.
pub fn cell(stream: &Stream, column: &Column, short: bool, charset: Charset) -> String {
    match column.cell {
        Cell::Role => stream.role.as_str().to_owned(),
        Cell::Metric(metric) if short && is_size(metric) => {
            unit::short_marked(metric.of(stream), metric.how(stream))
        }
        Cell::Metric(metric) => unit::format_marked(metric.unit, metric.of(stream), metric.how(stream)),
        Cell::Trend => String::new(),
        Cell::Reader => {
            let chain = chain(stream, charset);
            // Relays only where there is room for them.
            if text::width(&chain) <= column.width { chain } else { last(stream, charset) }
        }
    }
}

/// `containerd[812]`.
fn last(stream: &Stream, charset: Charset) -> String {
    stream.reader().map_or_else(|| String::from("-"), |reader| lines::process(reader, charset))
}

/// `containerd-shim[2211] > containerd[812]`.
fn chain(stream: &Stream, charset: Charset) -> String {
    let hops: Vec<String> = stream.hops.iter().map(|hop| lines::process(&hop.process, charset)).collect();
    if hops.is_empty() { String::from("-") } else { hops.join(" > ") }
}

/// The name, the one without its namespace where the other is too wide.
pub fn name(stream: &Stream, columns: usize, charset: Charset) -> String {
    let name = label::label(&stream.container);
    let fits = text::width(&text::clean(&name, charset)) <= columns;
    let name = if fits { name } else { label::short(&stream.container) };
    text::left(&name, columns, charset)
}

/// In exactly its column.
pub fn aligned(text: &str, column: &Column, charset: Charset) -> String {
    match column.is_text() {
        true => text::left(text, column.width, charset),
        false => text::right(text, column.width, charset),
    }
}
