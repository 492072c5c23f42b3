//! What a task waits on, in one phrase of words that people search for.

use super::{
    Blocker,
    cause::{self, Cause, Kind, Stack},
    mount::{Mount, Mounts},
    parse::bounded,
};

/// What the phrase is made of. Pure: nothing is looked up.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// Function names, the innermost first.
    pub stack: &'a [String],
    pub wchan: Option<&'a str>,
    /// The file that the system call is about, if its argument tells.
    pub file: Option<&'a str>,
    /// The mount that its descriptor is of.
    pub mount_id: Option<u64>,
    /// The path that the call was given, from the task's root on: where links lead elsewhere it is not where it waits.
    pub path: Option<&'a str>,
    /// As the task sees them.
    pub mounts: Option<&'a Mounts>,
    /// As the host sees them: where the layers of an overlay are.
    pub host: Option<&'a Mounts>,
    pub blocker: Option<&'a Blocker>,
    /// Its cgroup is frozen, or becomes it.
    pub frozen_cgroup: bool,
    /// It sleeps as one that waits for a device.
    pub io: bool,
}

/// The file system that is waited for.
struct Place<'a> {
    mount: &'a Mount,
    /// The overlay that lies over it.
    over: Option<&'a Mount>,
    /// Only a path says so.
    by_path: bool,
}

impl Place<'_> {
    fn title(&self) -> String {
        self.mount.title() + &self.aside()
    }

    /// What lies over it, and whether only a path says so.
    fn aside(&self) -> String {
        let over = self.over.map(|over| format!(", below overlay at {}", bounded(&over.point)));
        over.unwrap_or_default() + self.by_path()
    }

    fn by_path(&self) -> &'static str {
        if self.by_path { ", by its path" } else { "" }
    }
}

impl<'a> Known<'a> {
    fn cause(&self) -> Option<Cause> {
        match Stack::new(self.stack).cause() {
            None if self.io && !self.frozen_cgroup => Some(Cause::Block),
            cause => cause,
        }
    }

    pub fn kind(&self) -> Kind {
        match self.cause() {
            _ if self.blocker.is_some() => Kind::Lock,
            None if self.frozen_cgroup => Kind::FrozenCgroup,
            None => Kind::Other,
            Some(Cause::Page) => match self.place().map(|place| place.mount) {
                Some(mount) if mount.is_fuse() || mount.is_kind("nfs") => Kind::Server,
                Some(mount) if mount.kind == "tmpfs" => Kind::Lock,
                _ => Kind::Device,
            },
            Some(cause) => cause.kind(),
        }
    }

