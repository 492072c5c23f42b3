//! The kernel's log, `/dev/kmsg`: its reports of OOM kills, those from before attach too.
//!
//! - `record` is one record of the device; `report` follows the lines of a report; `constraint` takes the one line apart
//!   that names the cgroups.
//!
//! Only what the kernel itself wrote counts: a process that writes into the log cannot claim that facility. Names in it
//! are anybody's choice all the same.

mod constraint;
mod record;
mod report;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::{fstat, major, minor};

pub use self::{
    constraint::Constraint,
    report::{KernelKill, Parser, Process, Report},
};

/// The kernel's own bound of a record with its escapes.
const RECORD: usize = 8192;
/// Of a flooded log so many records are read in one go; the rest waits.
const AT_A_TIME: usize = 65_536;

/// An open log.
pub struct Kmsg {
    file: File,
    parser: Parser,
    buffer: Vec<u8>,
    /// How often records were overwritten before they were read.
    pub overwritten: u64,
    read: bool,
    /// The last look read all there was: what it did not tell did not happen.
    pub whole: bool,
}

/// `MEM_MAJOR` and its minor, from devices.txt: containers are often given something else by this name.
const DEVICE: (u32, u32) = (1, 11);

impl Kmsg {
    /// From its oldest record on.
    pub fn open() -> Result<Kmsg, String> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        let file = file.map_err(|error| {
            format!("/dev/kmsg cannot be read ({error}): it takes the device and CAP_SYSLOG")
        })?;
        let device = fstat(&file).map(|stat| (major(stat.st_rdev), minor(stat.st_rdev)));
        if device != Ok(DEVICE) {
            return Err("/dev/kmsg is not the kernel's log here".to_owned());
        }
        Ok(Kmsg {
            file,
            parser: Parser::default(),
            buffer: vec![0; RECORD],
            overwritten: 0,
            read: false,
            whole: false,
        })
    }

    /// The kills that were reported since it was read last.
    pub fn read(&mut self) -> Vec<KernelKill> {
        let mut kills = Vec::new();
        let overwritten = self.overwritten;
        let mut drained = false;
        for _ in 0..AT_A_TIME {
            match self.file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.read = true;
                    kills.extend(self.parser.line(&self.buffer[..length]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drained = true;
                    break;
                }
                // The ring went over us; the next read is of its oldest record.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    self.overwritten += 1;
                    self.parser.gap();
                }
                Err(_) => break,
            }
        }
        self.whole = self.read && drained && overwritten == self.overwritten;
        kills
    }
}
