//! Removed memory cgroups that the kernel keeps for the pages that are still charged to them: memory that is in no
//! directory any more, and which therefore no tool counts.
//!
//! A handful is ordinary: a service that was restarted leaves its page cache behind. Trouble is what they pin together, or how
//! many there are: each costs the kernel some kilobytes a CPU by itself.

use super::{
    Finding, Kind, Look, Nature, Severity,
    evidence::{Evidence, Value},
};
use crate::{
    aggregator::dead::{DeadReport, origin::Origin},
    quantity::{bytes, count, share},
    resolve::label::label,
};

const MIB: u64 = 1 << 20;
/// Fewer are nobody's trouble, whatever they pin.
const SEVERAL: u64 = 100;
/// So many are trouble, whatever they pin.
const MANY: u64 = 2000;
/// What they pin together, at the least and of the host's memory.
const NOTABLE: u64 = 256 * MIB;
const WARNING_SHARE: f64 = 0.01;
const CRITICAL_SHARE: f64 = 0.2;
/// Origins that are told.
const TOLD: usize = 8;

pub(super) fn check(look: &Look<'_>, dead: &DeadReport) -> Option<Finding> {
    let total = look.host.total?;
    let pinned = dead.pinned.total.unwrap_or(0);
    let part = pinned as f64 / total as f64;
    let severity = match part {
        part if dead.dead >= SEVERAL && part >= CRITICAL_SHARE => Severity::Critical,
        part if dead.dead >= SEVERAL && pinned >= NOTABLE && part >= WARNING_SHARE => Severity::Warning,
        _ if dead.dead >= MANY => Severity::Warning,
        _ if dead.dead >= SEVERAL => Severity::Info,
        _ => return None,
    };
    Some(Finding {
        id: Kind::DeadCgroups.as_str().to_owned(),
        kind: Kind::DeadCgroups,
        severity,
        // Who makes them, where that is one.
        container: dead.makers.first().and_then(|maker| maker.workload.clone()),
        daemon: None,
        summary: summary(dead, part),
        advice: advice(dead),
        refuted_by: "A `count` and a `pinned` that fall by themselves when memory is asked for: then it was clean page cache, \
                     which the kernel takes back."
            .to_owned(),
        evidence: evidence(dead),
        also: Vec::new(),
        weight: pinned,
        grown: None,
        nature: Nature::Plain,
    })
}

fn evidence(dead: &DeadReport) -> Evidence {
    let origins: Vec<&Origin> = dead.by_origin.iter().take(TOLD).collect();
    Evidence::default()
        .with_how(
            "count",
            "removed cgroups that the kernel keeps",
            Value::Count(Some(dead.dead)),
            dead.dead_how,
        )
        .with("pinned", "what they hold", Value::record(&dead.pinned))
        .with("pinned_bytes", "all of that", Value::Bytes(dead.pinned.total))
        .with_how(
            "inherited_slab",
            "kernel objects that those around them got",
            Value::Bytes(dead.inherited_slab),
            dead.inherited_slab.map(|_| crate::aggregator::row::How::Inferred),
        )
        .with_how(
            "made_per_s",
            "made in the last half minute",
            Value::PerSecond(dead.made_per_s),
            dead.made_per_s_how,
        )
        .with("by_origin", "", Value::record(&origins))
        .with("makers", "", Value::record(&dead.makers))
}

fn summary(dead: &DeadReport, part: f64) -> String {
    let pinned = match dead.pinned.total {
        Some(pinned) => format!("pin {} ({} of the host's memory)", bytes(pinned as f64), share(part)),
        None => "pin an unknown amount".to_owned(),
    };
    let most = dead.by_origin.first().map_or_else(String::new, |origin| {
        format!("; most came from {} ({} of them)", origin.origin, origin.count)
    });
    let made = match dead.makers.first() {
        Some(maker) if maker.made > 0 => {
            let by = maker
                .workload
                .as_ref()
                .map_or_else(String::new, |container| format!(" by {}", label(container)));
            format!("; {} more were made{by} in the last half minute", maker.made)
        }
        _ => String::new(),
    };
    let reparents =
        if dead.reparents { "; this kernel hands their pages to the cgroup around them" } else { "" };
    format!(
        "{} removed memory cgroups are still kept by the kernel and {pinned}: no container shows it{most}{made}{reparents}",
        count(dead.dead as f64)
    )
}

fn advice(dead: &DeadReport) -> Vec<String> {
    let mut advice = vec![
        "See where they came from and what they pin.".to_owned(),
        "$ memtrace cgroups -d 1".to_owned(),
        "What is page cache goes when the kernel drops it; this costs disk reads afterwards.".to_owned(),
        "$ sync; echo 1 > /proc/sys/vm/drop_caches".to_owned(),
    ];
    if dead.pinned.shmem.is_some_and(|shmem| shmem > 0) {
        advice.push(
            "What is tmpfs stays until its files are removed: look for files of deleted containers in tmpfs mounts \
             (`df -t tmpfs`, /dev/shm, emptyDir with medium Memory)."
                .to_owned(),
        );
    }
    if dead.made_per_s.is_some_and(|rate| rate > 0.1) {
        advice.push("Stop what makes them: a container that crashes and is started again leaves one behind each time.".to_owned());
    }
    advice
}
