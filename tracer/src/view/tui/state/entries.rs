//! What depends on the tab: its entries, which of them are chosen, how they are sorted and moved through.

use std::sync::Arc;

use super::{Pane, State};
use crate::{
    aggregator::stream::Stream,
    finding::Open,
    resolve::Container,
    view::{
        lines,
        select::{self, Key, Order},
        severity::{self, Level},
        stuck, syscalls,
        tui::{
            list::Entry,
            tab::{self, Tab, calls, logs, memory::column},
        },
    },
};

impl State {
    /// Whether the filters let it be seen.
    pub fn passes(&self, container: &Container) -> bool {
        [&self.options.filter, &self.typed].iter().all(|filter| filter.matches(container))
    }

    /// Whether the entry of the detail is no longer in the picture.
    pub fn detail_is_gone(&self) -> bool {
        let Some(shown) = self.shown.as_deref() else { return false };
        match self.tab {
            Tab::Memory | Tab::Calls => {
                self.detail.as_ref().is_some_and(|row| again(&shown.rows, row).is_none())
            }
            Tab::Logs => self.stream.as_ref().is_some_and(|stream| {
                shown.logs.as_ref().is_none_or(|logs| again(&logs.streams, stream).is_none())
            }),
            Tab::Stuck => self.task.as_ref().is_some_and(|task| {
                shown.stuck.as_ref().is_none_or(|report| again(&report.tasks, task).is_none())
            }),
            Tab::Findings => {
                self.finding.as_ref().is_some_and(|finding| again(&shown.findings, finding).is_none())
            }
        }
    }

    /// How many entries are of a level, whatever the filter shows.
    pub fn alarms(&self, level: Level) -> usize {
        let Some(shown) = self.shown.as_deref() else { return 0 };
        match self.tab {
            Tab::Memory | Tab::Calls => self.levels.iter().filter(|found| **found == Some(level)).count(),
            Tab::Logs => shown.logs.as_deref().map_or(0, |logs| {
                let severity = |stream: &Stream| severity::stream(stream, lines::reader(logs, stream));
                let found = logs.streams.iter().filter_map(|stream| severity(stream));
                found.filter(|severity| severity.level == level).count()
            }),
            Tab::Stuck => shown.stuck.as_deref().map_or(0, |report| {
                let found = report.tasks.iter().filter_map(|task| severity::task(task));
                found.filter(|severity| severity.level == level).count()
            }),
            Tab::Findings => {
                let found = shown.findings.iter().map(|finding| severity::of_finding(finding.severity));
                found.filter(|found| *found == Some(level)).count()
            }
        }
    }

    pub(super) fn open(&mut self) {
        if self.before_typing.take().is_some() {
            return;
        }
        if self.pane != Pane::Table {
            self.pane = Pane::Table;
            return;
        }
        let opened = match self.tab {
            Tab::Memory => {
                self.detail = self.rows.open();
                self.detail.is_some()
            }
            Tab::Logs => {
                self.stream = self.streams.open();
                self.stream.is_some()
            }
            // Everything known of them is in the table.
            Tab::Calls => false,
            Tab::Stuck => {
                self.task = self.tasks.open();
                self.task.is_some()
            }
            Tab::Findings => {
                self.finding = self.findings.open();
                self.finding.is_some()
            }
        };
        if opened {
            self.pane = Pane::Detail;
            self.scroll = 0;
        }
    }

    pub(super) fn go(&mut self, by: isize) {
        match (self.pane, self.tab) {
            (Pane::Table, Tab::Memory) => self.rows.go(by),
            (Pane::Table, Tab::Logs) => self.streams.go(by),
            (Pane::Table, Tab::Stuck) => self.tasks.go(by),
            (Pane::Table, Tab::Findings) => self.findings.go(by),
            (Pane::Table, Tab::Calls) if by.abs() == 1 => {
                self.rows.go(by);
                self.scroll = 0;
            }
            (Pane::Table, Tab::Calls) => {
                let all = self.shown.as_ref().map_or(0, |shown| calls::count(self, shown));
                let last = (all + calls::HEAD).saturating_sub(self.room.page + 1);
                self.scroll = self.scroll.saturating_add_signed(by).min(last);
            }
            (Pane::Detail | Pane::Help, _) => {
                let last = self.room.lines.saturating_sub(self.room.page);
                self.scroll = self.scroll.saturating_add_signed(by).min(last);
            }
        }
    }

    pub(super) fn home(&mut self) {
        match (self.pane, self.tab) {
            (Pane::Table, Tab::Memory) => self.rows.home(),
            (Pane::Table, Tab::Logs) => self.streams.home(),
            (Pane::Table, Tab::Stuck) => self.tasks.home(),
            (Pane::Table, Tab::Findings) => self.findings.home(),
            (Pane::Table, Tab::Calls) | (Pane::Detail | Pane::Help, _) => self.scroll = 0,
        }
    }

