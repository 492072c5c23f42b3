//! The full screen of `memtrace top`. Keys and snapshots go into a pure `state`, which is drawn; this file alone
//! waits for anything.
//!
//! - `term` takes the terminal and gives it back; `input` turns keys into actions.
//! - `state` is what the reader chose; `history` what only several snapshots together tell, `trail` how rows went.
//! - `draw` is one screen: `header`, a `tab` with its table and details, `help`; `list` the entries of a table, `page` the
//!   lines of a detail, `trend` a line of blocks, `theme` the colours.

pub mod draw;
pub mod header;
pub mod help;
pub mod history;
pub mod input;
pub mod list;
pub mod page;
pub mod state;
pub mod tab;
pub mod term;
pub mod theme;
pub mod trail;
pub mod trend;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use crate::{
    snapshot::Snapshot,
    view::{
        demand::Demand,
        select::{Filter, Order},
        text::Charset,
        tui::{draw::Screen, input::Keys, state::State, term::Term, theme::Theme},
    },
};

/// How often the time since the start is drawn before the first snapshot; after it nothing is drawn by time.
const ATTACHING_BEAT: Duration = Duration::from_millis(250);

/// What the command line chose.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `-c`: rows that fail it are never shown; the filter typed into the screen comes on top.
    pub filter: Filter,
    pub order: Order,
    /// `-n`.
    pub limit: Option<usize>,
    /// `--ascii`; a locale without UTF-8 has the same effect.
    pub ascii: bool,
    /// Where wishes go.
    pub demands: Option<mpsc::UnboundedSender<Demand>>,
}

/// Shows each snapshot until the reader quits or the sender is gone. Dropping the future restores the terminal.
pub async fn run(
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    options: Options,
) -> anyhow::Result<()> {
    let charset = if options.ascii { Charset::Ascii } else { Charset::of_environment() };
    let theme = Theme::of_environment(charset);
    let mut term = Term::enter().context("taking over the terminal")?;
    let mut keys = Keys::listen().context("starting the thread that reads keys")?;
    let mut state = State::new(options);
    if let Some(first) = snapshots.borrow_and_update().clone() {
        state.update(first);
    }
    let started = Instant::now();
    let mut beat = tokio::time::interval(ATTACHING_BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !state.quit {
        draw_once(&mut term, &mut state, &theme, started.elapsed())?;
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
                if let Some(snapshot) = snapshots.borrow_and_update().clone() {
                    state.update(snapshot);
                }
            }
            event = keys.next() => {
                input::handle(&mut state, event.context("reading the keyboard")?);
                // A burst (a paste, a held key) is drawn once.
                while let Some(event) = keys.waiting() {
                    input::handle(&mut state, event.context("reading the keyboard")?);
                }
            }
            _ = beat.tick(), if state.shown().is_none() => {}
        }
    }
    // Before the terminal is given back, so that no key meant for the shell is taken.
    keys.stop().await;
    Ok(())
}

fn draw_once(term: &mut Term, state: &mut State, theme: &Theme, waited: Duration) -> anyhow::Result<()> {
    let area = term.area().context("asking for the terminal's size")?;
    let drawn = match state.shown() {
        None => term.draw(|frame| draw::attaching(frame, waited)),
        Some(snapshot) => {
            let screen = Screen::new(area, state, &snapshot, theme);
            state.fit(screen.room());
            term.draw(|frame| draw::screen(frame, screen, state, &snapshot, theme))
        }
    };
    drawn.context("writing to the terminal")
}
