//! A task that the OOM killer marked, as the probe tells it.

use std::time::Duration;

use bytes::Buf as _;
use tracer_ebpf::abi::{
    event::UNKNOWN,
    oom::{GLOBAL, OOM_RECORD},
};

use super::page_size;

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Unknown,
    /// None: the host had no memory left.
    Global,
    /// A memory cgroup's, with what it held and might hold, in bytes.
    Cgroup {
        id: u64,
        usage: u64,
        limit: u64,
    },
}

/// A task by its numbers and its thread group's name; `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// The thread group.
    pub pid: Option<u32>,
    pub tid: u32,
    pub comm: Option<String>,
    /// Its memory cgroup.
    pub cgroup: Option<u64>,
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub shmem: Option<u64>,
}

/// One mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// `CLOCK_MONOTONIC`.
    pub at: Duration,
    pub victim: Task,
    pub resident: Resident,
    /// Who asked for memory.
    pub trigger: Task,
    pub limit: Limit,
}

const WORDS: usize = 7;
const COMM: usize = 16;

/// What follows the header.
pub struct Rest {
    words: [u64; WORDS],
    comm: [u8; COMM],
    trigger_comm: [u8; COMM],
}

const _: () = assert!(OOM_RECORD == 40 + 8 * WORDS + 2 * COMM);

impl Rest {
    pub fn read(mut bytes: &[u8]) -> Option<Rest> {
        if bytes.len() < 8 * WORDS + 2 * COMM {
            return None;
        }
        let words = std::array::from_fn(|_| bytes.get_u64_ne());
        let (mut comm, mut trigger_comm) = ([0; COMM], [0; COMM]);
        bytes.copy_to_slice(&mut comm);
        bytes.copy_to_slice(&mut trigger_comm);
        Some(Rest { words, comm, trigger_comm })
    }
}

/// From the header's parts and the rest.
pub fn mark(at: u64, cgroup: u64, victim: u64, trigger: u64, rest: &Rest) -> Mark {
    let [trigger_cgroup, limit_cgroup, usage, limit, anon, file, shmem] = rest.words;
    let known = |value: u64| (value != UNKNOWN).then_some(value);
    let bytes = |kib: u64| known(kib).map(|kib| kib.saturating_mul(1024));
    let pages = |pages: u64| pages.saturating_mul(page_size());
    Mark {
        at: Duration::from_nanos(at),
        victim: task(victim, cgroup, &rest.comm),
        resident: Resident { anon: bytes(anon), file: bytes(file), shmem: bytes(shmem) },
        trigger: task(trigger, trigger_cgroup, &rest.trigger_comm),
        limit: match limit_cgroup {
            UNKNOWN => Limit::Unknown,
            GLOBAL => Limit::Global,
            id => Limit::Cgroup { id, usage: pages(usage), limit: pages(limit) },
        },
    }
}

fn task(ids: u64, cgroup: u64, comm: &[u8; COMM]) -> Task {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
    let pid = (ids >> 32) as u32;
    Task {
        pid: (pid != 0).then_some(pid),
        tid: ids as u32,
        comm: (end > 0).then(|| String::from_utf8_lossy(&comm[..end]).into_owned()),
        cgroup: (cgroup != 0).then_some(cgroup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_none() {
        let mut bytes = Vec::new();
        for word in [0, UNKNOWN, UNKNOWN, UNKNOWN, 3, UNKNOWN, 0] {
            bytes.extend(u64::to_ne_bytes(word));
        }
        bytes.extend(*b"eat\0............");
        bytes.extend([0; COMM]);
        let mark = mark(1, 0, 42, 7 << 32 | 8, &Rest::read(&bytes).expect("whole"));
        assert_eq!(mark.victim, Task { pid: None, tid: 42, comm: Some("eat".into()), cgroup: None });
        assert_eq!(mark.trigger, Task { pid: Some(7), tid: 8, comm: None, cgroup: None });
        assert_eq!(mark.resident, Resident { anon: Some(3072), file: None, shmem: Some(0) });
        assert_eq!(mark.limit, Limit::Unknown);
        assert!(Rest::read(&bytes[1..]).is_none());
    }
}
