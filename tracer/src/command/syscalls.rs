//! `memtrace syscalls`: plain blocks or NDJSON of system calls, an interval each, on a terminal as into a pipe.

use std::io::{self, IsTerminal as _};

use super::{
    Failure, Unserved,
    collect::{self, Unmatched},
};
use crate::{
    cli::Syscalls,
    pipeline::{self, CallWish, Callers, LogWish},
    snapshot::Snapshot,
    view::{
        select::Filter,
        syscalls::{
            self, Key, json, select,
            table::{Table, table},
        },
        text::Charset,
    },
};

/// A terminal that does not tell its width has this.
const WIDTH: usize = 80;
/// Calls of each container that are shown where nobody chose one.
const CALLS: usize = 8;

pub fn run(options: Syscalls) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let shared = collect::options(&options.watch, LogWish::Off);
    let callers = options.watch.container.clone().map_or(Callers::Every, Callers::Pattern);
    let collected = pipeline::Options { calls: CallWish::Of(callers), ..shared };
    let mut printer = Printer::new(options);
    collect::run(collected, facts, |snapshots, _| {
        collect::print_each(snapshots, move |snapshot| printer.text(snapshot))
    })
    .map(drop)
}

/// What is to be shown.
struct Printer {
    options: Syscalls,
    filter: Filter,
    key: Key,
    unmatched: Unmatched,
    terminal: bool,
    charset: Charset,
}

impl Printer {
    fn new(options: Syscalls) -> Printer {
        let terminal = io::stdout().is_terminal();
        let charset = match terminal {
            _ if options.ascii => Charset::Ascii,
            true => Charset::of_environment(),
            false => Charset::Unicode,
        };
        Printer {
            filter: options.watch.container.clone().unwrap_or_default(),
            key: Key::find(&options.sort).unwrap_or(Key::Name),
            unmatched: Unmatched::default(),
            terminal,
            charset,
            options,
        }
    }

    fn text(&mut self, snapshot: &Snapshot) -> anyhow::Result<String> {
        if let Some(why) = syscalls::missing(snapshot) {
            return Err(Unserved(why).into());
        }
        let Some(report) = snapshot.calls.as_deref() else { return Ok(String::new()) };
        let rows = select(report, &self.filter, self.key, self.options.watch.rows.map(|rows| rows as usize));
        let matched = snapshot.rows.iter().any(|row| self.filter.matches(&row.container));
        self.unmatched.tell(rows.is_empty() && !matched, &self.filter);
        if snapshot.sequence == 1 {
            // The opening interval is not printed.
            return Ok(String::new());
        }
        if self.options.watch.json {
            return Ok(json::syscalls(snapshot, &rows) + "\n");
        }
        let width = self.terminal.then(|| {
            let size = crossterm::terminal::size().map_or(0, |(width, _)| usize::from(width));
            if size == 0 { WIDTH } else { size }
        });
        let calls = if self.filter.pattern().is_empty() { CALLS } else { usize::MAX - 1 };
        let shown = Table { snapshot, rows: &rows, key: self.key, calls, width, charset: self.charset };
        Ok(table(&shown) + "\n")
    }
}
