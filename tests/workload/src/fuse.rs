//! A FUSE server of one directory that takes requests about its files and never answers them. The directory itself is well.

use std::{ffi::OsStr, mem, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, MountOption, ReplyAttr,
    ReplyEntry, Request, Session,
};

use crate::report;

/// Mount a directory whose files nobody gets to know: the server takes each request and keeps it
#[derive(Args)]
pub(crate) struct Fuse {
    /// Where
    mount: PathBuf,
    /// The name of its file
    file: String,
}

const FILE: INodeNo = INodeNo(2);

struct Silent {
    file: String,
}

fn attr(ino: INodeNo, kind: FileType) -> FileAttr {
    let time = std::time::UNIX_EPOCH;
    FileAttr {
        ino,
        size: 4096,
        blocks: 8,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Silent {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == OsStr::new(&self.file) {
            // That it is there is all that is said: what it is like is asked for each time.
            reply.entry(&Duration::ZERO, &attr(FILE, FileType::RegularFile), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino == FILE {
            // Dropped, it would be answered.
            mem::forget(reply);
        } else {
            reply.attr(&Duration::from_secs(3600), &attr(ino, FileType::Directory));
        }
    }
}

impl Fuse {
    pub(crate) fn run(self) -> Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("silent".to_owned())];
        let silent = Silent { file: self.file };
        let session = Session::new(silent, &self.mount, &config);
        let session = session.with_context(|| format!("cannot mount at {}", self.mount.display()))?;
        report::line(r#"{"done_bytes":0}"#)?;
        session.run().context("cannot serve")
    }
}
