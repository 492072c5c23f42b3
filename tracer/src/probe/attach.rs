//! ACTION: the only code that talks to the loader. Loads the object with its numbers, tries alternatives, and
//! takes them away again.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::ProgramArray,
    programs::{Program, ProgramError},
};
use thiserror::Error;
use tracer_ebpf::abi::{
    offsets::{ABSENT, Symbol},
    setting::{self, Call},
};

use super::{
    plan::{LOCKED_DOWN, Planned, function},
    registry::{self, Alternative, GoesOn, Hook, Kind, Link, Probe},
};
use crate::kernel::{Facts, tracefs};

/// The kernel programs, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace-ebpf"));

/// Lines of a verifier log that are worth printing: it may be hundreds of thousands long.
const LOG_TAIL: usize = 6;

#[derive(Debug, Error)]
pub enum AttachError {
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    #[error("probe {probe} cannot be attached as asked: {why}")]
    Required { probe: &'static str, why: String },
}

/// How large the maps are made.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Memory cgroups that can be counted at once.
    pub cgroups: u32,
    /// Tasks that can be between a function's entry and its return.
    pub in_flight: u32,
    /// Memory cgroups, sites and stacks of charges.
    pub sites: [u32; 3],
    /// Streams of log lines, and groups of lengths of their lines.
    pub streams: u32,
    pub lengths: u32,
    /// Files whose pages became dirty.
    pub dirty: u32,
    /// Dead cgroups that are told one by one, and living ones around them.
    pub dead: [u32; 2],
}

impl Sizes {
    /// Room for as many cgroups again as there are, and for a thousand beyond; what is not used is one entry.
    pub fn new(cgroups: usize, facts: &Facts) -> Sizes {
        let room = (cgroups * 2 + 1024).next_power_of_two().clamp(2048, 32768);
        Sizes {
            cgroups: room as u32,
            in_flight: in_flight(facts),
            sites: [1; 3],
            streams: 1,
            lengths: 1,
            dirty: 1,
            dead: [1, 1024],
        }
    }

    /// For an object that only follows charges to their sites: a stack takes 300 bytes.
    pub fn of_sites(facts: &Facts) -> Sizes {
        let sites = [TARGETS, 4096, 2048];
        Sizes {
            cgroups: 1,
            in_flight: in_flight(facts),
            sites,
            streams: 1,
            lengths: 1,
            dirty: 1,
            dead: [1; 2],
        }
    }

    /// With dead cgroups one by one: each takes 184 bytes.
    pub fn with_dead(mut self) -> Sizes {
        self.dead[0] = 8192;
        self
    }

    /// With streams of log lines: two for each container, and pipes that turn out to be none. A group of lengths takes
    /// a KiB, and an ordinary stream has about four.
    pub fn with_logs(mut self, lengths: bool) -> Sizes {
        self.streams = (self.cgroups * 2).clamp(4096, 32768);
        self.lengths = if lengths { self.streams } else { 1 };
        self
    }

    /// With the files that become dirty.
    pub fn with_dirty(mut self) -> Sizes {
        self.dirty = FILES;
        self
    }
}

/// Memory cgroups whose charges can be followed at once.
pub const TARGETS: u32 = 1024;

/// Files made dirty, by process and memory cgroup; those at rest are taken out before there is no room.
pub const FILES: u32 = 16384;
/// Processes of whose files some had no room.
const BEYOND: u32 = 1024;

/// Tasks that can be in a write or read at once, where entry and return are paired.
const FLIGHTS: u32 = 16384;

/// Tasks told apart by the copies of a program.
const TASKS: u32 = 1 << 16;

fn syscall(call: Call) -> u32 {
    let number = match call {
        Call::Write => libc::SYS_write,
        Call::Writev => libc::SYS_writev,
        Call::Pwritev2 => libc::SYS_pwritev2,
        Call::Sendto => libc::SYS_sendto,
        Call::Sendmsg => libc::SYS_sendmsg,
        Call::Read => libc::SYS_read,
        Call::Readv => libc::SYS_readv,
        Call::Preadv2 => libc::SYS_preadv2,
        Call::Splice => libc::SYS_splice,
        Call::Tee => libc::SYS_tee,
        Call::Vmsplice => libc::SYS_vmsplice,
        Call::Sendfile => libc::SYS_sendfile,
    };
    number as u32
}

