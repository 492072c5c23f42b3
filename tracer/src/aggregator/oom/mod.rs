//! OOM kills: what the probe says of one joined with what the kernel's log says of it, with what its container held, how
//! that grew and who did it. Time is an argument here too.
//!
//! - `kill` is what is told of one; `join` finds the two ends of it; `history` keeps the last minute of rows that grow;
//!   `cause` puts it into a sentence.

mod cause;
pub mod history;
mod join;
mod kill;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

pub use self::{
    join::{Joined, Joiner, Seen},
    kill::{Composition, Dirtier, Grown, Holder, InRow, Kill, LimitCgroup, Source, Trigger, Victim},
};
use crate::resolve::{Container, label::label};

/// Kills that are kept to be shown.
const KEPT: usize = 256;
/// Containers whose kills are counted.
const COUNTED: usize = 4096;

/// Kills so far.
#[derive(Default)]
pub struct Kills {
    kept: VecDeque<Arc<Kill>>,
    shared: Arc<[Arc<Kill>]>,
    told: u64,
    rows: HashMap<String, InRow>,
}

impl Kills {
    /// Numbers it, counts it for its container, and puts it into words.
    pub fn add(&mut self, mut kill: Kill) {
        self.told += 1;
        kill.number = self.told;
        kill.in_row = kill.container.as_deref().and_then(|container| self.count(container, kill.at));
        kill.cause = cause::cause(&kill);
        self.kept.push_back(Arc::new(kill));
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        self.shared = self.kept.iter().cloned().collect();
    }

    /// By name, where there is one: a container that is killed and started anew has another id each time.
    fn count(&mut self, container: &Container, at: SystemTime) -> Option<InRow> {
        let name = label(container);
        if !self.rows.contains_key(&name) && self.rows.len() >= COUNTED {
            return None;
        }
        let row = self.rows.entry(name).or_insert(InRow { count: 0, since: at });
        row.count += 1;
        row.since = row.since.min(at);
        Some(*row)
    }

    /// All that are kept, oldest first.
    pub fn shared(&self) -> Arc<[Arc<Kill>]> {
        Arc::clone(&self.shared)
    }
}
