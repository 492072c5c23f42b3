//! OOM kills: takes the probe's marks and the kernel's log, finds out about both who they speak of while that is still
//! there to be asked, and hands the whole to the state.

mod tell;

use std::{sync::Arc, time::Duration};

use self::tell::tell;
use super::{probes::Probes, rows::Rows};
use crate::{
    aggregator::{
        dirty::row::Dirty,
        oom::{Dirtier, Grown, Joiner, Kill, Kills, Seen, history::History},
        row::{Memory, Row},
    },
    event::{
        Event,
        kmsg::Kmsg,
        oom::{Limit, Mark, Task},
    },
    kernel::proc,
    resolve::Container,
};

/// Rows around a victim that are looked at.
const ABOVE: usize = 16;
/// Of a file of `/proc`.
const PROC: u64 = 16 * 1024;

/// Who made pages dirty in the last minute; what counts that implements it.
pub trait Dirtiers {
    /// By row, those of most pages first.
    fn top(&self, row: u64) -> Vec<Dirtier>;
    /// Bytes a second that write-back wrote of the row's pages.
    fn written_per_s(&self, row: u64) -> Option<f64>;
}

impl Dirtiers for Dirty {
    fn top(&self, row: u64) -> Vec<Dirtier> {
        let known = self.rows.iter().find(|known| known.row == row);
        let recent = known.into_iter().flat_map(|known| &known.recent);
        // What a loop device wrote behind the file system on it is the same bytes once more.
        let own = recent.filter(|recent| !recent.backing && recent.dirtied > 0);
        own.map(|recent| Dirtier {
            pid: recent.process.pid,
            comm: recent.process.comm.to_string(),
            path: recent.path.as_ref().map(|path| path.to_string()),
            dirtied: recent.dirtied,
        })
        .collect()
    }

    fn written_per_s(&self, row: u64) -> Option<f64> {
        self.rows.iter().find(|known| known.row == row).and_then(|known| known.written_per_s)
    }
}

/// What was known around a victim when it was marked.
#[derive(Default)]
struct Around {
    container: Option<Arc<Container>>,
    row: Option<u64>,
    trigger: Option<Arc<Container>>,
    /// Its row and those around it, with what they held at the last look.
    rows: Vec<(u64, String, Memory)>,
    /// The cgroup at its limit, if the mark says which.
    limit_path: Option<String>,
    grown: Option<Grown>,
}

/// Watches.
pub struct OomWatch {
    kmsg: Option<Kmsg>,
    joiner: Joiner<Around>,
    history: History,
    kills: Kills,
}

impl OomWatch {
    /// Once the probes are attached: what the log holds and no mark tells was before.
    pub fn start(probes: &mut Probes) -> OomWatch {
        let kmsg = Kmsg::open().map_err(|why| probes.without_kernel_log(&why)).ok();
        let mut watch = OomWatch {
            kmsg,
            joiner: Joiner::default(),
            history: History::default(),
            kills: Kills::default(),
        };
        for line in watch.kmsg.as_mut().map(Kmsg::read).unwrap_or_default() {
            watch.joiner.logged(line, None);
        }
        watch
    }

    /// Marks, at once: a moment later victim and cgroup may be gone.
    pub fn take_in(&mut self, event: &Event, rows: &Rows, at: Duration) {
        let Event::OomMarked(mark) = event else { return };
        if !self.joiner.is_news(mark, at) {
            return;
        }
        let mut mark = Mark::clone(mark);
        let path = complete(&mut mark.victim);
        let row = mark.victim.cgroup.or_else(|| rows.tree.at(&path?)).and_then(|id| rows.row_of(id));
        let of = |id: u64| rows.row_of(id).and_then(|row| rows.aggregator.shared(row));
        let mut around = Around {
            container: row.and_then(|row| rows.aggregator.shared(row)),
            row,
            trigger: mark.trigger.cgroup.and_then(of),
            ..Around::default()
        };
        let mut next = row;
        while let Some(row) = next.filter(|_| around.rows.len() < ABOVE) {
            if let (Some(container), Some(memory)) =
                (rows.aggregator.container(row), rows.aggregator.whole(row))
            {
                around.rows.push((row, container.cgroup.path.clone(), memory));
            }
            next = rows.tree.row_above(row);
        }
        if let Limit::Cgroup { id, .. } = mark.limit {
            around.limit_path = rows.tree.node(id).map(|node| node.path.clone());
        }
        if let (Some(row), Some((_, _, memory))) = (row, around.rows.first()) {
            around.grown = self.history.grown(row, memory, at);
        }
        self.joiner.marked(Seen { mark, with: around }, at);
    }

    /// Whether kills wait for their other end.
    pub fn waits(&self) -> bool {
        self.joiner.waits()
    }

    /// Once a tick, after the rows; `last`: there is no other.
    pub fn tick(&mut self, closed: &[Arc<Row>], rows: &mut Rows, dirty: &Dirty, at: Duration, last: bool) {
        self.history.tick(closed, at);
        let mut whole = false;
        if let Some(kmsg) = &mut self.kmsg {
            for line in kmsg.read() {
                self.joiner.logged(line, Some(at));
            }
            whole = kmsg.whole;
        }
        for joined in self.joiner.ripe(at, whole, last) {
            let kill = tell(joined, rows, dirty);
            self.kills.add(kill);
        }
    }

    pub fn kills(&self) -> Arc<[Arc<Kill>]> {
        self.kills.shared()
    }

    pub fn lost(&self) -> impl Iterator<Item = Event> + use<> {
        let overwritten = self.kmsg.as_ref().map_or(0, |kmsg| kmsg.overwritten);
        let lost = [
            ("times that records of the kernel's log were overwritten before they were read", overwritten),
            ("OOM kills that came too fast to be told", self.joiner.lost),
        ];
        lost.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Event::Lost { what, count })
    }
}

/// What the probe could not say of a victim, from `/proc` while it is there; gives the path of its memory cgroup.
fn complete(victim: &mut Task) -> Option<String> {
    if victim.cgroup.is_some() && victim.pid.is_some() && victim.comm.is_some() {
        return None;
    }
    let status = proc::text(&format!("/proc/{}/status", victim.tid), PROC)?;
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    victim.pid = victim.pid.or_else(|| field("Tgid:")?.parse().ok());
    if victim.comm.is_none() {
        let comm = proc::text(&format!("/proc/{}/comm", victim.pid?), PROC);
        victim.comm = comm.map(|comm| comm.strip_suffix('\n').unwrap_or(&comm).to_owned());
    }
    proc::memory_cgroup(&proc::text(&format!("/proc/{}/cgroup", victim.tid), PROC)?).map(str::to_owned)
}
