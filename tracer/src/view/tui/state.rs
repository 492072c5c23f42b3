//! What the reader chose and sees: rows, cursor, order, filter, pane. Pure: snapshots and actions in, no
//! terminal, no clock, no drawing.

mod entries;

use std::sync::Arc;

use crate::{
    aggregator::{row::Row, stream::Stream, stuck::StuckTask},
    finding::{Open, Severity},
    snapshot::{Loss, Snapshot},
    view::{
        demand::{CHARGES, Demand, SITES},
        lines,
        select::{Filter, Order},
        severity::Level,
        tui::{
            Options,
            history::History,
            list::List,
            tab::{Tab, calls, memory, stuck},
            trail::Trails,
        },
    },
};

/// What a key can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Back,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Open,
    SortNext,
    SortPrevious,
    Reverse,
    Filter,
    Pause,
    CountCharges,
    FollowSites,
    Help,
    NextTab,
    Show(Tab),
    Type(char),
    Erase,
    EraseAll,
}

/// What stands below the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    #[default]
    Table,
    Detail,
    Help,
}

/// How much the screen has room for; only a draw knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Lines below the header.
    pub page: usize,
    /// Lines that the open pane has to show in them.
    pub lines: usize,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    options: Options,
    pub tab: Tab,
    pub order: Order,
    pub stream_order: lines::select::Order,
    pub call_order: calls::Order,
    pub stuck_order: stuck::Order,
    /// The row whose system calls were asked for.
    counted: Option<u64>,
    /// Typed into the screen, on top of the command line's.
    pub typed: Filter,
    /// While typing: the filter to go back to.
    before_typing: Option<Filter>,
    pub pane: Pane,
    pub quit: bool,
    pub paused: bool,
    shown: Option<Arc<Snapshot>>,
    latest: Option<Arc<Snapshot>>,
    pub history: History,
    /// How each row of the picture stands, in its order.
    levels: Vec<Option<Level>>,
    trails: Trails,
    /// While paused: the ways as they were then.
    paused_trails: Option<Trails>,
    /// What passes the filters, in order; only those of the tab are up to date.
    pub rows: List<Row>,
    pub streams: List<Stream>,
    pub tasks: List<StuckTask>,
    pub findings: List<Open>,
    /// Of the detail: the row as last seen, also after it is gone.
    pub detail: Option<Arc<Row>>,
    /// The same of the tab of log lines.
    pub stream: Option<Arc<Stream>>,
    /// The same of the tab of stuck tasks.
    pub task: Option<Arc<StuckTask>>,
    /// The same of the tab of findings.
    pub finding: Option<Arc<Open>>,
    pub scroll: usize,
    room: Room,
}

impl State {
    pub fn new(options: Options) -> State {
        State { order: options.order, options, ..State::default() }
    }

    /// The picture; when paused not the latest.
    pub fn shown(&self) -> Option<Arc<Snapshot>> {
        self.shown.clone()
    }

    /// Losses are told at once, paused or not.
    pub fn lost_events(&self) -> u64 {
        self.latest.as_ref().map_or(0, |snapshot| snapshot.host.lost_events)
    }

    pub fn losses(&self) -> &[Loss] {
        self.latest.as_ref().map_or(&[], |snapshot| &snapshot.host.losses)
    }

    /// The command line's pattern.
    pub fn pattern(&self) -> &str {
        self.options.filter.pattern()
    }

    pub fn is_typing(&self) -> bool {
        self.before_typing.is_some()
    }

    /// How each row went until the picture shown.
    pub fn trails(&self) -> &Trails {
        self.paused_trails.as_ref().unwrap_or(&self.trails)
    }

    pub fn update(&mut self, snapshot: Arc<Snapshot>) {
        let changed = changed(self.latest.as_deref(), &snapshot);
        self.history.add(&snapshot, &changed);
        if self.latest.as_ref().is_none_or(|latest| latest.rows.len() != snapshot.rows.len()) {
            self.history.retain(&snapshot);
        }
        self.trails.add(&snapshot, &changed, self.detail.as_ref().map(|row| row.container.cgroup.id));
        if !self.paused || self.shown.is_none() {
            let before = self.shown.replace(Arc::clone(&snapshot));
            self.weigh(before.as_deref(), &snapshot);
        }
        self.latest = Some(snapshot);
        if !self.paused {
            self.arrange();
        }
        self.count_calls();
    }

    /// Whether each row needs a person; of rows that are the same as before that is known.
    fn weigh(&mut self, before: Option<&Snapshot>, now: &Snapshot) {
        let same = before.filter(|before| {
            before.rows.len() == self.levels.len()
                && before.rows.len() == now.rows.len()
                && before.host.mem_total == now.host.mem_total
                && about(before).eq(about(now))
                && !self.history.has_kills()
        });
        let levels = now.rows.iter().enumerate().map(|(place, row)| match same {
            Some(before) if Arc::ptr_eq(&before.rows[place], row) => self.levels[place],
            _ => memory::severity(row, self, now).map(|severity| severity.level),
        });
        self.levels = levels.collect();
    }