    pub(super) fn sort(&mut self, by: isize) {
        match self.tab {
            Tab::Memory => {
                if let Some(key) = Key::find(turned(column::SORTED, self.order.key.word(), by)) {
                    self.order = Order { key, reverse: false };
                }
            }
            Tab::Logs => {
                let word = turned(logs::SORTED, self.stream_order.key.word(), by);
                if let Some(key) = lines::select::Key::find(word) {
                    self.stream_order = lines::select::Order { key, reverse: false };
                }
            }
            Tab::Calls => {
                let word = turned(calls::SORTED, self.call_order.key.word(), by);
                if let Some(key) = syscalls::Key::find(word) {
                    self.call_order = calls::Order { key, reverse: false };
                }
            }
            Tab::Stuck => {
                let key = stuck::Sort::find(turned(stuck::SORTS, self.stuck_order.key.word(), by));
                self.stuck_order = tab::stuck::Order { key, reverse: false };
            }
            // Worst first, always.
            Tab::Findings => {}
        }
        self.arrange();
    }

    pub(super) fn reverse(&mut self) {
        let reverse = match self.tab {
            Tab::Memory => &mut self.order.reverse,
            Tab::Logs => &mut self.stream_order.reverse,
            Tab::Calls => &mut self.call_order.reverse,
            Tab::Stuck => &mut self.stuck_order.reverse,
            Tab::Findings => return,
        };
        *reverse = !*reverse;
        self.arrange();
    }

    /// Chooses and sorts the tab's entries anew.
    pub(super) fn arrange(&mut self) {
        let Some(shown) = &self.shown else {
            return;
        };
        let (filters, limit) = ([&self.options.filter, &self.typed], self.options.limit);
        match self.tab {
            Tab::Memory | Tab::Calls => {
                let rows = select::select(shown, &filters, self.order, limit);
                self.rows.set(rows.into_iter().map(Arc::clone).collect());
            }
            Tab::Logs => {
                let streams = shown.logs.as_deref().map_or_else(Vec::new, |logs| {
                    let streams = lines::select::select(logs, &filters, self.stream_order, limit);
                    streams.into_iter().map(Arc::clone).collect()
                });
                self.streams.set(streams);
            }
            Tab::Stuck => {
                let tasks = shown.stuck.as_deref().map_or_else(Vec::new, |report| {
                    let mut tasks = stuck::select(report, filters[0], self.stuck_order.key, None).tasks;
                    tasks.retain(|task| filters[1].matches(&task.container));
                    if self.stuck_order.reverse {
                        tasks.reverse();
                    }
                    tasks.truncate(limit.unwrap_or(usize::MAX));
                    tasks.into_iter().map(Arc::clone).collect()
                });
                self.tasks.set(tasks);
            }
            Tab::Findings => {
                let passes = |open: &&Arc<Open>| {
                    open.container.as_ref().is_none_or(|container| self.passes(container))
                };
                let findings = shown.findings.iter().filter(passes).take(limit.unwrap_or(usize::MAX));
                let findings = findings.cloned().collect();
                self.findings.set(findings);
            }
        }
        // From the whole picture: a filter does not close the detail.
        if let Some(row) = self.detail.as_ref().and_then(|row| again(&shown.rows, row)) {
            self.detail = Some(row);
        }
        let streams = shown.logs.as_ref().map_or(&[][..], |logs| &logs.streams);
        if let Some(stream) = self.stream.as_ref().and_then(|stream| again(streams, stream)) {
            self.stream = Some(stream);
        }
        if let Some(finding) = self.finding.as_ref().and_then(|finding| again(&shown.findings, finding)) {
            self.finding = Some(finding);
        }
        let tasks = shown.stuck.as_ref().map_or(&[][..], |report| &report.tasks);
        if let Some(task) = self.task.as_ref().and_then(|task| again(tasks, task)) {
            self.task = Some(task);
        }
    }
}

/// The same entry in another picture.
fn again<T: Entry>(entries: &[Arc<T>], entry: &T) -> Option<Arc<T>> {
    entries.iter().find(|other| other.id() == entry.id()).cloned()
}

/// The word so many places on; the first where it was none of them, as one that the command line chose.
fn turned(words: &'static [&'static str], word: &str, by: isize) -> &'static str {
    let now = words.iter().position(|known| *known == word);
    words[now.map_or(0, |now| (now as isize + by).rem_euclid(words.len() as isize) as usize)]
}