fn in_flight(facts: &Facts) -> u32 {
    if facts.kprobe { 4096 } else { 1 }
}

/// What became of one alternative.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub alternative: &'static Alternative,
    /// It is (doctor: could be) attached.
    pub usable: bool,
    /// Why it is not the one that serves.
    pub why: Option<String>,
    /// What attaching took, if it was tried and done.
    pub took: Option<Duration>,
}

/// What became of one probe.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub probe: &'static Probe,
    pub chosen: Option<&'static Alternative>,
    pub attempts: Vec<Attempt>,
}

impl Outcome {
    /// Nothing could be tried, for a reason that is the same for all.
    pub fn refused(planned: &Planned, why: &str) -> Outcome {
        let attempts = planned.candidates.iter().map(|candidate| Attempt {
            alternative: candidate.alternative,
            usable: false,
            why: Some(candidate.why_not.clone().unwrap_or_else(|| why.to_owned())),
            took: None,
        });
        Outcome { probe: planned.probe, chosen: None, attempts: attempts.collect() }
    }

    /// Nothing is tried before it is asked for.
    pub fn at_rest(planned: &Planned) -> Outcome {
        Outcome::untried(planned, &on_demand(planned.probe))
    }

    /// This command has no use for it.
    pub fn unasked(planned: &Planned) -> Outcome {
        Outcome::untried(planned, "not asked for here")
    }

    fn untried(planned: &Planned, why: &str) -> Outcome {
        let attempts = planned.candidates.iter().map(|candidate| Attempt {
            alternative: candidate.alternative,
            usable: candidate.why_not.is_none(),
            why: Some(candidate.why_not.clone().unwrap_or_else(|| why.to_owned())),
            took: None,
        });
        Outcome { probe: planned.probe, chosen: None, attempts: attempts.collect() }
    }

    /// Why it is not served: by the first alternative that could be had if asked for, else by the last that was tried.
    pub fn why(&self) -> Option<&str> {
        let usable = self.attempts.iter().find(|attempt| attempt.usable);
        let refused = || self.attempts.iter().rev().find(|attempt| attempt.why.is_some());
        usable.or_else(refused)?.why.as_deref()
    }

    /// One line: what serves it, or what is lost and why.
    pub fn line(&self) -> String {
        match self.chosen {
            Some(chosen) => {
                format!("{}: {} {} ({})", self.probe.name, chosen.kind, chosen.target(), chosen.precision)
            }
            None if self.probe.on_demand.is_some() && self.attempts.iter().any(|attempt| attempt.usable) => {
                format!("{}: not attached; {}", self.probe.name, on_demand(self.probe))
            }
            None => {
                let why = self.why().unwrap_or("no alternative");
                format!("{}: not attached: {why}; {}", self.probe.name, self.probe.lost)
            }
        }
    }
}

/// The loaded object: maps exist, programs not yet.
pub struct Loader {
    pub ebpf: Ebpf,
    /// 15 MiB and 30 ms of parsing: there while something is attached, not for the whole run.
    btf: Option<Btf>,
    facts: Facts,
}

