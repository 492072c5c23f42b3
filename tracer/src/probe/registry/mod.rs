//! Every probe and its alternatives, in one ordered slice. Plan, attach, `doctor`, docs and tests derive from it. Here
//! stands what an alternative is; the probes themselves stand in the files beside.
//!
//! Alternatives stand in the order in which they are tried: by the cost of the whole, batch hooks before
//! per-page hooks; for like with like tp_btf, raw_tp, fentry, classic tracepoint, kprobe.

mod blocked;
mod call;
mod charge;
mod dead;
mod dirty;
mod life;
mod log;
mod oom;
mod signal;
mod work;

use std::fmt;

use tracer_ebpf::abi::offsets::Symbol;

use crate::kernel::Questions;

/// A way of attaching, by the word `doctor` and `--attach` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    TpBtf,
    RawTp,
    /// fentry and fexit.
    Fentry,
    Tracepoint,
    /// An iterator, which runs when it is read.
    Iterator,
    /// kprobe and kretprobe.
    Kprobe,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::TpBtf, Kind::RawTp, Kind::Fentry, Kind::Tracepoint, Kind::Kprobe, Kind::Iterator];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Iterator => "iter",
            Kind::TpBtf => "tp_btf",
            Kind::RawTp => "raw_tp",
            Kind::Fentry => "fentry",
            Kind::Tracepoint => "tracepoint",
            Kind::Kprobe => "kprobe",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a program hangs on.
#[derive(Debug, Clone, Copy)]
pub enum Hook {
    /// A tracepoint: group, event, the arguments a BTF or raw program reads.
    Event(&'static str, &'static str, u32),
    /// A function's entry: its names, first tried first, and its number of arguments.
    Entry(&'static [&'static str], u32),
    /// A function's return, likewise.
    Return(&'static [&'static str], u32),
    /// What an iterator goes over.
    Iterator(&'static str),
}

/// One program and its hook.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub program: &'static str,
    pub hook: Hook,
    /// The alternative is of use without it; its precision says how.
    pub optional: bool,
    /// It is attached only when there is something for it to see: others would pay for it.
    pub late: bool,
}

/// How often the programs of an alternative run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A few times per container or task.
    Rare,
    /// Once per batch of 32 or 64 pages.
    Batch,
    /// Once per page: on demand and for a bounded time only.
    Page,
    /// Once per folio of a file that becomes dirty or is written: thousands of instructions are spent on it anyway.
    Folio,
    /// With each write to a pipe or terminal and each read from one, or with each system call.
    Call,
    /// With each change of the running task.
    Switch,
}

/// One way of serving a probe: all its links attach, or none.
#[derive(Debug)]
pub struct Alternative {
    pub kind: Kind,
    pub links: &'static [Link],
    /// Numbers without which its programs cannot work.
    pub needs: &'static [Symbol],
    /// Groups of numbers of which one each is enough.
    pub needs_any: &'static [&'static [Symbol]],
    pub cost: Cost,
    /// What its numbers are worth.
    pub precision: &'static str,
    /// Tells it from another alternative with the same hooks.
    pub variant: Option<&'static str>,
    /// Of use only where the kernel preempts itself.
    pub for_preemption: bool,
}

/// What most alternatives have in common.
const ALTERNATIVE: Alternative = Alternative {
    kind: Kind::TpBtf,
    links: &[],
    needs: &[],
    needs_any: &[],
    cost: Cost::Rare,
    precision: "exact",
    variant: None,
    for_preemption: false,
};

