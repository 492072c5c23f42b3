//! Signals that end a process, by their target: how many since attach, whatever became of them, and who keeps trying.
//!
//! A sender that is gone is put down to its nearest ancestor that stays, and stands beside it; so retries by a program that
//! is started anew for each are one killer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;
use tracer_ebpf::abi::signal::{Kin, SignalKey};

use crate::event::signals::comm;

/// The same on every architecture.
pub const SIGKILL: u32 = 9;

/// Who sent how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Killer {
    /// 0: the kernel itself.
    pub pid: u32,
    pub comm: Arc<str>,
    pub count: u64,
    /// The sender, where that was a short-lived one of its descendants.
    pub via: Vec<Arc<str>>,
}

/// What was sent to one thread group since attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signalled {
    pub pid: u32,
    /// The row that it is in.
    pub row: Option<u64>,
    /// SIGKILLs, and SIGTERMs.
    pub kills: u64,
    pub terms: u64,
    /// Of the SIGKILLs, those of most first.
    pub killers: Vec<Killer>,
    /// It has ended.
    pub gone: bool,
}

/// All that were signalled, those of most SIGKILLs first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signals {
    pub targets: Vec<Signalled>,
}

impl Signals {
    /// What was sent to the process that bears this number now.
    pub fn of(&self, pid: u32) -> Option<&Signalled> {
        self.targets.iter().find(|target| target.pid == pid && !target.gone)
    }
}

/// A thread group: its number and when it began, in clock ticks after boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub pid: u32,
    pub start: u64,
}

/// Whom signals are put down to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Author {
    pub pid: u32,
    pub comm: Arc<str>,
    pub via: Option<Arc<str>>,
}

impl Author {
    /// Of a sender with its ancestors. `lives`: whether such a one is still there; `first`: when it sent the first, boot
    /// time in ns.
    pub fn of(chain: &[Kin], first: u64, lives: impl Fn(&Kin) -> bool) -> Author {
        let known = chain.iter().take_while(|kin| kin.pid != 0).count();
        let Some(sender) = chain[..known].first() else {
            return Author { pid: 0, comm: Arc::from("kernel"), via: None };
        };
        let name = |kin: &Kin| Arc::from(comm(kin));
        let alone = Author { pid: sender.pid, comm: name(sender), via: None };
        if lives(sender) {
            return alone;
        }
        let above: Vec<&Kin> = chain[1..known].iter().filter(|kin| lives(kin)).collect();
        // A script that was started for the try is gone soon, too.
        let old = |kin: &&&Kin| kin.pid != 1 && kin.start.saturating_add(YOUNG) <= first;
        let found = above.iter().find(old).or_else(|| above.iter().find(|kin| kin.pid != 1));
        match found.or(above.first()) {
            Some(kin) => Author { pid: kin.pid, comm: name(kin), via: Some(name(sender)) },
            None => alone,
        }
    }
}

/// A process that is younger than this, in ns, may be one of those that are started for each try.
const YOUNG: u64 = 3_000_000_000;
/// Targets that are kept, and authors of each that have ended.
const TARGETS: usize = 4096;
const AUTHORS: usize = 64;
/// One that has ended is told of for so long.
const AFTERWARDS: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Kept {
    row: Option<u64>,
    /// Senders that may send more: their totals.
    open: HashMap<SignalKey, (Author, u64)>,
    /// Those that are gone: by signal.
    closed: HashMap<(u32, Author), u64>,
    gone: Option<Duration>,
}

/// The state.
#[derive(Default)]
pub struct State {
    targets: HashMap<Target, Kept>,
}

impl State {
    /// What one sender sent to a target in all; `last`: there will be no more.
    pub fn note(
        &mut self,
        target: Target,
        row: Option<u64>,
        key: SignalKey,
        author: Author,
        count: u64,
        last: bool,
    ) {
        if self.targets.len() >= TARGETS && !self.targets.contains_key(&target) {
            self.make_room();
        }
        let kept = self.targets.entry(target).or_default();
        kept.row = row.or(kept.row);
        if !last {
            kept.open.insert(key, (author, count));
            return;
        }
        kept.open.remove(&key);
        let mut place = (key.signal, author);
        if kept.closed.len() >= AUTHORS && !kept.closed.contains_key(&place) {
            place.1 = Author { pid: place.1.pid, comm: Arc::from("others"), via: None };
        }
        *kept.closed.entry(place).or_default() += count;
    }

    /// The targets that are not known to have ended.
    pub fn living(&self) -> Vec<Target> {
        self.targets.iter().filter(|(_, kept)| kept.gone.is_none()).map(|(target, _)| *target).collect()
    }

    pub fn ended(&mut self, target: Target, at: Duration) {
        if let Some(kept) = self.targets.get_mut(&target) {
            kept.gone.get_or_insert(at);
        }
    }

    /// A quarter goes at once: those that have ended, then those that were sent the least.
    fn make_room(&mut self) {
        let mut order: Vec<(bool, u64, Target)> = self
            .targets
            .iter()
            .map(|(target, kept)| (kept.gone.is_none(), kept.total(SIGKILL), *target))
            .collect();
        order.sort_unstable();
        for (.., target) in order.into_iter().take(TARGETS / 4) {
            self.targets.remove(&target);
        }
    }