impl Loader {
    pub fn load(facts: &Facts, sizes: Sizes, log: u8) -> Result<Loader, AttachError> {
        // Where maps count against this limit; elsewhere it changes nothing.
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);
        let offsets: Vec<u32> =
            Symbol::ALL.iter().map(|symbol| facts.symbol(*symbol).unwrap_or(ABSENT)).collect();
        let lengths = u32::from(sizes.lengths > 1);
        let syscalls: Vec<u32> = Call::ALL.iter().map(|call| syscall(*call)).collect();
        // It parses the kernel's BTF and keeps that to itself: gone before ours is there.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        let btf = if facts.btf { Btf::from_sys_fs().ok() } else { None };
        loader
            .btf(btf.as_ref())
            .override_global(setting::OFFSETS, offsets.as_slice(), true)
            .override_global(setting::MEMORY_HIERARCHY, &facts.cgroup.memory_hierarchy, true)
            .override_global(aya_log::LEVEL, &log, false)
            .map_max_entries("CGROUPS", sizes.cgroups)
            .map_max_entries("RECLAIMS", sizes.cgroups)
            .map_max_entries("IN_FLIGHT", sizes.in_flight)
            .map_max_entries("SITE_TARGETS", sizes.sites[0])
            .map_max_entries("SITES", sizes.sites[1])
            .map_max_entries("STACKS", sizes.sites[2])
            .override_global(setting::SYSCALLS, syscalls.as_slice(), true)
            .override_global(setting::LENGTHS, &lengths, true)
            .map_max_entries("DEAD", sizes.dead[0])
            .map_max_entries("DEAD_SUMS", sizes.dead[1])
            .map_max_entries("STREAMS", sizes.streams)
            .map_max_entries("STREAM_MODES", sizes.streams)
            .map_max_entries("LENGTHS", sizes.lengths)
            .map_max_entries("DIRTY_FILES", sizes.dirty)
            .map_max_entries("DIRTY_BEYOND", if sizes.dirty > 1 { BEYOND } else { 1 })
            .map_max_entries("DIRTY_CGROUPS", if sizes.dirty > 1 { sizes.cgroups } else { 1 })
            .map_max_entries("SEEN", if sizes.streams > 1 && facts.preemptible { TASKS } else { 1 })
            .map_max_entries("LOG_FLIGHT", if sizes.streams > 1 { FLIGHTS } else { 1 });
        if log == 0 {
            // The smallest ring buffer is a page.
            loader.map_max_entries("AYA_LOGS", 4096);
        }
        let ebpf =
            loader.load(OBJECT).map_err(|error| match facts.maps_are_locked && locked_is_limited() {
                true => AttachError::Load(format!("{}; {LOCKED}", chain(&error))),
                false => AttachError::Load(chain(&error)),
            })?;
        Ok(Loader { ebpf, btf, facts: facts.clone() })
    }

    /// Attaches the first alternative that can be had.
    pub fn serve(&mut self, planned: &Planned) -> Result<Outcome, AttachError> {
        let mut outcome = Outcome { probe: planned.probe, chosen: None, attempts: Vec::new() };
        for candidate in &planned.candidates {
            let alternative = candidate.alternative;
            let why = candidate.why_not.clone();
            let mut attempt = Attempt { alternative, usable: false, why, took: None };
            if attempt.why.is_none() {
                if outcome.chosen.is_some() {
                    attempt.usable = true;
                    attempt.why = Some("not tried: a better alternative serves".to_owned());
                } else if candidate.on_demand {
                    attempt.usable = true;
                    attempt.why = Some(on_demand(planned.probe));
                } else {
                    match self.attach(alternative) {
                        Ok(took) => {
                            attempt.usable = true;
                            attempt.took = Some(took);
                            outcome.chosen = Some(alternative);
                        }
                        Err(why) => attempt.why = Some(why),
                    }
                }
            }
            outcome.attempts.push(attempt);
        }
        if planned.required && outcome.chosen.is_none() {
            let mut asked = planned.candidates.iter().zip(&outcome.attempts).rev();
            let why = asked.find(|(candidate, _)| !candidate.ruled_out);
            let why = why.and_then(|(_, attempt)| attempt.why.clone()).unwrap_or_default();
            return Err(AttachError::Required { probe: planned.probe.name, why });
        }
        Ok(outcome)
    }

    /// Tries every alternative of a probe, one at a time, and leaves none attached: what `doctor` reports.
    pub fn examine(&mut self, planned: &Planned) -> Outcome {
        let mut outcome = Outcome { probe: planned.probe, chosen: None, attempts: Vec::new() };
        for candidate in &planned.candidates {
            let alternative = candidate.alternative;
            let tried = match &candidate.why_not {
                Some(why) => Err(why.clone()),
                None => self.attach(alternative),
            };
            let (usable, took) = (tried.is_ok(), tried.as_ref().ok().copied());
            if usable {
                self.detach(alternative);
            }
            let why = match tried {
                Err(why) => Some(why),
                Ok(_) if candidate.on_demand => Some(on_demand(planned.probe)),
                Ok(_) if outcome.chosen.is_some() => Some("a better alternative serves".to_owned()),
                Ok(_) => None,
            };
            if usable && outcome.chosen.is_none() {
                outcome.chosen = Some(alternative);
            }
            outcome.attempts.push(Attempt { alternative, usable, why, took });
        }
        outcome
    }

    /// What attaching needs is given back; the next attach makes it again.
    pub fn rest(&mut self) {
        self.btf = None;
        // The C library keeps what was freed in small pieces.
        #[cfg(target_env = "gnu")]
        // SAFETY: it gives free memory back to the kernel and touches nothing that is in use.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// All links of an alternative, or none; returns what that took, the kernel's verifier included.
    pub fn attach(&mut self, alternative: &'static Alternative) -> Result<Duration, String> {
        let start = Instant::now();
        for link in alternative.links.iter().filter(|link| !link.late) {
            if let Err(why) = self.attach_link(alternative.kind, link)
                && !link.optional
            {
                self.detach(alternative);
                return Err(why);
            }
        }
        if let Err(error) = self.lead_on(alternative) {
            self.detach(alternative);
            return Err(error.to_string());
        }
        Ok(start.elapsed())
    }

    /// The links that wait until they are needed.
    pub fn attach_late(&mut self, alternative: &'static Alternative) -> Result<(), String> {
        for link in alternative.links.iter().filter(|link| link.late) {
            self.attach_link(alternative.kind, link)?;
        }
        self.lead_on(alternative).map_err(|error| error.to_string())
    }

    /// Programs that go on by tail calls find themselves in a map.
    fn lead_on(&mut self, alternative: &Alternative) -> anyhow::Result<()> {
        alternative.goes_on.iter().try_for_each(|goes_on| self.lead_on_in(goes_on))
    }

    fn lead_on_in(&mut self, goes_on: &GoesOn) -> anyhow::Result<()> {
        let mut programs = Vec::new();
        for (number, name) in goes_on.programs {
            let program =
                self.ebpf.program(name).with_context(|| format!("the object has no program {name}"));
            let fd = match program? {
                Program::BtfTracePoint(program) => program.fd(),
                Program::RawTracePoint(program) => program.fd(),
                Program::TracePoint(program) => program.fd(),
                Program::FExit(program) => program.fd(),
                Program::KProbe(program) => program.fd(),
                _ => Err(ProgramError::UnexpectedProgramType),
            };
            // One that waits to be needed is not loaded yet.
            if let Ok(fd) = fd {
                programs.push((*number, fd.try_clone()?));
            }
        }
        let map = self.ebpf.map_mut(goes_on.map);
        let map = map.with_context(|| format!("the object has no map {}", goes_on.map))?;
        let mut array = ProgramArray::try_from(map)?;
        for (number, fd) in programs {
            array.set(number, &fd, 0)?;
        }
        Ok(())
    }

    pub fn detach(&mut self, alternative: &Alternative) {
        for link in alternative.links {
            if let Some(program) = self.ebpf.program_mut(link.program) {
                // Not loaded is the one error, and then there is nothing to do.
                let _ = match program {
                    Program::BtfTracePoint(program) => program.unload(),
                    Program::RawTracePoint(program) => program.unload(),
                    Program::TracePoint(program) => program.unload(),
                    Program::FEntry(program) => program.unload(),
                    Program::FExit(program) => program.unload(),
                    Program::KProbe(program) => program.unload(),
                    Program::Iter(program) => program.unload(),
                    _ => Ok(()),
                };
            }
        }
    }

    /// One pass of an iterator that is attached: its program runs once for each thing it goes over.
    pub fn iterate(&mut self, program: &str) -> io::Result<()> {
        let Some(Program::Iter(program)) = self.ebpf.program_mut(program) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the iterator is not attached"));
        };
        // A pass takes a descriptor of its own, and aya gives the link away with it.
        let link = program.attach().and_then(|link| program.take_link(link));
        let mut pass = link.map_err(io::Error::other)?.into_file().map_err(io::Error::other)?;
        io::copy(&mut pass, &mut io::sink()).map(drop)
    }

    fn attach_link(&mut self, kind: Kind, link: &Link) -> Result<(), String> {
        let target = match link.hook {
            Hook::Event(_, event, _) | Hook::Iterator(event) => event,
            Hook::Entry(names, args) | Hook::Return(names, args) => match function(&self.facts, names) {
                // The plan looks at those that must be there.
                Some((name, found)) if found != args => {
                    return Err(format!("{name} takes {found} arguments, {args} are expected"));
                }
                found => found.map_or(names[0], |(name, _)| name),
            },
        };
        if self.btf.is_none() && self.facts.btf {
            self.btf = Btf::from_sys_fs().ok();
        }
        let program = self
            .ebpf
            .program_mut(link.program)
            .ok_or_else(|| format!("the object has no program {}", link.program))?;
        let btf = self.btf.as_ref();
        let done = (|| match (program, link.hook) {
            (Program::BtfTracePoint(program), Hook::Event(..)) => {
                program.load(target, btf.ok_or(ProgramError::NotLoaded)?)?;
                program.attach().map(drop)
            }
            (Program::RawTracePoint(program), Hook::Event(..)) => {
                program.load()?;
                program.attach(target).map(drop)
            }
            (Program::TracePoint(program), Hook::Event(group, ..)) => {
                program.load()?;
                tracefs::with_mounted(|| program.attach(group, target).map(drop))?
            }
            (Program::FEntry(program), Hook::Entry(..)) => {
                program.load(target, btf.ok_or(ProgramError::NotLoaded)?)?;
                program.attach().map(drop)
            }
            (Program::FExit(program), Hook::Return(..)) => {
                program.load(target, btf.ok_or(ProgramError::NotLoaded)?)?;
                program.attach().map(drop)
            }
            (Program::Iter(program), Hook::Iterator(..)) => {
                program.load(target, btf.ok_or(ProgramError::NotLoaded)?)?;
                program.attach().map(drop)
            }
            (Program::KProbe(program), Hook::Entry(..) | Hook::Return(..)) => {
                program.load()?;
                program.attach(target, 0).map(drop)
            }
            _ => Err(ProgramError::UnexpectedProgramType),
        })();
        done.map_err(|error| format!("{kind} {target}: {}", explain(kind, &error)))
    }
}

