//! ACTION: loads the object with its numbers, tries alternatives, and
//! takes them away again.

use std::{
    io, ptr,
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramError},
};
use thiserror::Error;
use tracer_ebpf::abi::{
    offsets::{ABSENT, Symbol},
    setting::{self, Call},
};

use super::{
    outcome::{Attempt, Outcome, on_demand},
    plan::{Planned, function},
    refusal::{chain, failed},
    registry::{Alternative, Hook, Kind, Link},
    size::Sizes,
    trampoline,
};
use crate::kernel::{Facts, tracefs};

/// The kernel programs, built by `build.rs`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memtrace-ebpf"));

#[derive(Debug, Error)]
pub enum AttachError {
    #[error("cannot load the kernel programs: {0}")]
    Load(String),
    #[error("probe {probe} cannot be attached as asked: {why}")]
    Required { probe: &'static str, why: String },
}

/// A load that a signal breaks off, as a stop and a continue do, is tried so often.
const TRIES: usize = 8;

/// The loaded object: maps exist, programs not yet.
pub struct Loader {
    pub ebpf: Ebpf,
    /// 15 MiB and 30 ms of parsing: there while something is attached, not for the whole run.
    btf: Option<Btf>,
    facts: Facts,
    trampolines: Vec<(&'static Alternative, trampoline::Held)>,
}

impl Loader {
    pub fn load(facts: &Facts, sizes: Sizes, log: u8) -> Result<Loader, AttachError> {
        // Where maps count against this limit; elsewhere it changes nothing.
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);
        let offsets: Vec<u32> =
            Symbol::ALL.iter().map(|symbol| facts.symbol(*symbol).unwrap_or(ABSENT)).collect();
        let lengths = u32::from(sizes.lengths > 1);
        let every = u32::from(sizes.calls.every);
        let room = [sizes.calls.buckets, sizes.calls.blocks];
        let lives = u32::from(sizes.work[1] > 1);
        let syscalls: Vec<u32> = Call::ALL.iter().map(|call| syscall(*call)).collect();
        // It parses the kernel's BTF and keeps that to itself: gone before ours is there.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        let btf = if facts.btf { Btf::from_sys_fs().ok() } else { None };
        loader
            .btf(btf.as_ref())
            .override_global(setting::OFFSETS, offsets.as_slice(), true)
            // A load that fails is tried again with a log, also after a signal (EAGAIN), which a stop is. A log of each instruction
            // takes many times as long as the load, and again for each room that it does not fit into; the reason is in this one, too.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(setting::MEMORY_HIERARCHY, &facts.cgroup.memory_hierarchy, true)
            .override_global(aya_log::LEVEL, &log, false)
            .override_global(setting::SYSCALLS, syscalls.as_slice(), true)
            .override_global(setting::LENGTHS, &lengths, true)
            .override_global(setting::EVERY_CALLER, &every, true)
            .override_global(setting::CALL_ROOM, room.as_slice(), true)
            .override_global(setting::LIVES, &lives, true);
        for (map, entries) in sizes.of_maps(facts) {
            loader.map_max_entries(map, entries);
        }
        if log == 0 {
            // The smallest ring buffer is a page.
            loader.map_max_entries("AYA_LOGS", 4096);
        }
        let ebpf =
            loader.load(OBJECT).map_err(|error| match facts.maps_are_locked && locked_is_limited() {
                true => AttachError::Load(format!("{}; {LOCKED}", chain(&error))),
                false => AttachError::Load(chain(&error)),
            })?;
        Ok(Loader { ebpf, btf, facts: facts.clone(), trampolines: Vec::new() })
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
        if let Err(why) = self.attach_links(alternative, false) {
            self.detach(alternative);
            return Err(why);
        }
        Ok(start.elapsed())
    }

    /// The links that wait until they are needed.
    pub fn attach_late(&mut self, alternative: &'static Alternative) -> Result<(), String> {
        self.attach_links(alternative, true)
    }

