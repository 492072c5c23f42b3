//! A system call that has not returned, in words: its name, and the file or address that it is about.

use crate::event::task::Task;

/// Calls in which tasks get stuck, by their number on x86-64; `true`: the first argument is a descriptor.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(u64, &str, bool)] = &[
    (0, "read", true),
    (1, "write", true),
    (2, "open", false),
    (3, "close", true),
    (4, "stat", false),
    (5, "fstat", true),
    (6, "lstat", false),
    (9, "mmap", false),
    (10, "mprotect", false),
    (11, "munmap", false),
    (12, "brk", false),
    (16, "ioctl", true),
    (17, "pread64", true),
    (18, "pwrite64", true),
    (19, "readv", true),
    (20, "writev", true),
    (21, "access", false),
    (26, "msync", false),
    (28, "madvise", false),
    (40, "sendfile", true),
    (56, "clone", false),
    (57, "fork", false),
    (58, "vfork", false),
    (59, "execve", false),
    (60, "exit", false),
    (73, "flock", true),
    (74, "fsync", true),
    (75, "fdatasync", true),
    (76, "truncate", false),
    (77, "ftruncate", true),
    (78, "getdents", true),
    (80, "chdir", false),
    (82, "rename", false),
    (83, "mkdir", false),
    (84, "rmdir", false),
    (85, "creat", false),
    (86, "link", false),
    (87, "unlink", false),
    (90, "chmod", false),
    (92, "chown", false),
    (137, "statfs", false),
    (162, "sync", false),
    (165, "mount", false),
    (166, "umount2", false),
    (209, "io_submit", false),
    (217, "getdents64", true),
    (231, "exit_group", false),
    (257, "openat", false),
    (258, "mkdirat", false),
    (262, "newfstatat", false),
    (263, "unlinkat", false),
    (264, "renameat", false),
    (277, "sync_file_range", true),
    (285, "fallocate", true),
    (306, "syncfs", true),
    (316, "renameat2", false),
    (322, "execveat", false),
    (326, "copy_file_range", true),
    (332, "statx", false),
    (426, "io_uring_enter", true),
    (435, "clone3", false),
    (437, "openat2", false),
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &[(u64, &str, bool)] = &[];

/// `write(3 /data/file, 0x1000)`. `None`: it is in none, or runs.
pub fn syscall(task: &Task) -> Option<String> {
    let call = task.call.as_ref()?;
    let known = CALLS.iter().find(|(number, ..)| *number == call.number);
    let (name, of_file) = known
        .map_or((format!("syscall {}", call.number), false), |(_, name, file)| ((*name).to_owned(), *file));
    let mut arguments = call.arguments.iter();
    let first = arguments.next().copied().unwrap_or(0);
    let file = task.file.as_ref().filter(|file| of_file && file.descriptor == first);
    let first = match (file, of_file) {
        (Some(file), _) => format!("{first} {}", file.path),
        (None, true) => first.to_string(),
        (None, false) => format!("{first:#x}"),
    };
    let more = arguments.next().map_or_else(String::new, |argument| format!(", {argument:#x}"));
    Some(format!("{name}({first}{more})"))
}

/// The file that the call is about, where its number says that it is about one.
pub fn file(task: &Task) -> Option<&crate::event::task::File> {
    let number = task.call.as_ref()?.number;
    let of_file = CALLS.iter().any(|(known, _, of_file)| *known == number && *of_file);
    task.file.as_ref().filter(|_| of_file)
}
