//! Pure decision: over facts and wishes, which alternatives of each probe may be tried, in which order, and
//! why the others are passed over.

use thiserror::Error;
use tracer_ebpf::abi::offsets::Symbol;

use super::registry::{self, Alternative, Cost, Hook, Kind, Link, PROBES, Probe};
use crate::kernel::Facts;

/// What the user asked for beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub force: Vec<Force>,
    /// Per-page alternatives may be taken where nothing cheaper is there.
    pub per_page: bool,
    /// The same for what tells of write-back.
    pub written: bool,
    /// What is attached only on demand is wanted.
    pub on_demand: bool,
}

impl Wishes {
    /// Whether this probe may run once a page.
    fn pages_of(&self, probe: &Probe) -> bool {
        if probe.name == registry::WRITTEN { self.written } else { self.per_page }
    }
}

/// `[PROBE=]KIND[:TARGET]`: only alternatives of this kind may serve (the probe). A target is a whole one, or a part of
/// several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Force {
    pub probe: Option<&'static str>,
    pub kind: Kind,
    pub target: Option<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ForceError {
    #[error("there is no probe {0:?}; the probes are {list}", list = names())]
    Probe(String),
    #[error("{0:?} is no way of attaching; the ways are {list}", list = kinds())]
    Kind(String),
    #[error("probe {0} has no alternative {1}")]
    Nothing(String, String),
}

fn names() -> String {
    PROBES.iter().map(|probe| probe.name).collect::<Vec<_>>().join(", ")
}

fn kinds() -> String {
    Kind::ALL.map(Kind::as_str).join(", ")
}

impl Force {
    pub fn parse(text: &str) -> Result<Force, ForceError> {
        let (probe, rest) = match text.split_once('=') {
            Some((name, rest)) => {
                let known = registry::probe(name);
                (Some(known.ok_or_else(|| ForceError::Probe(name.to_owned()))?), rest)
            }
            None => (None, text),
        };
        let (kind, target) = match rest.split_once(':') {
            Some((kind, target)) => (kind, Some(target.to_owned())),
            None => (rest, None),
        };
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or_else(|| ForceError::Kind(rest.to_owned()))?;
        let force = Force { probe: probe.map(|probe| probe.name), kind, target };
        if let Some(probe) = probe
            && !probe.alternatives.iter().any(|alternative| force.fits(alternative))
        {
            return Err(ForceError::Nothing(probe.name.to_owned(), rest.to_owned()));
        }
        Ok(force)
    }

    fn fits(&self, alternative: &Alternative) -> bool {
        let whole = |target: &String| {
            let all = PROBES.iter().flat_map(|probe| probe.alternatives);
            all.filter(|other| other.kind == self.kind).any(|other| other.target() == *target)
        };
        alternative.kind == self.kind
            && self.target.as_ref().is_none_or(|target| match whole(target) {
                true => alternative.target() == *target,
                false => alternative.target().contains(target.as_str()),
            })
    }

    /// Whether it has a say about this probe: a bare kind speaks of the probes that have it.
    fn concerns(&self, probe: &Probe) -> bool {
        match self.probe {
            Some(name) => name == probe.name,
            None => probe.alternatives.iter().any(|alternative| self.fits(alternative)),
        }
    }
}

/// One alternative, and why it may not be tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub alternative: &'static Alternative,
    /// `None`: it may be tried.
    pub why_not: Option<String>,
    /// The user asked for another.
    pub ruled_out: bool,
    /// Usable, but not without being asked for.
    pub on_demand: bool,
}

/// What is planned for one probe.
#[derive(Debug, Clone)]
pub struct Planned {
    pub probe: &'static Probe,
    /// In the order of the registry.
    pub candidates: Vec<Candidate>,
    /// The user named it: it must attach.
    pub required: bool,
}

/// Decides. A function of its arguments alone.
pub fn plan(facts: &Facts, wishes: &Wishes) -> Vec<Planned> {
    PROBES
        .iter()
        .map(|probe| {
            let force = wishes.force.iter().rev().find(|force| force.concerns(probe));
            let candidates = probe.alternatives.iter().map(|alternative| {
                let other = force.filter(|force| !force.fits(alternative));
                let why_not = match other {
                    Some(force) => Some(format!("another alternative was asked for ({})", force.kind)),
                    None => hindrance(facts, alternative),
                };
                let dear = alternative.cost == Cost::Page && !wishes.pages_of(probe);
                let unasked = probe.on_demand.is_some() && !wishes.on_demand;
                let on_demand = why_not.is_none() && force.is_none() && (dear || unasked);
                Candidate { alternative, why_not, ruled_out: other.is_some(), on_demand }
            });
            let mut candidates: Vec<Candidate> = candidates.collect();
            if let Some(crowd) = facts.crowd.as_ref().filter(|_| force.is_none()) {
                spare(crowd, &mut candidates);
            }
            Planned { probe, candidates, required: force.is_some() }
        })
        .collect()
}

/// A trampoline would wait for a crowd: another way, where there is one, is there at once.
fn spare(crowd: &str, candidates: &mut [Candidate]) {
    let usable = |candidate: &Candidate| candidate.why_not.is_none() && !candidate.on_demand;
    let is_fentry = |candidate: &Candidate| candidate.alternative.kind == Kind::Fentry;
    if !candidates.iter().any(|candidate| usable(candidate) && !is_fentry(candidate)) {
        return;
    }
    for candidate in candidates.iter_mut().filter(|candidate| usable(candidate) && is_fentry(candidate)) {
        candidate.why_not = Some(format!(
            "many tasks of {crowd} wait for its next slice of processor, and this kernel would wait for each of them to \
             attach it; ask for it (--attach) to wait"
        ));
    }
}

