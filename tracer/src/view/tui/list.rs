//! Entries of a table in order, and the one that is chosen: it is followed wherever it goes.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Deref,
    sync::Arc,
};

use crate::{
    aggregator::{row::Row, stream::Stream, stuck::StuckTask},
    finding::Open,
};

/// What an entry is followed by.
pub trait Entry {
    fn id(&self) -> u64;
}

impl Entry for Row {
    fn id(&self) -> u64 {
        self.container.cgroup.id
    }
}

impl Entry for Stream {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Entry for StuckTask {
    fn id(&self) -> u64 {
        self.tid.into()
    }
}

impl Entry for Open {
    fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.finding.id.hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Debug, Clone)]
pub struct List<T> {
    entries: Vec<Arc<T>>,
    /// Index of the chosen entry. Without one that is followed it is the top one, whatever comes there.
    pub cursor: usize,
    followed: Option<u64>,
    /// Of the first entry on the screen.
    pub offset: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { entries: Vec::new(), cursor: 0, followed: None, offset: 0 }
    }
}

impl<T> Deref for List<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &[Arc<T>] {
        &self.entries
    }
}

impl<T: Entry> List<T> {
    /// Other entries, or another order; the cursor goes with its entry, or stays in its place when that is gone.
    pub fn set(&mut self, entries: Vec<Arc<T>>) {
        self.entries = entries;
        self.cursor = match self.followed.map(|id| self.iter().position(|entry| entry.id() == id)) {
            None => 0,
            Some(Some(place)) => place,
            Some(None) => self.cursor.min(self.last()),
        };
    }

    pub fn go(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by).min(self.last());
        self.followed = self.chosen().map(|entry| entry.id());
    }

    /// To the top, and lets go of what was followed.
    pub fn home(&mut self) {
        self.cursor = 0;
        self.followed = None;
    }

    /// The chosen entry, followed from now on.
    pub fn open(&mut self) -> Option<Arc<T>> {
        self.go(0);
        self.chosen().cloned()
    }

    /// Scrolls so far that the cursor is on the screen.
    pub fn fit(&mut self, page: usize) {
        self.offset = self.offset.min(self.len().saturating_sub(page));
        if self.cursor < self.offset {
            self.offset = self.cursor;
        } else if page > 0 && self.cursor >= self.offset + page {
            self.offset = self.cursor + 1 - page;
        }
    }

    fn chosen(&self) -> Option<&Arc<T>> {
        self.get(self.cursor)
    }

    fn last(&self) -> usize {
        self.len().saturating_sub(1)
    }
}