/// How to have what is not attached without being asked for.
fn on_demand(probe: &Probe) -> String {
    match probe.on_demand {
        Some(how) => format!("attached on demand: {how}"),
        None if probe.name == registry::WRITTEN => {
            "runs with each page that is charged (65-190 ns a fault): attached by `memtrace dirty`".to_owned()
        }
        None => "runs once a page (65-190 ns a fault): attached on demand, for a bounded time (--charges)"
            .to_owned(),
    }
}

const LOCKED: &str = "this kernel counts maps against RLIMIT_MEMLOCK, which could not be raised: it takes \
                      CAP_SYS_RESOURCE, or `ulimit -l unlimited`";

fn locked_is_limited() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current.is_some()
}

/// What a refusal means, in a sentence.
fn explain(kind: Kind, error: &ProgramError) -> String {
    let refused = matches!(
        error,
        ProgramError::LoadError { io_error, verifier_log }
            if io_error.kind() == io::ErrorKind::PermissionDenied && verifier_log.to_string().trim().is_empty()
    );
    if refused && kind == Kind::Fentry {
        return "this kernel refuses trampolines in its text (EPERM with an empty verifier log)".to_owned();
    }
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        // The helper is there but not given out; `/sys/kernel/security` may not be mounted to say so.
        if log.contains("unknown func bpf_probe_read") {
            return LOCKED_DOWN.to_owned();
        }
        let tail: Vec<&str> = log.lines().rev().take(LOG_TAIL).collect();
        let tail: Vec<&str> = tail.into_iter().rev().map(str::trim).collect();
        return format!("the kernel refused the program: {io_error}: {}", tail.join(" | "));
    }
    chain(error)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
