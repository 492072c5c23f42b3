//! `memtrace dirty`: plain blocks or NDJSON of dirty pages, an interval each, on a terminal as into a pipe.

use std::io::{self, IsTerminal as _};

use super::{
    Failure,
    collect::{self, Unmatched, say},
};
use crate::{
    cli::Dirty,
    pipeline::{self, DirtyWish, LogWish},
    snapshot::Snapshot,
    view::{
        dirty::{
            self, Key, json, select,
            table::{Shown, table},
        },
        select::Filter,
        text::Charset,
    },
};

/// A terminal that does not tell its width has this.
const WIDTH: usize = 80;

pub fn run(options: Dirty) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let shared = collect::options(&options.watch, LogWish::Off);
    let dirty = if options.written { DirtyWish::Written } else { DirtyWish::Names };
    let collected = pipeline::Options { dirty, ..shared };
    let mut printer = Printer::new(options);
    collect::run(collected, facts, |snapshots, _| {
        collect::print_each(snapshots, move |snapshot| Ok(printer.text(snapshot)))
    })
    .map(drop)
}

/// What is to be shown.
struct Printer {
    options: Dirty,
    filter: Filter,
    key: Option<Key>,
    unmatched: Unmatched,
    terminal: bool,
    charset: Charset,
}

impl Printer {
    fn new(options: Dirty) -> Printer {
        let terminal = io::stdout().is_terminal();
        let charset = match terminal {
            _ if options.ascii => Charset::Ascii,
            true => Charset::of_environment(),
            false => Charset::Unicode,
        };
        Printer {
            filter: options.watch.container.clone().unwrap_or_default(),
            key: Key::find(&options.sort),
            unmatched: Unmatched::default(),
            terminal,
            charset,
            options,
        }
    }

    fn text(&mut self, snapshot: &Snapshot) -> String {
        let limit = self.options.watch.rows.map(|rows| rows as usize);
        let json = self.options.watch.json;
        // People are spared the rows that do nothing, unless they ask for them.
        let idle = json || !self.filter.pattern().is_empty();
        let key = self.key.unwrap_or(Key::Name);
        let rows = select(&snapshot.dirty, &self.filter, key, limit, idle);
        self.unmatched.tell(rows.is_empty(), &self.filter);
        if snapshot.sequence == 1 {
            // The opening interval is not printed. What stands still can be told without the probe, so it goes on.
            if let Some(missing) = dirty::missing(snapshot) {
                say(&missing);
            }
            return String::new();
        }
        if json {
            return json::dirty(snapshot, &rows) + "\n";
        }
        let width = self.terminal.then(|| {
            let size = crossterm::terminal::size().map_or(0, |(width, _)| usize::from(width));
            if size == 0 { WIDTH } else { size }
        });
        table(&Shown { snapshot, rows: &rows, width, charset: self.charset }) + "\n"
    }
}
