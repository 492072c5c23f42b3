//! Tasks that are to die and do not: SIGKILL is pending, and they sleep where no signal is looked at. Read from `/proc`, which
//! tells of those from before attach, too.

use std::{fs, io::Read as _};

use super::{procfs, task};

/// SIGKILL in the masks of `/proc/PID/status`.
const KILL: u64 = 1 << (9 - 1);
/// Of a kernel stack.
const FRAMES: usize = 24;

/// One task with SIGKILL pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub pid: u32,
    pub tid: u32,
    /// The group leader's.
    pub comm: String,
    /// As `/proc` says it.
    pub state: char,
    /// How often it left a processor so far: one that stands still has not moved since.
    pub switches: u64,
    pub wchan: Option<String>,
    /// Functions, innermost first; empty where that cannot be read.
    pub stack: Vec<String>,
}

/// Its tasks with SIGKILL pending. Of a group that is killed each thread has it.
pub fn tasks(pid: u32) -> Vec<Pending> {
    const THREADS: usize = 256;
    let Some(status) = read(&format!("/proc/{pid}/status")) else { return Vec::new() };
    if !is_pending(&status) {
        return Vec::new();
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let tids = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.take(THREADS).filter_map(|tid| task(pid, tid)).collect()
}

fn task(pid: u32, tid: u32) -> Option<Pending> {
    let dir = format!("/proc/{pid}/task/{tid}");
    let status = read(&format!("{dir}/status"))?;
    let (state, switches) = told(&status)?;
    if state != 'D' {
        return None;
    }
    let wchan = read(&format!("{dir}/wchan")).filter(|name| !name.is_empty() && name != "0");
    let stack = read(&format!("{dir}/stack")).unwrap_or_default();
    Some(Pending {
        pid,
        tid,
        comm: procfs::comm(pid)?,
        state,
        switches,
        wchan,
        stack: task::stack(&stack).into_iter().take(FRAMES).collect(),
    })
}

/// State and switches of one with SIGKILL pending.
fn told(status: &str) -> Option<(char, u64)> {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if !is_pending(status) {
        return None;
    }
    let switches = |key: &str| field(key).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    let state = field("State:")?.chars().next()?;
    Some((state, switches("voluntary_ctxt_switches:") + switches("nonvoluntary_ctxt_switches:")))
}

/// Its own, or its group's.
fn is_pending(status: &str) -> bool {
    let masks =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & KILL != 0)
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(16 * 1024).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_kill_is_the_task_s_or_its_group_s() {
        let status = |own: &str, group: &str| {
            format!(
                "Name:\tx\nState:\tD (disk sleep)\nSigPnd:\t{own}\nShdPnd:\t{group}\nSigBlk:\tffffffffffffffff\n\
                 voluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n"
            )
        };
        let (none, kill, term) = ("0000000000000000", "0000000000000100", "0000000000004000");
        assert_eq!(told(&status(kill, none)), Some(('D', 42)));
        assert_eq!(told(&status(none, kill)), Some(('D', 42)));
        assert_eq!(told(&status(none, term)), None);
        assert_eq!(tasks(std::process::id()), []);
    }
}
