//! Signals that end a process: reads the kernel's counts, asks who of the senders is still there, and hands both to the
//! state. An entry of the map goes with its sender, so that retries by programs started anew do not fill it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tracer_ebpf::abi::signal::{Kin, SignalKey};

use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::signal::{Author, Signals, State, Target},
    event::procfs,
    resolve::stream::{birth, memory_cgroup},
};

/// What is known of the targets of senders.
#[derive(Default)]
pub struct SignalWatch {
    state: State,
    /// Where the kernel told of a thread only: whose it is, and the row.
    threads: HashMap<u32, (Target, Option<u64>)>,
}

impl SignalWatch {
    /// What was sent so far; `None` without the probe.
    pub fn tick(&mut self, probes: &mut Probes, rows: &Rows, at: Duration) -> Option<Arc<Signals>> {
        let map = probes.signals.as_mut()?;
        let mut gone = Vec::new();
        for key in map.keys() {
            let Some(seen) = map.count(&key) else { continue };
            let sender = seen.chain[0];
            let by_process = key.sender != 0;
            let left = by_process && !lives(&sender);
            // One that is gone sends no more: what is read from now on is all.
            let Some(seen) = (if left { map.count(&key) } else { Some(seen) }) else { continue };
            let Some((target, row)) = self.target(&key, rows, seen.cgroup) else { continue };
            let chain: &[Kin] = if by_process { &seen.chain } else { &[] };
            let author = Author::of(chain, seen.first, lives);
            let last = left || birth(target.pid).is_none_or(|birth| birth.start != target.start);
            self.state.note(target, row, key, author, seen.count, last);
            if last {
                map.remove(&key);
                self.threads.remove(&key.target);
                gone.push(target);
            }
        }
        gone.extend(self.state.living());
        for target in gone {
            if birth(target.pid).is_none_or(|birth| birth.start != target.start) {
                self.state.ended(target, at);
            }
        }
        Some(Arc::new(self.state.tick(at)))
    }

    /// Whom it was for, and the row that one is in.
    fn target(&mut self, key: &SignalKey, rows: &Rows, cgroup: u64) -> Option<(Target, Option<u64>)> {
        if key.of_thread == 0 {
            let target = Target { pid: key.target, start: procfs::ticks(key.target_start) };
            return Some((target, rows.row_of(cgroup)));
        }
        if let Some(known) = self.threads.get(&key.target) {
            return Some(*known);
        }
        let pid = procfs::thread_group(key.target).unwrap_or(key.target);
        let start = birth(pid).map_or(0, |birth| birth.start);
        let path = memory_cgroup(key.target);
        let cgroup = path.and_then(|path| rows.tree.nodes().find(|(_, node)| node.path == path));
        let known = (Target { pid, start }, cgroup.and_then(|(id, _)| rows.row_of(id)));
        self.threads.insert(key.target, known);
        Some(known)
    }
}

/// Whether it is the very process that was seen.
fn lives(kin: &Kin) -> bool {
    birth(kin.pid).is_some_and(|birth| kin.start == 0 || birth.start == procfs::ticks(kin.start))
}
