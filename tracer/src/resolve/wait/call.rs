//! How a system call is shown: its name and, where the first argument is a descriptor, the file behind it.

use tracer_ebpf::abi::call::{Table, code};

use super::parse::{Call, bounded};
use crate::resolve::call as known;

/// `__X32_SYSCALL_BIT`
const X32: u64 = 1 << 30;

/// What the first argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The file that the call is about.
    File,
    /// A directory that a path may start at, or one file of two: what is waited for may be elsewhere.
    Start,
    /// There are no arguments.
    Nothing,
    Other,
}

const FILE: &[&str] = &[
    "read",
    "write",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
    "ftruncate",
    "ftruncate64",
    "fallocate",
    "fstat",
    "fstat64",
    "fstatfs",
    "flock",
    "fcntl",
    "fcntl64",
    "ioctl",
    "lseek",
    "_llseek",
    "getdents",
    "getdents64",
    "close",
    "fchmod",
    "fchown",
    "fchdir",
    "fadvise64",
    "readahead",
    "fsetxattr",
    "fgetxattr",
    "flistxattr",
    "fremovexattr",
    "vmsplice",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "connect",
    "accept",
    "accept4",
];

/// A directory, and a path that starts at it.
pub const AT: &[&str] = &[
    "openat",
    "openat2",
    "newfstatat",
    "fstatat64",
    "statx",
    "mkdirat",
    "mknodat",
    "unlinkat",
    "fchmodat",
    "fchmodat2",
    "fchownat",
    "futimesat",
    "utimensat",
    "faccessat",
    "faccessat2",
    "readlinkat",
    "name_to_handle_at",
];

/// Two files, or a path that is not looked at.
const START: &[&str] = &[
    "renameat",
    "renameat2",
    "linkat",
    "execveat",
    "open_tree",
    "move_mount",
    "sendfile",
    "sendfile64",
    "copy_file_range",
    "splice",
    "tee",
];

const NOTHING: &[&str] = &["sync", "fork", "vfork", "pause", "vhangup", "munlockall"];

pub fn first(name: &str) -> First {
    let name = name.rsplit(':').next().unwrap_or(name);
    let is_of = |names: &[&str]| names.contains(&name);
    match () {
        () if is_of(FILE) => First::File,
        () if is_of(AT) || is_of(START) => First::Start,
        () if is_of(NOTHING) => First::Nothing,
        () => First::Other,
    }
}

/// The descriptor that a call's first argument is; the directory that a process is in has none.
pub fn descriptor(name: &str, call: &Call) -> Option<u32> {
    let is = matches!(first(name), First::File | First::Start);
    // A C int: the upper half of the register is anybody's.
    is.then_some(call.arguments[0] as u32).filter(|number| *number <= i32::MAX as u32)
}

/// `write(3 </mnt/data/log>)`, `openat(AT_FDCWD, "/mnt/data/log")`.
pub fn shown(name: &str, call: &Call, file: Option<&str>, path: Option<&str>) -> String {
    let path = path.map(|path| format!("{:?}", bounded(path)));
    let which = match (descriptor(name, call), first(name)) {
        (Some(number), _) => match file {
            Some(file) => format!("{number} <{}>", bounded(file)),
            None => number.to_string(),
        },
        (None, First::Start) if call.arguments[0] as i32 == libc::AT_FDCWD => String::from("AT_FDCWD"),
        (None, First::File | First::Start) => (call.arguments[0] as i32).to_string(),
        (None, First::Nothing) => return format!("{name}()"),
        (None, First::Other) => return format!("{name}({})", path.as_deref().unwrap_or("...")),
    };
    match first(name) {
        First::Start => format!("{name}({which}, {})", path.as_deref().unwrap_or("...")),
        _ => format!("{name}({which})"),
    }
}

/// What a call is called.
pub fn name(call: &Call) -> String {
    let (table, number) = match call.number {
        number if call.compat => (Table::Compat, number),
        number if cfg!(target_arch = "x86_64") && number & X32 != 0 => (Table::X32, number & !X32),
        number => (Table::Native, number),
    };
    known::name(code(table, u32::try_from(number).unwrap_or(u32::MAX))).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(first: u64) -> Call {
        Call { number: 0, arguments: [first, 0, 0], compat: false }
    }

    #[test]
    fn a_descriptor_is_shown_with_its_file() {
        assert_eq!(shown("write", &call(3), Some("/mnt/data/log"), None), "write(3 </mnt/data/log>)");
        assert_eq!(shown("write", &call(3), None, None), "write(3)");
        assert_eq!(shown("i386:write", &call(3), Some("/a"), None), "i386:write(3 </a>)");
        assert_eq!(shown("openat", &call(0xffff_ff9c), None, None), "openat(AT_FDCWD, ...)");
        assert_eq!(shown("openat", &call(5), Some("/srv"), None), "openat(5 </srv>, ...)");
        assert_eq!(shown("read", &call(u64::MAX), None, None), "read(-1)");
        assert_eq!(shown("mkdir", &call(0x7fff_0000), None, None), "mkdir(...)");
        assert_eq!(shown("sync", &call(0x7fff_0000), None, None), "sync()");
        let path = Some("/mnt/a \"b\"\n");
        assert_eq!(shown("openat", &call(0xffff_ff9c), None, path), r#"openat(AT_FDCWD, "/mnt/a \"b\"\n")"#);
        assert_eq!(shown("mkdir", &call(0x7fff_0000), None, Some("/mnt")), r#"mkdir("/mnt")"#);
        assert_eq!(descriptor("mkdir", &call(3)), None);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_number_is_named_by_its_table() {
        assert_eq!(name(&Call { number: 1, ..call(0) }), "write");
        assert_eq!(name(&Call { number: 4, compat: true, ..call(0) }), "i386:write");
        assert_eq!(name(&Call { number: X32 | 1, ..call(0) }), "x32:write");
        assert_eq!(name(&Call { number: u64::MAX, ..call(0) }), "x32:syscall_65535");
    }
}