    fn attach_links(&mut self, alternative: &'static Alternative, late: bool) -> Result<(), String> {
        let kind = alternative.kind;
        let mut loaded = Vec::new();
        for link in alternative.links.iter().filter(|link| link.late == late) {
            match self.load_link(kind, link) {
                Ok(target) => loaded.push((link, target)),
                Err(_) if link.optional => {}
                Err(why) => return Err(why),
            }
        }
        if kind == Kind::Fentry {
            return self.hook_together(alternative, &loaded);
        }
        for (link, target) in loaded {
            let hooked = self.hook_link(link, target).map_err(failed(kind, target));
            hooked.or_else(|why| if link.optional { Ok(()) } else { Err(why) })?;
        }
        Ok(())
    }

    pub fn detach(&mut self, alternative: &Alternative) {
        self.trampolines.retain(|(of, _)| !ptr::eq(*of, alternative));
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

    /// Returns what it is to be attached to.
    fn load_link(&mut self, kind: Kind, link: &Link) -> Result<&'static str, String> {
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
        let mut load = || {
            let btf = btf.ok_or(ProgramError::NotLoaded);
            match program {
                Program::BtfTracePoint(program) => btf.and_then(|btf| program.load(target, btf)),
                Program::FEntry(program) => btf.and_then(|btf| program.load(target, btf)),
                Program::FExit(program) => btf.and_then(|btf| program.load(target, btf)),
                Program::Iter(program) => btf.and_then(|btf| program.load(target, btf)),
                Program::RawTracePoint(program) => program.load(),
                Program::TracePoint(program) => program.load(),
                Program::KProbe(program) => program.load(),
                _ => Err(ProgramError::UnexpectedProgramType),
            }
        };
        let mut done = load();
        for _ in 1..TRIES {
            if !is_broken_off(&done) {
                break;
            }
            done = load();
        }
        done.map(|()| target).map_err(failed(kind, target))
    }

    /// Of any kind but fentry.
    fn hook_link(&mut self, link: &Link, target: &str) -> Result<(), ProgramError> {
        match (self.ebpf.program_mut(link.program).ok_or(ProgramError::NotLoaded)?, link.hook) {
            (Program::BtfTracePoint(program), Hook::Event(..)) => program.attach().map(drop),
            (Program::RawTracePoint(program), Hook::Event(..)) => program.attach(target).map(drop),
            (Program::TracePoint(program), Hook::Event(group, ..)) => {
                tracefs::with_mounted(|| program.attach(group, target).map(drop))?
            }
            (Program::Iter(program), Hook::Iterator(..)) => program.attach().map(drop),
            (Program::KProbe(program), Hook::Entry(..) | Hook::Return(..)) => {
                program.attach(target, 0).map(drop)
            }
            _ => Err(ProgramError::UnexpectedProgramType),
        }
    }

    fn hook_together(
        &mut self,
        alternative: &'static Alternative,
        loaded: &[(&'static Link, &'static str)],
    ) -> Result<(), String> {
        let programs = self.ebpf.programs_mut().filter_map(|(name, program)| {
            let of = loaded.iter().find(|(link, _)| link.program == name)?;
            Some((*of, program))
        });
        let mut attached = Vec::new();
        let mut refusal = None;
        for ((link, target), done) in trampoline::attach(programs.collect()) {
            match done.map_err(failed(Kind::Fentry, target)) {
                Ok(fd) => attached.push(fd),
                Err(why) if !link.optional => refusal = Some(why),
                Err(_) => {}
            }
        }
        // Those of one that failed are dropped in the same way.
        let held = trampoline::Held::new(attached).map_err(|error| chain(&error))?;
        refusal.map_or(Ok(()), Err)?;
        self.trampolines.push((alternative, held));
        Ok(())
    }
}

const LOCKED: &str = "this kernel counts maps against RLIMIT_MEMLOCK, which could not be raised: it takes \
                      CAP_SYS_RESOURCE, or `ulimit -l unlimited`";

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
        Call::Exit => libc::SYS_exit,
        Call::ExitGroup => libc::SYS_exit_group,
        // The same in the 32-bit tables of x86 and arm but for the second.
        Call::CompatExit => 1,
        Call::CompatExitGroup if cfg!(target_arch = "x86_64") => 252,
        Call::CompatExitGroup => 248,
    };
    number as u32
}

/// The verifier gives up where a signal is pending, though the program is right (`do_check`, kernel/bpf/verifier.c).
fn is_broken_off(loaded: &Result<(), ProgramError>) -> bool {
    let Err(ProgramError::LoadError { io_error, .. }) = loaded else { return false };
    matches!(io_error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn locked_is_limited() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current.is_some()
}
