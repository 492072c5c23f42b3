//! `memtrace oom`: a block or an object a kill; those that the kernel's log still tells of come first.

use std::io::{self, IsTerminal as _};

use super::{
    Failure, Unserved,
    collect::{self, say},
    print,
};
use crate::{
    cli::Oom,
    pipeline::{DirtyWish, LogWish, Options},
    snapshot::Snapshot,
    view::{
        oom::{concerns, json, text},
        select::Filter,
        text::Charset,
    },
};

pub fn run(options: Oom) -> Result<(), Failure> {
    let facts = collect::usable_facts()?;
    let collected = Options { dirty: DirtyWish::Names, ..collect::options(&options.watch, LogWish::Off) };
    let mut printer = Printer::new(options);
    collect::run(collected, facts, |snapshots, _| {
        collect::each(snapshots, move |snapshot| {
            let text = printer.text(snapshot)?;
            print(&text).map_err(|failure| anyhow::anyhow!(failure.message))
        })
    })
    .map(drop)
}

/// What is to be shown.
struct Printer {
    options: Oom,
    filter: Filter,
    charset: Charset,
    /// Number of the last kill that was told.
    told: u64,
    begun: bool,
}

impl Printer {
    fn new(options: Oom) -> Printer {
        let charset = match io::stdout().is_terminal() {
            _ if options.ascii => Charset::Ascii,
            true => Charset::of_environment(),
            false => Charset::Unicode,
        };
        let filter = options.watch.container.clone().unwrap_or_default();
        Printer { options, filter, charset, told: 0, begun: false }
    }

    fn text(&mut self, snapshot: &Snapshot) -> anyhow::Result<String> {
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            let deaf = |name: &str| {
                snapshot.probes.iter().find(|line| {
                    line.strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with(": not attached") || name == "kmsg")
                })
            };
            match (deaf("oom_kill"), deaf("kmsg")) {
                (Some(probe), Some(log)) => {
                    return Err(Unserved(format!("OOM kills cannot be seen: {probe}; {log}")).into());
                }
                (probe, log) => probe.into_iter().chain(log).for_each(|line| say(line)),
            }
        }
        let kills = snapshot.kills.iter().filter(|kill| kill.number > self.told);
        let kills: Vec<_> = kills.filter(|kill| concerns(kill, &self.filter)).collect();
        self.told = snapshot.kills.last().map_or(self.told, |kill| kill.number);
        // Of what was before, the last so many; what happens now is told whole.
        let past = kills.iter().filter(|kill| kill.before_attach).count();
        let skipped = self.options.watch.rows.map_or(0, |rows| past.saturating_sub(rows as usize));
        let mut text = String::new();
        for kill in kills.iter().skip(skipped) {
            match self.options.watch.json {
                true => text += &(json::oom(kill) + "\n"),
                false => text += &text::block(kill, self.charset),
            }
        }
        Ok(text)
    }
}
