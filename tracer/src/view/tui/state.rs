//! What the reader chose and sees: rows, cursor, order, filter, pane. Pure: snapshots and actions in, no
//! terminal, no clock, no drawing.

use std::sync::Arc;

use crate::{
    aggregator::row::Row,
    snapshot::{Loss, Snapshot},
    view::{
        demand::{CHARGES, Demand, SITES},
        select::{self, Filter, Key, Order},
        severity::Level,
        tui::{Options, column, history::History, table, trail::Trails},
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
    pub order: Order,
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
    /// What passes the filters, in order.
    pub rows: Vec<Arc<Row>>,
    /// Index of the chosen row, and the memory cgroup it is followed by. Without one the top row is chosen,
    /// whatever comes there.
    pub cursor: usize,
    followed: Option<u64>,
    /// Of the detail: the row as last seen, also after it is gone.
    pub detail: Option<Arc<Row>>,
    pub offset: usize,
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

    /// Whether the row of the detail is no longer in the picture.
    pub fn detail_is_gone(&self) -> bool {
        let Some(detail) = &self.detail else {
            return false;
        };
        let id = detail.container.cgroup.id;
        !self.shown.iter().any(|shown| shown.rows.iter().any(|row| row.container.cgroup.id == id))
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
    }

    /// Whether each row needs a person; of rows that are the same as before that is known.
    fn weigh(&mut self, before: Option<&Snapshot>, now: &Snapshot) {
        let same = before.filter(|before| {
            before.rows.len() == self.levels.len()
                && before.rows.len() == now.rows.len()
                && before.host.mem_total == now.host.mem_total
                && !self.history.has_kills()
        });
        let levels = now.rows.iter().enumerate().map(|(place, row)| match same {
            Some(before) if Arc::ptr_eq(&before.rows[place], row) => self.levels[place],
            _ => table::severity(row, self, now).map(|severity| severity.level),
        });
        self.levels = levels.collect();
    }

    /// How many rows are of a level, whatever the filter shows.
    pub fn alarms(&self, level: Level) -> usize {
        self.levels.iter().filter(|found| **found == Some(level)).count()
    }

    /// What the screen has room for, before each draw.
    pub fn fit(&mut self, room: Room) {
        self.room = room;
        self.scroll = self.scroll.min(room.lines.saturating_sub(room.page));
        self.offset = self.offset.min(self.rows.len().saturating_sub(room.page));
        if self.cursor < self.offset {
            self.offset = self.cursor;
        } else if room.page > 0 && self.cursor >= self.offset + room.page {
            self.offset = self.cursor + 1 - room.page;
        }
    }

    pub fn apply(&mut self, action: Action) {
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
            Action::Reverse => {
                self.order.reverse = !self.order.reverse;
                self.arrange();
            }
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
                if let (Pane::Detail, Some(detail), Some(demands)) =
                    (self.pane, &self.detail, &self.options.demands)
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

    fn open(&mut self) {
        if self.before_typing.take().is_some() {
            return;
        }
        match (self.pane, self.rows.get(self.cursor)) {
            (Pane::Table, Some(row)) => {
                self.followed = Some(row.container.cgroup.id);
                self.detail = Some(Arc::clone(row));
                self.pane = Pane::Detail;
                self.scroll = 0;
            }
            _ => self.pane = Pane::Table,
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

    fn go(&mut self, by: isize) {
        if self.pane == Pane::Table {
            self.cursor = self.cursor.saturating_add_signed(by).min(self.rows.len().saturating_sub(1));
            self.followed = self.rows.get(self.cursor).map(|row| row.container.cgroup.id);
        } else {
            let last = self.room.lines.saturating_sub(self.room.page);
            self.scroll = self.scroll.saturating_add_signed(by).min(last);
        }
    }

    fn home(&mut self) {
        if self.pane == Pane::Table {
            self.cursor = 0;
            self.followed = None;
        } else {
            self.scroll = 0;
        }
    }

    fn sort(&mut self, by: isize) {
        let words = column::SORTED;
        let now = words.iter().position(|word| *word == self.order.key.word());
        let next = match now {
            Some(now) => (now as isize + by).rem_euclid(words.len() as isize) as usize,
            // Sorted by the command line by what is no column.
            None => 0,
        };
        if let Some(key) = Key::find(words[next]) {
            self.order = Order { key, reverse: false };
            self.arrange();
        }
    }

    fn filter(&mut self, text: String) {
        self.typed = Filter::typed(&text);
        self.arrange();
    }

    /// Chooses and sorts the rows anew; the cursor goes with its row, or stays in its place when that is gone.
    fn arrange(&mut self) {
        let Some(shown) = &self.shown else {
            return;
        };
        let filters = [&self.options.filter, &self.typed];
        let rows = select::select(shown, &filters, self.order, self.options.limit);
        self.rows = rows.into_iter().map(Arc::clone).collect();
        let place = |id: u64| self.rows.iter().position(|row| row.container.cgroup.id == id);
        self.cursor = match self.followed.map(place) {
            None => 0,
            Some(Some(place)) => place,
            Some(None) => self.cursor.min(self.rows.len().saturating_sub(1)),
        };
        if let Some(detail) = &mut self.detail {
            let id = detail.container.cgroup.id;
            // From the whole picture: a filter does not close the detail.
            if let Some(row) = shown.rows.iter().find(|row| row.container.cgroup.id == id) {
                *detail = Arc::clone(row);
            }
        }
    }
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
