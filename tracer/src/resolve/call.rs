//! What system calls and errors are called.

use std::borrow::Cow;

use syscalls::Errno;
use tracer_ebpf::abi::call::{Table, decode};

/// A call by its code. One of another table than the machine's own bears that table's name before it; one without a name,
/// newer than this program, its number.
pub fn name(code: u32) -> Cow<'static, str> {
    let (table, number) = decode(code);
    let known = known(table, number as usize);
    let prefix = match table {
        Table::Native => "",
        Table::Compat if cfg!(target_arch = "x86_64") => "i386:",
        Table::Compat => "arm:",
        Table::X32 => "x32:",
    };
    match known {
        Some(name) if prefix.is_empty() => Cow::Borrowed(name),
        Some(name) => Cow::Owned(format!("{prefix}{name}")),
        None => Cow::Owned(format!("{prefix}syscall_{number}")),
    }
}

#[cfg(target_arch = "x86_64")]
fn known(table: Table, number: usize) -> Option<&'static str> {
    use syscalls::{x86, x86_64};
    // Calls of their own that x32 has instead of those with pointers in structures, arch/x86/entry/syscalls/syscall_64.tbl.
    const X32: [&str; 36] = [
        "rt_sigaction",
        "rt_sigreturn",
        "ioctl",
        "readv",
        "writev",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "execve",
        "ptrace",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "sigaltstack",
        "timer_create",
        "mq_notify",
        "kexec_load",
        "waitid",
        "set_robust_list",
        "get_robust_list",
        "vmsplice",
        "move_pages",
        "preadv",
        "pwritev",
        "rt_tgsigqueueinfo",
        "recvmmsg",
        "sendmmsg",
        "process_vm_readv",
        "process_vm_writev",
        "setsockopt",
        "getsockopt",
        "io_setup",
        "io_submit",
        "execveat",
        "preadv2",
        "pwritev2",
    ];
    match table {
        Table::Native => x86_64::Sysno::new(number).map(|call| call.name()),
        Table::Compat => x86::Sysno::new(number).map(|call| call.name()),
        Table::X32 => match number.checked_sub(512) {
            Some(own) => X32.get(own).copied(),
            None => x86_64::Sysno::new(number).map(|call| call.name()),
        },
    }
}

#[cfg(target_arch = "aarch64")]
fn known(table: Table, number: usize) -> Option<&'static str> {
    use syscalls::{aarch64, arm};
    match table {
        Table::Native => aarch64::Sysno::new(number).map(|call| call.name()),
        Table::Compat => arm::Sysno::new(number).map(|call| call.name()),
        Table::X32 => None,
    }
}

/// Errors of a call that the kernel starts again, which no program sees, include/linux/errno.h.
const RESTARTED: [(u32, &str); 5] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
];

/// An error by its number.
pub fn error(number: u32) -> Cow<'static, str> {
    let restarted = RESTARTED.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    match restarted.or_else(|| Errno::new(number as i32).name()) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("errno_{number}")),
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::abi::call::code;

    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_table_has_its_names() {
        let named = |table, number| name(code(table, number));
        assert_eq!(named(Table::Native, libc::SYS_getdents64 as u32), "getdents64");
        assert_eq!(named(Table::Native, libc::SYS_newfstatat as u32), "newfstatat");
        assert_eq!(named(Table::Compat, 20), "i386:getpid");
        assert_eq!(
            (named(Table::X32, 39), named(Table::X32, 515)),
            ("x32:getpid".into(), "x32:readv".into())
        );
        assert_eq!(named(Table::X32, 547), "x32:pwritev2");
        assert_eq!(named(Table::Native, 9999), "syscall_9999");
    }

    #[test]
    fn errors_have_names() {
        assert_eq!(
            (error(2), error(11), error(4000)),
            ("ENOENT".into(), "EAGAIN".into(), "errno_4000".into())
        );
        assert_eq!(error(516), "ERESTART_RESTARTBLOCK");
    }
}
