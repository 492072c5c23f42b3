//! The path that a system call was given: it is in the task's memory, and says where a task waits that has no descriptor yet.
//!
//! Memory is read only where that waits for nobody: the page is there (`pagemap`), and no other thread of the process sleeps
//! where it may hold or want the lock of the address space (`mmap_lock`), behind which a reader would queue.

use std::{fs, fs::File, os::unix::fs::FileExt as _, path::Path};

use super::{call, parse, told};

/// `PATH_MAX`
const LONGEST: usize = 4096;
/// More threads are not looked at one by one.
const THREADS: usize = 64;
/// `PM_PRESENT`
const PRESENT: u64 = 1 << 63;

/// Where among the arguments the path is; the one before it is where it starts, if there is one.
fn argument(name: &str) -> Option<usize> {
    const FIRST: &[&str] = &[
        "open",
        "creat",
        "stat",
        "stat64",
        "lstat",
        "lstat64",
        "access",
        "mkdir",
        "rmdir",
        "unlink",
        "mknod",
        "chmod",
        "chown",
        "lchown",
        "truncate",
        "truncate64",
        "readlink",
        "utime",
        "utimes",
        "statfs",
        "statfs64",
        "chdir",
        "getxattr",
        "lgetxattr",
        "setxattr",
        "lsetxattr",
        "listxattr",
        "llistxattr",
        "removexattr",
        "lremovexattr",
    ];
    let name = name.rsplit(':').next().unwrap_or(name);
    match () {
        () if FIRST.contains(&name) => Some(0),
        () if call::AT.contains(&name) => Some(1),
        () => None,
    }
}

/// What the call was given, as it stands there.
pub fn read(pid: u32, tid: u32, call: &parse::Call) -> Option<String> {
    let address = call.arguments[argument(&call::name(call))?];
    if address == 0 || !waits_for_nobody(pid, tid) {
        return None;
    }
    let page = rustix::param::page_size() as u64;
    let (map, memory) = (open(tid, "pagemap")?, open(tid, "mem")?);
    let mut path = Vec::new();
    while path.len() < LONGEST {
        let at = address.checked_add(path.len() as u64)?;
        let mut entry = [0; 8];
        map.read_exact_at(&mut entry, (at / page).checked_mul(8)?).ok()?;
        if u64::from_ne_bytes(entry) & PRESENT == 0 {
            return None;
        }
        let mut bytes = vec![0; (page - at % page) as usize];
        memory.read_exact_at(&mut bytes, at).ok()?;
        let end = bytes.iter().position(|byte| *byte == 0);
        path.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
        if end.is_some() {
            return (path.len() < LONGEST && !path.is_empty())
                .then(|| String::from_utf8_lossy(&path).into_owned());
        }
    }
    None
}

fn open(tid: u32, name: &str) -> Option<File> {
    File::open(format!("/proc/{tid}/{name}")).ok()
}

/// Whether each other thread of the process that is blocked is in a call that does not change the address space.
fn waits_for_nobody(pid: u32, tid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let threads: Vec<u32> = threads
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(THREADS + 1)
        .collect();
    let is_harmless = |other: &u32| {
        if *other == tid || told::state(*other) != Some('D') {
            return true;
        }
        let name =
            told::of(*other, "syscall").and_then(|text| parse::call(&text)).map(|call| call::name(&call));
        name.is_some_and(|name| argument(&name).is_some() || call::first(&name) == call::First::File)
    };
    threads.len() <= THREADS && threads.iter().all(is_harmless)
}

/// The path from the task's root on, where it starts at `start`. `None`: a `..` leads where links decide.
pub fn whole(path: &str, start: Option<&str>) -> Option<String> {
    let path = Path::new(path);
    let whole = if path.is_absolute() { path.to_owned() } else { Path::new(start?).join(path) };
    let leads_back = whole.components().any(|part| part == std::path::Component::ParentDir);
    (whole.is_absolute() && !leads_back).then(|| whole.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_where_the_call_says() {
        let text = std::ffi::CString::new("/mnt/data/".to_owned() + &"x".repeat(3000)).expect("no NUL");
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let call = |number: i64, arguments| parse::Call { number: number as u64, arguments, compat: false };
        let at = text.as_ptr() as u64;
        let openat = call(libc::SYS_openat, [libc::AT_FDCWD as u64, at, 0]);
        assert_eq!(read(std::process::id(), tid, &openat).as_deref(), text.to_str().ok());
        let write = call(libc::SYS_write, [1, at, 10]);
        assert_eq!(read(std::process::id(), tid, &write), None, "what is written is nobody's affair");
        let nowhere = call(libc::SYS_openat, [0, 8, 0]);
        assert_eq!(read(std::process::id(), tid, &nowhere), None);
        let long = vec![b'y'; 3 * LONGEST];
        let endless = call(libc::SYS_openat, [0, long.as_ptr() as u64, 0]);
        assert_eq!(read(std::process::id(), tid, &endless), None);
    }

    #[test]
    fn a_path_is_whole_from_where_it_starts() {
        assert_eq!(whole("/a/b", None).as_deref(), Some("/a/b"));
        assert_eq!(whole("b/./c", Some("/a")).as_deref(), Some("/a/b/./c"));
        assert_eq!(whole("b", None), None);
        assert_eq!(whole("../b", Some("/a")), None);
        assert_eq!(whole("b", Some("pipe:[4]")), None);
    }
}