/// Also said where only the kernel's refusal tells of it.
pub const LOCKED_DOWN: &str = "kernel lockdown (confidentiality) does not let the program read kernel memory";

/// Why this kernel cannot have the alternative, if it is known beforehand.
fn hindrance(facts: &Facts, alternative: &Alternative) -> Option<String> {
    if let Some(refusal) = facts.refused.get(alternative.kind.as_str()) {
        return Some(refusal.clone());
    }
    // A fentry on every page follows typed pointers only, which takes no helper (`LOCKDOWN_BPF_READ_KERNEL`): it is tried.
    let typed = alternative.kind == Kind::Fentry && alternative.cost == Cost::Page;
    if facts.lockdown.as_deref() == Some("confidentiality") && !typed {
        return Some(LOCKED_DOWN.to_owned());
    }
    if alternative.for_preemption && !facts.preemptible {
        return Some("this kernel does not preempt itself, so one program of each kind is enough".to_owned());
    }
    if alternative.kind == Kind::Kprobe && !facts.kprobe {
        return Some("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
    }
    if matches!(alternative.kind, Kind::TpBtf | Kind::Fentry | Kind::Iterator) && !facts.btf {
        return Some("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned());
    }
    alternative
        .links
        .iter()
        .filter(|link| !link.optional)
        .find_map(|link| missing_hook(facts, alternative.kind, link))
        .or_else(|| missing_symbol(facts, alternative))
}

fn missing_hook(facts: &Facts, kind: Kind, link: &Link) -> Option<String> {
    match link.hook {
        Hook::Event(group, event, args) => {
            let known = facts.tracepoints.get(&format!("{group}/{event}"));
            let absent = || Some(format!("this kernel has no tracepoint {group}:{event}"));
            match (kind, known) {
                (_, None) => absent(),
                (Kind::Tracepoint, Some(known)) => {
                    if facts.tracefs {
                        (!known.classic).then(absent)?
                    } else {
                        Some("tracefs cannot be read: mount it on /sys/kernel/tracing".to_owned())
                    }
                }
                (_, Some(known)) => match known.btf_args {
                    Some(found) if found < args => {
                        Some(format!("tracepoint {event} passes {found} arguments, {args} are needed"))
                    }
                    Some(_) => None,
                    None if kind == Kind::RawTp && known.classic => None,
                    None => absent(),
                },
            }
        }
        Hook::Entry(names, args) | Hook::Return(names, args) => match function(facts, names) {
            None => Some(format!("no function {} in this kernel's BTF", names.join(" or "))),
            Some((_, found)) if found == args => None,
            Some((name, found)) => Some(format!("{name} takes {found} arguments, {args} are expected")),
        },
        // Whether it has this one is told by trying.
        Hook::Iterator(_) => None,
    }
}

/// The first of a function's names that this kernel has, and its number of arguments.
pub fn function(facts: &Facts, names: &[&'static str]) -> Option<(&'static str, u32)> {
    names.iter().find_map(|name| facts.functions.get(*name).map(|args| (*name, *args)))
}

fn missing_symbol(facts: &Facts, alternative: &Alternative) -> Option<String> {
    let has = |symbol: &Symbol| facts.symbol(*symbol).is_some();
    let say = |symbol: Symbol| format!("needs {}, which this kernel does not tell", symbol.spellings()[0]);
    if let Some(symbol) = alternative.needs.iter().find(|symbol| !has(symbol)) {
        return Some(say(*symbol));
    }
    let group = alternative.needs_any.iter().find(|group| !group.iter().any(has))?;
    group.first().map(|symbol| say(*symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_speaks_of_probes_kinds_and_targets() {
        let force = Force::parse("charge=fentry:try_charge_memcg").expect("it names an alternative");
        assert_eq!((force.probe, force.kind), (Some("charge"), Kind::Fentry));
        let fitting = |word: &str| {
            let force = Force::parse(word).expect("it names an alternative");
            let all = PROBES.iter().flat_map(|probe| probe.alternatives);
            all.filter(|alternative| force.fits(alternative)).map(Alternative::target).collect::<Vec<_>>()
        };
        assert_eq!(
            fitting("log_write=tp_btf:sys_exit"),
            ["sys_exit"],
            "a whole target is no part of another"
        );
        // One of the probe of system calls has it, too.
        assert_eq!(fitting("log_write=tp_btf:sys_ex").len(), 3);
        assert!(matches!(Force::parse("nothing=fentry"), Err(ForceError::Probe(_))));
        assert!(matches!(Force::parse("uprobe"), Err(ForceError::Kind(_))));
        assert!(matches!(Force::parse("task_life=fentry"), Err(ForceError::Nothing(..))));
        let bare = Force::parse("fentry").expect("a bare kind");
        let concerned: Vec<&str> =
            PROBES.iter().filter(|probe| bare.concerns(probe)).map(|probe| probe.name).collect();
        assert_eq!(
            concerned,
            ["oom_kill", "signal", "charge", "charge_site", "log_write", "writeback_done", "dirty"],
            "a bare kind speaks of the probes that have it"
        );
    }
}
