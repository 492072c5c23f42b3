//! Classic tracepoints by name, from tracefs `format` files, whether or not tracefs is mounted: where it is
//! not, a detached mount is read.

use std::{fs, io, io::Read as _, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use super::mount::detached;

/// Where tracefs stands on an ordinary host.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// A `format` file is one page at most; anything longer is not one.
const FORMAT_LIMIT: u64 = 64 * 1024;

/// An open tracefs.
pub struct Tracefs(OwnedFd);

impl Tracefs {
    pub fn open() -> io::Result<Tracefs> {
        if let Some(place) = mounted() {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            return Ok(Tracefs(openat(CWD, place, flags, Mode::empty())?));
        }
        Ok(Tracefs(detached("tracefs")?))
    }

    pub fn has(&self, group: &str, event: &str) -> bool {
        self.format(&format!("{group}/{event}")).is_some()
    }

    /// Byte offset of `GROUP/EVENT.field` in the event's record.
    pub fn field(&self, spelling: &str) -> Option<u32> {
        let (event, field) = spelling.split_once('.')?;
        offset(&self.format(event)?, field)
    }

    fn format(&self, event: &str) -> Option<String> {
        let file = openat(
            &self.0,
            format!("events/{event}/format"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let mut text = String::new();
        fs::File::from(file.ok()?).take(FORMAT_LIMIT).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// A line is `field:<declaration>; offset:<n>; size:<n>; signed:<n>;`, the declaration ending in the name.
fn offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.rsplit(|c: char| c.is_whitespace() || c == '*').next()?;
        let name = name.split('[').next()?;
        (name == field).then(|| rest.trim().strip_prefix("offset:")?.split_once(';')?.0.parse().ok())?
    })
}

fn mounted() -> Option<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).join("events").is_dir())
}

/// Runs `work` with tracefs mounted at its usual place, since aya looks up a classic tracepoint's id by path.
/// A mount made for it is taken away again at once.
pub fn with_mounted<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    if mounted().is_some() {
        return Ok(work());
    }
    mount("tracefs", PLACES[0], "tracefs", MountFlags::empty(), None)?;
    let done = work();
    unmount(PLACES[0], UnmountFlags::DETACH)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::offset;

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(format in "(field:|;|offset:|\\PC|\n){0,200}") {
            offset(&format, "id");
        }
    }

    /// 7.2 reorders fields and 6.18 turns names into `__data_loc`: only the name counts.
    #[test]
    fn finds_fields_by_name() {
        let format = "name: cgroup_mkdir\nID: 300\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:int root;\toffset:8;\tsize:4;\tsigned:1;\n\
            \tfield:u64 id;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:__data_loc char[] path;\toffset:24;\tsize:4;\tsigned:0;\n\
            \tfield:char comm[16];\toffset:28;\tsize:16;\tsigned:0;\n";
        assert_eq!(offset(format, "root"), Some(8));
        assert_eq!(offset(format, "id"), Some(16));
        assert_eq!(offset(format, "path"), Some(24));
        assert_eq!(offset(format, "comm"), Some(28));
        assert_eq!(offset(format, "absent"), None);
        assert_eq!(offset("field:int x;\toffset:zero;", "x"), None, "garbage is no number");
    }
}
