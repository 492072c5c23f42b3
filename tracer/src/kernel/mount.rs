//! A mount of our own, which nobody else sees and which ends with its last descriptor.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// The root of a new one of this type, as a directory that can be read.
pub fn detached(file_system: &str) -> io::Result<OwnedFd> {
    let context = fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(openat(&mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
