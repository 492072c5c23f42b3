//! Where the lines of a log go: from reader to reader, and what the last of them makes of it.

use std::{collections::HashMap, sync::Arc};

use super::{Entry, HOPS, LogState, kind::Kind};
use crate::{
    aggregator::{
        row::How,
        stream::{Hop, Process, Reader, Stream},
    },
    resolve::Container,
};

impl LogState {
    /// From the container on: who reads the stream, who reads what that writes, and so on.
    pub(super) fn hops(&self, entry: &Entry, kinds: &HashMap<u64, Kind>, interval: Option<f64>) -> Vec<Hop> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut current = entry;
        while hops.len() < HOPS {
            let (pid, taken) = self.reader_of(current);
            let Some(process) = self.process_of(pid) else { break };
            if hops.iter().any(|hop| hop.process.pid == pid) {
                break;
            }
            let before = current.before.read.min(taken);
            hops.push(Hop {
                process,
                taken,
                taken_per_s: interval.map(|interval| (taken - before) as f64 / interval),
            });
            // Of what it writes, that which is most like what it took.
            let next = self.entries.iter().filter(|(key, edge)| {
                edge.now.writer == pid
                    && kinds.get(key) == Some(&Kind::Edge)
                    && self.reader_of(edge).0 != 0
                    && passes_on(edge.now.bytes, taken, current.now.bytes)
                    // Not back: a container's standard input.
                    && self.reader_row(edge) != entry.owner.as_ref().map(|owner| owner.row)
            });
            let Some((_, next)) = next.min_by_key(|(key, edge)| (edge.now.bytes.abs_diff(taken), **key))
            else {
                break;
            };
            current = next;
        }
        hops
    }

    fn process_of(&self, pid: u32) -> Option<Process> {
        let known = self.processes.get(&pid)?;
        Some(Process { pid, comm: Arc::clone(&known.comm) })
    }

    /// The last reader of these streams: what it holds is shared out among them by their open lines.
    pub(super) fn reader(
        &self,
        pid: u32,
        places: &[usize],
        streams: &mut [Stream],
        interval: Option<f64>,
    ) -> Option<Reader> {
        let known = self.processes.get(&pid)?;
        let taken = known.taken;
        let written =
            known.usage.written.zip(known.written_first).map(|(now, first)| now.saturating_sub(first));
        let held = written.map(|written| taken.saturating_sub(written));
        let open: u64 = places.iter().map(|place| streams[*place].open_line).sum();
        for place in places {
            let stream = &mut streams[*place];
            stream.held = held.map(|held| {
                let share = (u128::from(held) * u128::from(stream.open_line)).checked_div(u128::from(open));
                (share.unwrap_or(0) as u64).min(stream.open_line)
            });
            // Other things than log lines may be among what it wrote, and it may add to each line.
            stream.held_how = stream.held.map(|held| if held > 0 { How::AtLeast } else { How::Inferred });
        }
        let mut explained: Vec<(u64, Arc<Container>)> = places
            .iter()
            .map(|place| &streams[*place])
            .filter(|stream| stream.held.is_some_and(|held| held > 0))
            .map(|stream| (stream.held.unwrap_or(0), Arc::clone(&stream.container)))
            .collect();
        explained.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
        let signed = |now: u64, then: u64| now as i64 - then as i64;
        Some(Reader {
            process: Process { pid, comm: Arc::clone(&known.comm) },
            row: known.row,
            anon: known.usage.anon,
            anon_growth: known.usage.anon.zip(known.anon_first).map(|(now, first)| signed(now, first)),
            anon_per_s: known
                .usage
                .anon
                .zip(known.anon_before)
                .zip(interval)
                .map(|((now, before), interval)| signed(now, before) as f64 / interval),
            taken,
            written,
            disk_free: known.disk_free,
            explained,
        })
    }
}

/// Whether so many written bytes can be what was taken of so many: a daemon that keeps what it reads, or writes it to
/// files, may write a little to some other pipe. Reads may have been missed: all but a pipe's room was taken.
fn passes_on(written: u64, taken: u64, of: u64) -> bool {
    const SLACK: u64 = 4096;
    const PIPE: u64 = 64 << 10;
    let taken = taken.max(of.saturating_sub(PIPE));
    written >= taken / 2 && written <= 2 * of.max(taken) + SLACK
}

#[cfg(test)]
mod tests {
    use super::passes_on;

    #[test]
    fn a_little_on_another_pipe_is_not_what_was_taken() {
        assert!(passes_on(1_000_000, 1_000_000, 1_060_000));
        assert!(passes_on(900, 1000, 1000), "of a short log, most");
        assert!(!passes_on(900, 100_000, 100_000));
        assert!(!passes_on(900, 1000, 100_000), "most reads were missed");
        assert!(!passes_on(1 << 30, 1000, 1000));
    }
}
