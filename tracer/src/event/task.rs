//! What `/proc` tells of a task that is stuck. `stack` and `syscall` wait for a lock that a task in the middle of an exec
//! holds, and for it only: whoever reads here is a thread that can be left behind. Never read are `cmdline`, `environ`,
//! `maps` and whatever else waits for the task's memory.

use std::{fs, io::Read as _};

/// Of one file.
const MOST: u64 = 256 * 1024;
const FRAMES: usize = 48;

/// A task as `/proc` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// The thread group leader's name.
    pub comm: String,
    pub pid: u32,
    /// `D`, `S`, ...
    pub state: Option<char>,
    pub wchan: Option<String>,
    /// Kernel functions, innermost first.
    pub stack: Vec<String>,
    pub call: Option<Call>,
    /// Behind its first argument, if that is a descriptor.
    pub file: Option<File>,
    pub sigkill_pending: bool,
    /// Lines of `/proc/PID/cgroup`.
    pub cgroups: String,
    /// Mounts of servers that it can see.
    pub served: Vec<Mount>,
}

/// A system call that has not returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub number: u64,
    pub arguments: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub descriptor: u64,
    pub path: String,
    pub mount: Option<Mount>,
}

/// A line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub point: String,
    pub kind: String,
    pub source: String,
    /// `major:minor`.
    pub device: String,
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// State of a task, from a file that waits for nobody.
pub fn state(tid: u32) -> Option<char> {
    let stat = read(&format!("/proc/{tid}/stat"))?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub fn comm(pid: u32) -> Option<String> {
    read(&format!("/proc/{pid}/comm")).map(|comm| comm.strip_suffix('\n').unwrap_or(&comm).to_owned())
}

/// What function a task sleeps in; on 5.10 that is not told here.
pub fn wchan(tid: u32) -> Option<String> {
    read(&format!("/proc/{tid}/wchan")).filter(|name| !name.is_empty() && name != "0")
}

/// Whether a task sleeps in this function.
pub fn waits_in(tid: u32, function: &str) -> bool {
    let Some(name) = read(&format!("/proc/{tid}/wchan")) else { return false };
    // Up to 5.15 it is `0` for every task that sleeps (42a20f86dc19), and the stack has to tell.
    match name.as_str() {
        "0" => {
            state(tid) == Some('S')
                && read(&format!("/proc/{tid}/stack"))
                    .is_some_and(|text| stack(&text).iter().any(|name| name == function))
        }
        name => name == function,
    }
}

/// All of it. `None`: it is gone.
pub fn task(tid: u32) -> Option<Task> {
    let status = read(&format!("/proc/{tid}/status"))?;
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let pid = field("Tgid:")?.parse().ok()?;
    let comm = read(&format!("/proc/{pid}/comm"))?;
    let pending = |key: &str| {
        field(key).and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 << 8 != 0)
    };
    let call = read(&format!("/proc/{tid}/syscall")).and_then(|line| call(&line));
    let mounts = read(&format!("/proc/{tid}/mountinfo")).unwrap_or_default();
    let file = call.as_ref().and_then(|call| {
        let descriptor = *call.arguments.first()?;
        let path = fs::read_link(format!("/proc/{tid}/fd/{descriptor}")).ok()?;
        let info = read(&format!("/proc/{tid}/fdinfo/{descriptor}")).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        let mount = id.and_then(|id| mounts.lines().find(|line| line.split(' ').next() == Some(id)));
        Some(File { descriptor, path: path.to_string_lossy().into_owned(), mount: mount.and_then(mount_of) })
    });
    let of_server = |mount: &Mount| mount.kind.starts_with("fuse") || mount.kind.starts_with("nfs");
    Some(Task {
        comm: comm.strip_suffix('\n').unwrap_or(&comm).to_owned(),
        pid,
        state: field("State:").and_then(|state| state.chars().next()),
        wchan: wchan(tid),
        stack: stack(&read(&format!("/proc/{tid}/stack")).unwrap_or_default()),
        call,
        file,
        sigkill_pending: pending("SigPnd:") || pending("ShdPnd:"),
        cgroups: read(&format!("/proc/{tid}/cgroup")).unwrap_or_default(),
        served: mounts.lines().filter_map(mount_of).filter(of_server).take(8).collect(),
    })
}

/// `NUMBER ARGUMENT... SP PC`; a task that runs, or is in none, has no number.
fn call(line: &str) -> Option<Call> {
    let mut words = line.split_whitespace();
    let number = words.next()?.parse::<u64>().ok()?;
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let arguments: Vec<u64> = words.filter_map(hex).take(6).collect();
    Some(Call { number, arguments })
}

/// `[<0>] function+0x1/0x2 [module]`.
pub(super) fn stack(text: &str) -> Vec<String> {
    let function = |line: &str| Some(line.split_whitespace().nth(1)?.split('+').next()?.to_owned());
    text.lines().filter_map(function).take(FRAMES).collect()
}

fn mount_of(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let device = before.nth(2)?.to_owned();
    let point = before.nth(1)?.replace("\\040", " ");
    let mut after = after.split(' ');
    Some(Mount { point, kind: after.next()?.to_owned(), source: after.next()?.to_owned(), device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let call = call("1 0x3 0x7f0 0x4 0x0 0x0 0x0 0x7ffd 0x45\n").unwrap();
        assert_eq!((call.number, call.arguments), (1, vec![3, 0x7f0, 4, 0, 0, 0]));
        assert_eq!((super::call("running\n"), super::call("-1 0x7f 0x1\n")), (None, None));
        let text = "[<0>] percpu_rwsem_wait+0x11c/0x140\n[<0>] fuse_x+0x1/0x2 [fuse]\n";
        assert_eq!(stack(text), ["percpu_rwsem_wait", "fuse_x"]);
        let line = "36 35 98:0 /a /mnt/two\\040words rw master:1 - ext4 /dev/loop0 rw";
        let mount = mount_of(line).unwrap();
        assert_eq!((mount.point.as_str(), mount.kind.as_str()), ("/mnt/two words", "ext4"));
        assert_eq!((mount.source.as_str(), mount.device.as_str()), ("/dev/loop0", "98:0"));
    }
}
