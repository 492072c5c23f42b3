//! Who is connected to whom by unix sockets: the kernel tells which sockets belong together, `/proc` whose they are. Asking
//! everybody for their descriptors takes time on a large host, so it is done in parts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    aggregator::daemon::{CLIENTS, Client},
    event::{
        descriptors::holdings,
        procfs,
        unix_sockets::{Socket, sockets},
    },
    resolve::stream::processes,
};

/// Time for a part of the walk.
const PART: Duration = Duration::from_millis(60);
/// What the kernel said is good for so long.
const FRESH: Duration = Duration::from_millis(200);
/// Sockets whose owners are remembered.
const OWNERS: usize = 65_536;

#[derive(Default)]
pub struct Peers {
    /// By inode; `None`: the kernel does not tell.
    sockets: Option<HashMap<u32, Socket>>,
    asked: Option<Instant>,
    /// Of the last whole walk, and of the one under way.
    owners: HashMap<u32, u32>,
    found: HashMap<u32, u32>,
    /// Where the next part goes on.
    next: u32,
    whole: bool,
}

impl Peers {
    /// A part of the walk: at first all of it, as far as that takes no longer than a few parts.
    pub fn search(&mut self, now: Instant) {
        self.ask(now);
        let time = if self.whole { PART } else { 4 * PART };
        let start = Instant::now();
        let mut pids: Vec<u32> = processes().filter(|pid| *pid >= self.next).collect();
        pids.sort_unstable();
        for pid in pids {
            if start.elapsed() > time || self.found.len() >= OWNERS {
                self.next = pid;
                return;
            }
            let (_, inodes) = holdings(pid, true);
            self.found.extend(inodes.into_iter().map(|ino| (ino, pid)));
        }
        self.owners = std::mem::take(&mut self.found);
        (self.next, self.whole) = (0, true);
    }

    fn ask(&mut self, now: Instant) {
        if self.asked.is_none_or(|asked| now.saturating_duration_since(asked) > FRESH) {
            self.asked = Some(now);
            let all = sockets().ok();
            self.sockets = all.map(|all| all.into_iter().map(|socket| (socket.ino, socket)).collect());
        }
    }

    fn owner(&self, ino: u32) -> Option<u32> {
        self.owners.get(&ino).or_else(|| self.found.get(&ino)).copied()
    }

    /// Who is connected to these shims, and who to those: each with the rows that it reaches. Who is connected *by* a shim,
    /// as a log service is, serves nobody.
    pub fn servers(&self, shims: &HashMap<u32, u64>) -> Vec<(u32, Vec<u64>)> {
        let mut reach: HashMap<u32, HashSet<u64>> = HashMap::new();
        for (shim, row) in shims {
            for near in self.connected_to(*shim) {
                reach.entry(near).or_default().insert(*row);
                for far in self.connected_to(near) {
                    reach.entry(far).or_default().insert(*row);
                }
            }
        }
        reach.into_iter().map(|(pid, rows)| (pid, rows.into_iter().collect())).collect()
    }

    /// Owners of the other ends of what a process has accepted.
    fn connected_to(&self, pid: u32) -> HashSet<u32> {
        let (_, inodes) = holdings(pid, true);
        let peers = inodes.iter().filter_map(|ino| {
            let socket = self.sockets.as_ref()?.get(ino).filter(|socket| socket.named)?;
            self.owner(socket.peer?)
        });
        peers.filter(|peer| *peer != pid).collect()
    }

    /// What a process with these sockets has accepted and not closed, those that wait too, and from whom. `None` where the
    /// kernel does not tell. `row_of`: where a process runs.
    pub fn clients(
        &mut self,
        inodes: &[u32],
        now: Instant,
        row_of: impl Fn(u32) -> Option<u64>,
    ) -> Option<(u64, Vec<Client>)> {
        self.ask(now);
        let sockets = self.sockets.as_ref()?;
        let mut ends: Vec<Option<u32>> = Vec::new();
        for socket in inodes.iter().filter_map(|ino| sockets.get(ino)) {
            match &socket.waiting {
                Some(waiting) => ends.extend(waiting.iter().map(|ino| Some(*ino))),
                None if socket.named => ends.push(socket.peer),
                None => {}
            }
        }
        let mut open: HashMap<u32, u64> = HashMap::new();
        for pid in ends.iter().filter_map(|end| self.owner((*end)?)) {
            *open.entry(pid).or_default() += 1;
        }
        let mut clients: Vec<Client> = open
            .into_iter()
            .filter_map(|(pid, open)| {
                Some(Client { pid, comm: Arc::from(procfs::comm(pid)?), open, row: None })
            })
            .collect();
        clients.sort_by(|a, b| b.open.cmp(&a.open).then(a.pid.cmp(&b.pid)));
        clients.truncate(CLIENTS);
        clients.iter_mut().for_each(|client| client.row = row_of(client.pid));
        Some((ends.len() as u64, clients))
    }
}