    /// What the screen has room for, before each draw.
    pub fn fit(&mut self, room: Room) {
        self.room = room;
        if self.pane != Pane::Table {
            self.scroll = self.scroll.min(room.lines.saturating_sub(room.page));
        }
        self.rows.fit(room.page);
        self.streams.fit(room.page);
        self.tasks.fit(room.page);
        self.findings.fit(room.page);
    }

    pub fn apply(&mut self, action: Action) {
        self.act(action);
        self.count_calls();
    }

    /// Asks for the system calls of the row that is shown with them, and for none any more when it is not.
    fn count_calls(&mut self) {
        let shown = self.tab == Tab::Calls && !self.quit;
        let wanted = self.rows.get(self.rows.cursor).filter(|_| shown).map(|row| row.container.cgroup.id);
        if wanted != self.counted {
            self.counted = wanted;
            if let Some(demands) = &self.options.demands {
                let _ = demands.send(Demand::Calls(wanted));
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Quit => self.quit = true,
            Action::Back => self.back(),
            Action::Up => self.go(-1),
            Action::Down => self.go(1),
            Action::PageUp => self.go(-self.page()),
            Action::PageDown => self.go(self.page()),
            Action::Home => self.home(),
            Action::End => self.go(isize::MAX),
            Action::Open => self.open(),
            Action::SortNext => self.sort(1),
            Action::SortPrevious => self.sort(-1),
            Action::Reverse => self.reverse(),
            Action::NextTab => self.show(self.tab.next()),
            Action::Show(tab) => self.show(tab),
            Action::Filter => {
                self.pane = Pane::Table;
                self.before_typing = Some(self.typed.clone());
            }
            Action::Pause => self.pause(),
            Action::CountCharges => {
                if let Some(demands) = &self.options.demands {
                    // A run that ends meanwhile has nothing left to count.
                    let _ = demands.send(Demand::Charges(CHARGES));
                }
            }
            Action::FollowSites => {
                if let (Tab::Memory, Pane::Detail, Some(detail), Some(demands)) =
                    (self.tab, self.pane, &self.detail, &self.options.demands)
                {
                    let _ = demands.send(Demand::Sites(detail.container.cgroup.id, SITES));
                }
            }
            Action::Help => {
                self.pane = if self.pane == Pane::Help { Pane::Table } else { Pane::Help };
                self.scroll = 0;
            }
            Action::Type(c) => self.filter(format!("{}{c}", self.typed.pattern())),
            Action::Erase => {
                let mut text = self.typed.pattern().to_owned();
                text.pop();
                self.filter(text);
            }
            Action::EraseAll => self.filter(String::new()),
        }
    }

    fn back(&mut self) {
        if let Some(before) = self.before_typing.take() {
            self.typed = before;
            self.arrange();
        } else if self.pane != Pane::Table {
            self.pane = Pane::Table;
        } else if !self.typed.pattern().is_empty() {
            self.filter(String::new());
        } else {
            self.quit = true;
        }
    }

    fn show(&mut self, tab: Tab) {
        self.tab = tab;
        self.pane = Pane::Table;
        self.arrange();
        if tab == Tab::Calls {
            // The row stays the same one, however the others move.
            self.rows.go(0);
            self.scroll = 0;
        }
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        self.paused_trails = self.paused.then(|| self.trails.clone());
        if !self.paused {
            self.shown = self.latest.clone();
            if let Some(shown) = self.shown.clone() {
                self.weigh(None, &shown);
            }
            self.arrange();
        }
    }

    fn page(&self) -> isize {
        self.room.page.saturating_sub(1).max(1) as isize
    }

    fn filter(&mut self, text: String) {
        self.typed = Filter::typed(&text);
        self.arrange();
    }
}

/// Which rows findings are about, and how bad they are.
fn about(snapshot: &Snapshot) -> impl Iterator<Item = (Option<u64>, Severity)> {
    let row = |open: &Open| open.container.as_ref().map(|container| container.cgroup.id);
    snapshot.findings.iter().map(move |open| (row(open), open.severity))
}

/// The rows that are not the same as before: those at rest are.
fn changed(before: Option<&Snapshot>, now: &Snapshot) -> Vec<Arc<Row>> {
    match before {
        Some(before) if before.rows.len() == now.rows.len() => {
            let pairs = before.rows.iter().zip(&now.rows);
            pairs.filter(|(before, now)| !Arc::ptr_eq(before, now)).map(|(_, now)| Arc::clone(now)).collect()
        }
        _ => now.rows.clone(),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
