//! Which streams are logs, which the next step of a log's way, and which neither.

use std::collections::{HashMap, HashSet};

use tracer_ebpf::abi::line::Medium;

use super::{Entry, LogState};
use crate::resolve::{Container, Runtime};

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines of a container, or of another row, that are read elsewhere.
    Log,
    /// Written by a reader of logs.
    Edge,
    /// What a row says to itself, and a person's terminal.
    Internal,
    /// Nothing is known of it that would make it one of these.
    Unknown,
}

impl LogState {
    pub(super) fn kinds(&self) -> HashMap<u64, Kind> {
        // Those that are logs whoever writes them; who reads those is a relay.
        let rooted = |entry: &Entry| {
            entry.owner.as_ref().is_some_and(|owner| owner.role.is_some()) && !self.is_internal(entry)
        };
        let mut relays: HashSet<u32> = self
            .entries
            .values()
            .filter(|entry| rooted(entry))
            .map(|entry| self.reader_of(entry).0)
            .collect();
        relays.remove(&0);
        let mut kinds: HashMap<u64, Kind> = HashMap::new();
        for (key, entry) in &self.entries {
            let kind = match &entry.owner {
                // The note of a terminal's reader.
                _ if entry.now.writer == 0 => Kind::Unknown,
                _ if rooted(entry) => Kind::Log,
                // Also where a daemon and its shims are in one row, as they are in a unit.
                _ if relays.contains(&entry.now.writer) => Kind::Edge,
                _ if self.is_internal(entry) => Kind::Internal,
                Some(owner) if owner.aside => Kind::Unknown,
                Some(_) if self.reader_row(entry).is_some() => Kind::Log,
                _ => Kind::Unknown,
            };
            kinds.insert(*key, kind);
        }
        // Whom a log of the second sort leads to is a relay, too.
        let log = |key: &u64| kinds.get(key) == Some(&Kind::Log);
        let more: HashSet<u32> = self
            .entries
            .iter()
            .filter(|(key, _)| log(key))
            .map(|(_, entry)| self.reader_of(entry).0)
            .filter(|pid| *pid != 0 && !relays.contains(pid))
            .collect();
        let edges: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| more.contains(&entry.now.writer) && !rooted(entry))
            .map(|(key, _)| *key)
            .collect();
        kinds.extend(edges.into_iter().map(|key| (key, Kind::Edge)));
        kinds
    }

    /// Readers of logs: what they write is the next step, also to somebody in their own row.
    pub fn relays(&self) -> HashSet<u32> {
        let logs = self.kinds().into_iter().filter(|(_, kind)| *kind == Kind::Log);
        let readers = logs.filter_map(|(key, _)| Some(self.reader_of(self.entries.get(&key)?).0));
        readers.filter(|pid| *pid != 0).collect()
    }

    fn is_internal(&self, entry: &Entry) -> bool {
        let Some(owner) = &entry.owner else {
            return entry.now.reader != 0 && entry.now.reader_cgroup == entry.now.writer_cgroup;
        };
        let person = entry.now.medium == Medium::Pty as u32 && !is_container(&owner.container);
        person || self.reader_row(entry) == Some(owner.row)
    }
}

pub fn is_container(container: &Container) -> bool {
    !matches!(container.runtime, Runtime::Systemd | Runtime::Cgroup)
}
