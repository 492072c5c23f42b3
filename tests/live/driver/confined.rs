//! A command that may less, or sees less, than root: another user, fewer capabilities, directories hidden from it.

use std::{ffi::CString, io, os::unix::process::CommandExt as _, process::Command};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set, unshare_unsafe},
};

const NOBODY: u32 = 65534;

/// As a user who owns nothing.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// As root without these: what is not in the bounding set is not had after exec.
pub fn without(command: &mut Command, missing: CapabilitySet) -> &mut Command {
    let act = move || {
        for (_, capability) in missing.iter_names() {
            remove_capability_from_bounding_set(capability)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only calls prctl(2).
    unsafe { command.pre_exec(act) }
}

/// With an empty directory in the place of each of these, which nobody else sees.
pub fn blind_to<'a>(command: &'a mut Command, hidden: &[&str]) -> &'a mut Command {
    let hidden: Vec<CString> =
        hidden.iter().map(|path| CString::new(*path).expect("a path has no NUL")).collect();
    let act = move || -> io::Result<()> {
        // SAFETY: of the flags only the one for open files could make two threads disagree about descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        for path in &hidden {
            mount(c"tmpfs", path.as_c_str(), c"tmpfs", MountFlags::empty(), None)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only makes system calls on strings that exist already.
    unsafe { command.pre_exec(act) }
}
