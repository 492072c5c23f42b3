//! FACTS. What this kernel is and has: printable, loadable as JSON, no decisions. What a fact means for a
//! probe is decided in `probe::plan`.

pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod kallsyms;
pub mod mount;
pub mod privilege;
pub mod proc;
mod throttle;
pub mod tracefs;

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use tracer_ebpf::abi::offsets::Symbol;

use self::{
    btf::{KernelBtf, first_name, tracepoint_type},
    cgroup::Layout,
    tracefs::Tracefs,
};

/// What the probes want to know; the registry writes it.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    pub functions: Vec<&'static str>,
    /// (group, event)
    pub tracepoints: Vec<(&'static str, &'static str)>,
}

/// What is known of one tracepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracepoint {
    /// Arguments of `btf_trace_<event>`, when BTF has it.
    pub btf_args: Option<u32>,
    /// Whether tracefs lists it.
    pub classic: bool,
}

/// Everything the plan may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub release: String,
    pub arch: String,
    pub cpus: u32,
    pub btf: bool,
    pub tracefs: bool,
    /// The kprobe PMU exists (`CONFIG_KPROBE_EVENTS`).
    pub kprobe: bool,
    /// Maps count against RLIMIT_MEMLOCK (until 5.11, 80ee81e0403c).
    #[serde(default)]
    pub maps_are_locked: bool,
    /// A program can be interrupted by another task.
    #[serde(default)]
    pub preemptible: bool,
    /// A cgroup with many tasks that wait for its next slice of processor, where the kernel waits for each of them to put
    /// a trampoline there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<String>,
    /// `integrity`, `confidentiality` or nothing.
    pub lockdown: Option<String>,
    pub cgroup: Layout,
    pub capabilities_missing: Vec<String>,
    /// Numbers by the name of the symbol; absent ones are left out.
    pub symbols: BTreeMap<String, u32>,
    /// Arguments of each function that BTF knows.
    pub functions: BTreeMap<String, u32>,
    /// Tracepoints by `group/event`.
    pub tracepoints: BTreeMap<String, Tracepoint>,
    /// Attach kinds that the kernel refused when tried, with its words.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

impl Facts {
    /// Asks the running kernel. Fails only where nothing at all can be said: no cgroups.
    pub fn gather(questions: &Questions) -> Result<Facts, cgroup::LayoutError> {
        let cgroup = Layout::of_self()?;
        let btf = KernelBtf::open(names(questions)).ok();
        let tracefs = Tracefs::open().ok();
        let mut symbols = BTreeMap::new();
        for &symbol in Symbol::ALL {
            let value = symbol.spellings().iter().find_map(|spelling| match spelling.strip_prefix("tp ") {
                Some(field) => tracefs.as_ref()?.field(field),
                None => btf.as_ref()?.number(spelling),
            });
            if let Some(value) = value {
                symbols.insert(format!("{symbol:?}"), value);
            }
        }
        let functions = questions
            .functions
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), btf.as_ref()?.function_args(name)?)));
        let tracepoints = questions.tracepoints.iter().map(|(group, event)| {
            let fact = Tracepoint {
                btf_args: btf.as_ref().and_then(|btf| btf.tracepoint_args(event)),
                classic: tracefs.as_ref().is_some_and(|tracefs| tracefs.has(group, event)),
            };
            (format!("{group}/{event}"), fact)
        });
        let maps_are_locked = btf.as_ref().is_some_and(|btf| btf.number(LOCKED_MAPS).is_some());
        Ok(Facts {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: aya::util::nr_cpus().unwrap_or(1) as u32,
            btf: btf.is_some(),
            tracefs: tracefs.is_some(),
            kprobe: Path::new("/sys/bus/event_source/devices/kprobe").exists(),
            maps_are_locked,
            preemptible: preemptible(btf.as_ref()),
            crowd: crowd(&cgroup),
            lockdown: lockdown(),
            cgroup,
            capabilities_missing: privilege::missing(maps_are_locked),
            symbols,
            functions: functions.collect(),
            tracepoints: tracepoints.collect(),
            refused: BTreeMap::new(),
        })
    }

    pub fn symbol(&self, symbol: Symbol) -> Option<u32> {
        self.symbols.get(&format!("{symbol:?}")).copied()
    }
}

fn crowd(cgroup: &Layout) -> Option<String> {
    let uname = rustix::system::uname();
    let (release, version) = (uname.release().to_string_lossy(), uname.version().to_string_lossy());
    let cpu = cgroup.cpu.as_deref().filter(|_| throttle::is_waited_for(&release, &version))?;
    throttle::crowd(cpu, Path::new("/proc"))
}

/// A field that maps have where they count against RLIMIT_MEMLOCK.
const LOCKED_MAPS: &str = "bpf_map.memory";
/// A function of kernels that can be lazy about preempting themselves.
const LAZY: &str = "resched_curr_lazy";

/// What is asked of BTF.
fn names(questions: &Questions) -> impl Iterator<Item = String> {
    let spellings = Symbol::ALL.iter().flat_map(|symbol| symbol.spellings()).copied().chain([LOCKED_MAPS]);
    let spellings = spellings.filter(|spelling| !spelling.starts_with("tp ")).map(first_name);
    let functions = questions.functions.iter().copied().chain([LAZY]).map(str::to_owned);
    let tracepoints = questions.tracepoints.iter().map(|(_, event)| tracepoint_type(event));
    spellings.chain(functions).chain(tracepoints)
}

/// Whether the kernel preempts itself: for one that can choose at boot (`PREEMPT_DYNAMIC`) what it chose, if debugfs tells,
/// else whether it can be lazy about it, which is the default where it is there (6.13, 7c70cb94d29c).
fn preemptible(btf: Option<&KernelBtf>) -> bool {
    let version = rustix::system::uname().version().to_string_lossy().into_owned();
    if !version.contains("PREEMPT") {
        return false;
    }
    if !version.contains("PREEMPT_DYNAMIC") {
        return true;
    }
    match fs::read_to_string("/sys/kernel/debug/sched/preempt") {
        Ok(modes) => modes.contains("(full)") || modes.contains("(lazy)"),
        Err(_) => btf.is_some_and(|btf| btf.function_args(LAZY).is_some()),
    }
}

/// The lockdown mode in force, from the bracketed word of `/sys/kernel/security/lockdown`.
fn lockdown() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = text.split_once('[')?.1.split_once(']')?.0;
    (mode != "none").then(|| mode.to_owned())
}
