//! `memtrace lines`: plain blocks or NDJSON of streams of log lines, an interval each, on a terminal as into a pipe.

use std::io::{self, IsTerminal as _};

use super::{
    Failure, Unserved,
    collect::{self, Unmatched},
};
use crate::{
    cli::Lines,
    pipeline::LogWish,
    snapshot::Snapshot,
    view::{
        lines::{
            self,
            flow::flow,
            histogram::histogram,
            json,
            select::{Key, Order, select},
            table::{Shown, table},
        },
        select::Filter,
        text::Charset,
    },
};

/// A terminal that does not tell its width has this.
const WIDTH: usize = 80;

pub fn run(options: Lines) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let collected = collect::options(&options.watch, LogWish::Lengths);
    let mut printer = Printer::new(options);
    collect::run(collected, facts, |snapshots, _| {
        collect::print_each(snapshots, move |snapshot| printer.text(snapshot))
    })
    .map(drop)
}

/// What is to be shown.
struct Printer {
    options: Lines,
    filter: Filter,
    order: Order,
    unmatched: Unmatched,
    terminal: bool,
    charset: Charset,
}

impl Printer {
    fn new(options: Lines) -> Printer {
        let terminal = io::stdout().is_terminal();
        let charset = match terminal {
            _ if options.ascii => Charset::Ascii,
            true => Charset::of_environment(),
            false => Charset::Unicode,
        };
        Printer {
            filter: options.watch.container.clone().unwrap_or_default(),
            order: Order { key: Key::find(&options.sort).unwrap_or_default(), reverse: false },
            unmatched: Unmatched::default(),
            terminal,
            charset,
            options,
        }
    }

    fn text(&mut self, snapshot: &Snapshot) -> anyhow::Result<String> {
        let Some(logs) = snapshot.logs.as_deref() else {
            return Err(Unserved(lines::missing(snapshot)).into());
        };
        let rows = self.options.watch.rows.map(|rows| rows as usize);
        let streams = select(logs, &[&self.filter], self.order, rows);
        self.unmatched.tell(streams.is_empty(), &self.filter);
        if snapshot.sequence == 1 {
            // The opening interval is not printed.
            return Ok(String::new());
        }
        if self.options.watch.json {
            return Ok(json::lines(snapshot, logs, &streams) + "\n");
        }
        let width = self.terminal.then(|| {
            let size = crossterm::terminal::size().map_or(0, |(width, _)| usize::from(width));
            if size == 0 { WIDTH } else { size }
        });
        let order = self.order;
        let shown = Shown { snapshot, logs, streams: &streams, order, width, charset: self.charset };
        let mut text = table(&shown);
        for (wanted, draw) in
            [(self.options.histogram, histogram as fn(&Shown<'_>) -> String), (self.options.flow, flow)]
        {
            if wanted {
                text.push('\n');
                text.push_str(&draw(&shown));
            }
        }
        text.push('\n');
        Ok(text)
    }
}