    /// Where it sleeps.
    fn function(&self) -> Option<&'a str> {
        self.wchan.filter(|name| !cause::is_sleeping(name)).or_else(|| Stack::new(self.stack).telling())
    }

    /// `None`: nothing is known.
    pub fn phrase(&self) -> Option<String> {
        let cause = self.cause();
        if let Some(blocker) = self.blocker {
            return Some(self.lock(cause, blocker));
        }
        if cause.is_none() && self.frozen_cgroup {
            return Some(String::from("frozen cgroup"));
        }
        let Some(cause) = cause else {
            let function = self.function()?;
            return Some(format!("kernel function {}", bounded(function)));
        };
        let place = self.place();
        Some(self.of(cause, place.as_ref()))
    }

    fn of(&self, cause: Cause, place: Option<&Place<'_>>) -> String {
        let family = Stack::new(self.stack).family();
        let title = place.map(Place::title).or_else(|| family.map(str::to_owned));
        let of = |words: &str| {
            title.as_ref().map_or_else(|| words.to_owned(), |title| format!("{words} of {title}"))
        };
        match cause {
            Cause::Vfork => String::from("vfork child"),
            Cause::FrozenCgroup => String::from("frozen cgroup"),
            Cause::FrozenFile => match title {
                Some(title) => format!("frozen file system {title}"),
                None => String::from("frozen file system"),
            },
            Cause::Server(family) => server(family, place),
            // A page of a file says by its file's mount who is to deliver it.
            Cause::Page => match place.map(|place| place.mount) {
                Some(mount) if mount.is_fuse() => server("fuse", place),
                Some(mount) if mount.is_kind("nfs") => server("nfs", place),
                Some(mount) if mount.kind == "tmpfs" => String::from("page lock"),
                None if family.is_none() && self.device().is_none() => {
                    String::from("page of a file, to be read or written")
                }
                _ => self.block(place),
            },
            Cause::Block => self.block(place),
            Cause::PageLock => of("page lock"),
            Cause::Throttled => match place {
                Some(place) => format!("dirty page write-back (throttled) of {}", place.title()),
                None => String::from("dirty page write-back (throttled)"),
            },
            Cause::Writeback => of("write-back"),
            Cause::Journal => of("journal commit"),
            Cause::Reclaim => String::from("direct reclaim"),
            Cause::SwapIn => String::from("swap-in"),
            Cause::Lock(words) | Cause::Another(words) => match place {
                Some(place) => format!("{words}, {}", place.title()),
                None => words.to_owned(),
            },
            Cause::Told(_, words) => words.to_owned(),
        }
    }

    /// A lock that the kernel names, and its owner.
    fn lock(&self, cause: Option<Cause>, blocker: &Blocker) -> String {
        let lock = match cause {
            Some(Cause::Lock(lock)) => lock.to_owned(),
            _ => match self.function() {
                Some(function) if blocker.owner.is_none() => {
                    format!("{} in {}", blocker.kind, bounded(function))
                }
                _ => blocker.kind.to_owned(),
            },
        };
        let held = match &blocker.owner {
            Some((pid, tid, comm)) if pid == tid => format!("{lock} held by {}[{pid}]", bounded(comm)),
            Some((pid, tid, comm)) => format!("{lock} held by {}[{pid}, thread {tid}]", bounded(comm)),
            None => lock,
        };
        match self.place() {
            Some(place) => format!("{held}, {}", place.title()),
            None => held,
        }
    }

    fn block(&self, place: Option<&Place<'_>>) -> String {
        if let Some(device) = self.device() {
            return format!("block I/O on {}", bounded(device));
        }
        match (place, Stack::new(self.stack).family()) {
            (Some(place), _) if place.mount.is_of_device() => {
                let Place { mount, .. } = place;
                let (device, kind, point) = (bounded(&mount.source), &mount.kind, bounded(&mount.point));
                format!("block I/O on {device} ({kind} at {point}{})", place.aside())
            }
            (Some(place), _) => format!("block I/O of {}", place.title()),
            (None, Some(family)) => format!("block I/O of {family}"),
            (None, None) => String::from("block I/O"),
        }
    }

    /// The call is about a device itself.
    fn device(&self) -> Option<&'a str> {
        let is = self.stack.iter().any(|name| name.starts_with("blkdev_") || name.starts_with("__blkdev_"));
        self.file.filter(|file| is && file.starts_with("/dev/"))
    }

    /// The mount of the call's file, as long as the stack does not speak of another kind; else the only one of the kind that
    /// the stack speaks of.
    fn place(&self) -> Option<Place<'a>> {
        let mounts = self.mounts?;
        let family = Stack::new(self.stack).family();
        let own = match (self.mount_id, self.file, self.path) {
            // Not in the list: of another namespace, or no longer mounted.
            (Some(id), ..) => mounts.by_id(id),
            (None, Some(path), _) | (None, None, Some(path)) => mounts.of(path),
            (None, None, None) => None,
        };
        let by_path = self.mount_id.is_none() && self.file.is_none();
        let own = own.map(|mount| Place { by_path, ..self.below(mount) });
        let fits = |place: &Place<'_>| family.is_none_or(|family| place.mount.is_kind(family));
        own.filter(fits).or_else(|| Some(Place { mount: mounts.only(family?)?, over: None, by_path: false }))
    }

    /// An overlay keeps nothing itself.
    fn below(&self, mount: &'a Mount) -> Place<'a> {
        let upper = mount.upper.as_deref().filter(|_| mount.kind == "overlay");
        match upper.and_then(|upper| self.host?.of(upper)) {
            Some(below) => Place { mount: below, over: Some(mount), by_path: false },
            None => Place { mount, over: None, by_path: false },
        }
    }
}

fn server(family: &str, place: Option<&Place<'_>>) -> String {
    let name = match family {
        "cifs" => String::from("SMB"),
        "ceph" => String::from("Ceph"),
        "afs" | "fuse" | "nfs" => family.to_uppercase(),
        other => other.to_owned(),
    };
    let by_path = place.map_or("", Place::by_path);
    match place.map(|place| place.mount) {
        Some(mount) if family == "fuse" && mount.is_fuse() => {
            format!(
                "{name} server of {} ({}{by_path}), which does not answer",
                bounded(&mount.point),
                bounded(&mount.kind)
            )
        }
        Some(mount) if mount.is_kind(family) => {
            format!(
                "{name} server {} at {}{by_path}, which does not answer",
                bounded(&mount.source),
                bounded(&mount.point)
            )
        }
        _ => format!("{name} server, which does not answer"),
    }
}