impl Alternative {
    /// The hooks by name, as `doctor` prints them.
    pub fn target(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for link in self.links {
            let name = match link.hook {
                Hook::Event(_, event, _) | Hook::Iterator(event) => event,
                Hook::Entry(functions, _) | Hook::Return(functions, _) => functions[0],
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut target = names.join("+");
        if let Some(variant) = self.variant {
            target = format!("{target}.{variant}");
        }
        target
    }
}

/// One logical probe.
#[derive(Debug)]
pub struct Probe {
    pub name: &'static str,
    pub purpose: &'static str,
    pub alternatives: &'static [Alternative],
    /// Attached only for what the user chose, and for a bounded time: how to ask for it.
    pub on_demand: Option<&'static str>,
    /// What is lost if none attaches.
    pub lost: &'static str,
}

const fn event(program: &'static str, group: &'static str, name: &'static str, args: u32) -> Link {
    Link { program, hook: Hook::Event(group, name, args), optional: false, late: false }
}
const fn entry(program: &'static str, names: &'static [&'static str], args: u32) -> Link {
    Link { program, hook: Hook::Entry(names, args), optional: false, late: false }
}
const fn exit(program: &'static str, names: &'static [&'static str], args: u32) -> Link {
    Link { program, hook: Hook::Return(names, args), optional: false, late: false }
}

const fn optional(link: Link) -> Link {
    Link { optional: true, ..link }
}

const fn late(link: Link) -> Link {
    Link { late: true, ..optional(link) }
}

/// Probes of dirty pages, which only some commands ask for.
pub const OF_DIRTY_PAGES: [&str; 3] = [dirty::DIRTY.name, dirty::WRITEBACK_DONE.name, dirty::THROTTLE.name];

/// The probe of log lines, likewise.
pub const OF_LOG_LINES: &str = log::LOG_WRITE.name;

/// The probe of system calls.
pub const OF_CALLS: &str = call::SYSCALL.name;
/// The probe of signals, likewise.
pub const OF_SIGNALS: &str = signal::SIGNAL.name;

/// The probe of work in flight, likewise.
pub const OF_WORK: &str = work::ARRIVALS.name;

/// The probe of write-back, whose numbers have a command of their own.
pub const WRITTEN: &str = dirty::WRITEBACK_DONE.name;

/// Probes of uninterruptible sleep, likewise.
pub const OF_BLOCKED: [&str; 2] = [blocked::BLOCKED.name, blocked::BLOCKED_BEFORE.name];

/// All probes, in the order in which they are attached: lifecycle first, so that no cgroup is missed between.
pub const PROBES: &[Probe] = &[
    life::CGROUP_LIFE,
    life::TASK_LIFE,
    oom::OOM_KILL,
    oom::RECLAIM,
    signal::SIGNAL,
    charge::CHARGE,
    charge::CHARGE_SITE,
    log::LOG_WRITE,
    dirty::WRITEBACK_DONE,
    dirty::DIRTY,
    dirty::THROTTLE,
    dead::DEAD_CGROUPS,
    call::SYSCALL,
    work::ARRIVALS,
    blocked::BLOCKED,
    blocked::BLOCKED_BEFORE,
];

/// The probe of that name.
pub fn probe(name: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.name == name)
}

/// What the plan will have to know about the kernel.
pub fn questions() -> Questions {
    let mut questions = Questions::default();
    for link in PROBES.iter().flat_map(|probe| probe.alternatives).flat_map(|alternative| alternative.links) {
        match link.hook {
            Hook::Event(group, event, _) => {
                if !questions.tracepoints.contains(&(group, event)) {
                    questions.tracepoints.push((group, event));
                }
            }
            Hook::Entry(names, _) | Hook::Return(names, _) => {
                for name in names {
                    if !questions.functions.contains(name) {
                        questions.functions.push(name);
                    }
                }
            }
            Hook::Iterator(_) => {}
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_kernel() {
        let mut others = BTreeSet::new();
        for probe in PROBES {
            assert!(!probe.lost.is_empty() && !probe.purpose.is_empty());
            let mut of_probe = BTreeSet::new();
            for alternative in probe.alternatives {
                // Of a probe's alternatives one is attached, so these may share programs.
                let mut programs = BTreeSet::new();
                for link in alternative.links {
                    assert!(programs.insert(link.program), "{} is attached twice", link.program);
                    assert!(!others.contains(link.program), "{} is another probe's", link.program);
                    assert!(link.program.len() <= 16, "the kernel keeps 15 characters of {}", link.program);
                }
                of_probe.append(&mut programs);
            }
            others.append(&mut of_probe);
        }
    }

    #[test]
    fn batch_hooks_come_before_page_hooks() {
        let charge = probe("charge").expect("the charge probe");
        let first_page = charge.alternatives.iter().position(|a| a.cost == Cost::Page);
        let last_batch = charge.alternatives.iter().rposition(|a| a.cost == Cost::Batch);
        assert!(last_batch < first_page);
    }

    #[test]
    fn every_kind_has_its_word() {
        let words: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
