//! Hosts that nobody recorded, made from facts of one that was: what a kernel may lack, and how its cgroups may be mounted.
//! Shared by the tests of the plan and by the page that tells what is promised.

use std::path::PathBuf;

use tracer::kernel::{Facts, cgroup::Version};

/// Takes something away.
pub type Change = fn(&mut Facts);

pub fn no_btf(facts: &mut Facts) {
    facts.btf = false;
    facts.functions.clear();
    facts.symbols.retain(|name, _| name.starts_with("Tp"));
    for tracepoint in facts.tracepoints.values_mut() {
        tracepoint.btf_args = None;
    }
}

pub fn no_tracefs(facts: &mut Facts) {
    facts.tracefs = false;
    facts.symbols.retain(|name, _| !name.starts_with("Tp"));
    for tracepoint in facts.tracepoints.values_mut() {
        tracepoint.classic = false;
    }
}

pub fn no_fentry(facts: &mut Facts) {
    facts.refused.insert("fentry".to_owned(), "this kernel refuses trampolines in its text".to_owned());
}

pub fn no_kprobe(facts: &mut Facts) {
    facts.kprobe = false;
}

pub fn neither(facts: &mut Facts) {
    no_fentry(facts);
    no_kprobe(facts);
}

pub fn tracepoints_alone(facts: &mut Facts) {
    neither(facts);
    for kind in ["tp_btf", "raw_tp"] {
        facts.refused.insert(kind.to_owned(), "refused".to_owned());
    }
}

/// The kernel then opens no file of tracefs and gives no program the helper that reads kernel memory.
pub fn confidentiality(facts: &mut Facts) {
    no_tracefs(facts);
    facts.lockdown = Some("confidentiality".to_owned());
}

pub fn integrity(facts: &mut Facts) {
    facts.lockdown = Some("integrity".to_owned());
}

pub fn v1(facts: &mut Facts) {
    facts.cgroup.version = Version::V1;
    facts.cgroup.memory = PathBuf::from("/sys/fs/cgroup/memory");
    facts.cgroup.memory_v2 = false;
    facts.cgroup.memory_hierarchy = 4;
}

pub fn hybrid(facts: &mut Facts) {
    v1(facts);
    facts.cgroup.version = Version::Hybrid;
}

/// v2 whose root keeps the memory controller for itself.
pub fn root_only(facts: &mut Facts) {
    facts.cgroup.memory_handed_on = false;
}