    pub fn tick(&mut self, at: Duration) -> Signals {
        self.targets.retain(|_, kept| kept.gone.is_none_or(|gone| at.saturating_sub(gone) < AFTERWARDS));
        let mut targets: Vec<Signalled> =
            self.targets.iter().map(|(target, kept)| kept.tell(target.pid)).collect();
        targets.sort_by(|a, b| b.kills.cmp(&a.kills).then(a.pid.cmp(&b.pid)));
        Signals { targets }
    }
}

impl Kept {
    fn all(&self) -> impl Iterator<Item = (u32, &Author, u64)> {
        let open = self.open.iter().map(|(key, (author, count))| (key.signal, author, *count));
        open.chain(self.closed.iter().map(|((signal, author), count)| (*signal, author, *count)))
    }

    fn total(&self, wanted: u32) -> u64 {
        self.all().filter(|(signal, ..)| *signal == wanted).map(|(.., count)| count).sum()
    }

    fn tell(&self, pid: u32) -> Signalled {
        let mut by: HashMap<&Author, u64> = HashMap::new();
        for (_, author, count) in self.all().filter(|(signal, ..)| *signal == SIGKILL) {
            *by.entry(author).or_default() += count;
        }
        let killer = |(author, count): (&Author, u64)| Killer {
            pid: author.pid,
            comm: Arc::clone(&author.comm),
            count,
            via: author.via.iter().cloned().collect(),
        };
        let mut killers: Vec<Killer> = by.into_iter().map(killer).collect();
        killers.sort_by(|a, b| (b.count, a.pid, &a.via).cmp(&(a.count, b.pid, &b.via)));
        let kills = killers.iter().map(|killer| killer.count).sum();
        let terms = self.all().map(|(.., count)| count).sum::<u64>() - kills;
        Signalled { pid, row: self.row, kills, terms, killers, gone: self.gone.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn kin(pid: u32, name: &str, start: u64) -> Kin {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        Kin { start: start * SECOND, pid, comm, pad: 0 }
    }

    fn named(pid: u32, comm: &str, via: Option<&str>) -> Author {
        Author { pid, comm: Arc::from(comm), via: via.map(Arc::from) }
    }

    #[test]
    fn a_sender_that_is_gone_is_its_nearest_ancestor_that_stays() {
        let chain = [
            kin(50, "runc", 100),
            kin(49, "sh", 99),
            kin(40, "shim", 10),
            kin(1, "init", 0),
            Kin::default(),
            Kin::default(),
        ];
        let at = 100 * SECOND;
        assert_eq!(Author::of(&chain, at, |_| true), named(50, "runc", None), "it lives");
        let gone = |pids: &'static [u32]| move |kin: &Kin| !pids.contains(&kin.pid);
        assert_eq!(Author::of(&chain, at, gone(&[50])), named(40, "shim", Some("runc")), "sh is as young");
        assert_eq!(
            Author::of(&chain, at, gone(&[50, 40])),
            named(49, "sh", Some("runc")),
            "better than init"
        );
        assert_eq!(Author::of(&chain, at, gone(&[50, 49, 40])), named(1, "init", Some("runc")));
        assert_eq!(Author::of(&chain, at, |_| false), named(50, "runc", None));
        assert_eq!(Author::of(&[Kin::default()], at, |_| true), named(0, "kernel", None));
    }

    fn key(sender: u32, signal: u32) -> SignalKey {
        SignalKey { target_start: 0, target: 7, of_thread: 0, sender, signal }
    }

    #[test]
    fn retries_by_programs_started_anew_are_one_killer_and_none_is_counted_twice() {
        let mut state = State::default();
        let target = Target { pid: 7, start: 1 };
        let runc = || named(40, "shim", Some("runc"));
        for sender in 50..60 {
            // Seen while it lived, then gone.
            state.note(target, Some(3), key(sender, SIGKILL), named(sender, "runc", None), 1, false);
            state.note(target, None, key(sender, SIGKILL), runc(), 2, true);
        }
        state.note(target, None, key(30, SIGKILL), named(30, "dockerd", None), 4, false);
        state.note(target, None, key(30, SIGKILL), named(30, "dockerd", None), 5, false);
        state.note(target, None, key(30, 15), named(30, "dockerd", None), 9, false);
        let told = state.tick(Duration::from_secs(1));
        let of = told.of(7).expect("it was signalled");
        assert_eq!((of.row, of.kills, of.terms), (Some(3), 25, 9));
        let shim = Killer { pid: 40, comm: "shim".into(), count: 20, via: vec!["runc".into()] };
        let dockerd = Killer { pid: 30, comm: "dockerd".into(), count: 5, via: vec![] };
        assert_eq!(of.killers, [shim, dockerd]);
        state.ended(target, Duration::from_secs(2));
        assert!(state.tick(Duration::from_secs(3)).of(7).is_none(), "its number may be another's");
        assert!(state.tick(Duration::from_secs(90)).targets.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let mut state = State::default();
        for pid in 0..2 * TARGETS as u32 {
            let target = Target { pid, start: 1 };
            for sender in 0..2 {
                state.note(target, None, key(sender, SIGKILL), named(sender, "x", None), 1, true);
            }
        }
        let target = Target { pid: u32::MAX, start: 1 };
        for sender in 0..1000 {
            state.note(
                target,
                None,
                key(sender, SIGKILL),
                named(1000, "x", Some(&sender.to_string())),
                1,
                true,
            );
        }
        let told = state.tick(Duration::ZERO);
        assert!(told.targets.len() <= TARGETS);
        let of = &told.targets[0];
        assert_eq!((of.pid, of.kills), (u32::MAX, 1000), "none is lost");
        assert!(of.killers.len() <= AUTHORS + 1);
    }
}
