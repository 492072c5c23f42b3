//! Evidence for people: a value, how it is known, and what it is.

use super::super::unit;
use crate::{
    aggregator::row::How,
    finding::{
        Grower,
        evidence::{ContainerRate, Dirtier, Fact, Value},
    },
    metric::Unit,
    resolve::label::label,
};

/// The value, how it is known, what it is; `None` where there is nothing to show.
pub(super) fn cells(fact: &Fact) -> Option<(String, &'static str, String)> {
    let how = match fact.how {
        _ if !fact.value.is_known() => "unknown",
        None => "measured",
        Some(How::Inferred) => "inferred",
        Some(How::Sampled) => "sampled",
        Some(How::AtLeast) => "at least",
    };
    let size = |bytes: Option<f64>| unit::format(Unit::Bytes, bytes);
    let value = match &fact.value {
        // At least nothing says nothing.
        Value::Bytes(Some(0)) if fact.how == Some(How::AtLeast) => return None,
        Value::Word(word) => (*word).to_owned(),
        Value::Bytes(bytes) => size(bytes.map(|bytes| bytes as f64)),
        Value::Growth(Some(bytes)) if *bytes > 0 => format!("+{}", size(Some(*bytes as f64))),
        Value::Growth(bytes) => size(bytes.map(|bytes| bytes as f64)),
        Value::Rate(rate) => unit::format(Unit::Traffic, *rate),
        Value::PerSecond(rate) => unit::format(Unit::PerSecond, *rate),
        Value::Seconds(seconds) => unit::format(Unit::Seconds, *seconds),
        Value::Count(count) => unit::format(Unit::Count, count.map(|count| count as f64)),
        Value::Difference(difference) => {
            difference.map_or_else(|| "-".to_owned(), |difference| format!("{difference:+}"))
        }
        Value::Clients(None) => "-".to_owned(),
        Value::Clients(Some(clients)) if clients.is_empty() => return None,
        Value::Clients(Some(clients)) => {
            let names = clients.iter().map(|one| format!("{}[{}] {}", one.comm, one.pid, one.open));
            let names = names.collect::<Vec<_>>().join(", ");
            let open: u64 = clients.iter().map(|one| one.open).sum();
            return Some((open.to_string(), how, format!("{} {names}", fact.says)));
        }
        Value::Change(change) => change.map_or_else(|| "-".to_owned(), |change| format!("{change:+}")),
        Value::Share(of) => unit::format(Unit::Share, *of),
        Value::Peers(peers) if peers.is_empty() => return None,
        Value::Peers(peers) => {
            let names = peers.iter().map(|peer| format!("{} ({})", peer.addr, peer.count));
            return Some((
                peers.len().to_string(),
                how,
                format!("{} {}", fact.says, names.collect::<Vec<_>>().join(", ")),
            ));
        }
        Value::Calls(None) => "-".to_owned(),
        Value::Calls(Some(calls)) => {
            let told = calls.iter().map(|call| {
                format!("{} {} in {}", call.count, call.name, unit::format(Unit::Seconds, Some(call.total_s)))
            });
            let names = told.collect::<Vec<_>>().join(", ");
            return Some((calls.len().to_string(), how, format!("{}: {names}", fact.says)));
        }
        Value::Child(None) => "-".to_owned(),
        Value::Child(Some(child)) => {
            let time = |of: Option<f64>| unit::format(Unit::Seconds, of);
            let says = format!(
                "{} {}, median {}, longest {}",
                fact.says,
                child.comm,
                time(child.p50_s),
                time(child.max_s)
            );
            return Some((child.running.to_string(), how, says));
        }
        Value::Processes(processes) if processes.is_empty() => return None,
        Value::Processes(processes) => {
            let names = processes.iter().map(|process| format!("{}[{}]", process.comm, process.pid));
            let names = names.collect::<Vec<_>>().join(", ");
            return Some((processes.len().to_string(), how, format!("{} {names}", fact.says)));
        }
        Value::Parts(parts) => {
            let mut known: Vec<(&str, f64)> =
                parts.iter().filter_map(|(kind, rate)| Some((*kind, (*rate)?))).collect();
            known.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (most, rate) = known.first()?;
            let rest = known[1..].iter().filter(|(_, rate)| rate.abs() >= 1024.0);
            let rest = rest
                .map(|(kind, rate)| format!(", {kind} {}", unit::format(Unit::BytesPerSecond, Some(*rate))));
            let says = format!("{} {most}{}", fact.says, rest.collect::<String>());
            return Some((unit::format(Unit::BytesPerSecond, Some(*rate)), how, says));
        }
        Value::Grower(None) => "-".to_owned(),
        Value::Grower(Some(Grower { process, anon, bytes_per_s })) => {
            let holds = size(Some(*anon as f64));
            let says = format!("{} {}[{}], holds {holds}", fact.says, process.comm, process.pid);
            return Some((unit::format(Unit::BytesPerSecond, *bytes_per_s), how, says));
        }
        Value::Causes(causes) => {
            let told = causes.iter().map(|cause| match (&cause.container, cause.count) {
                (Some(container), _) => format!("a line of {}", label(container)),
                (None, count) => {
                    let most = size(Some(cause.bytes_at_most as f64));
                    format!(
                        "{} requests kept ({most} at most)",
                        unit::format(Unit::Count, count.map(|count| count as f64))
                    )
                }
            });
            let told = told.collect::<Vec<_>>();
            if told.is_empty() {
                return Some(("-".to_owned(), how, "no cause of it was seen".to_owned()));
            }
            let known: Vec<u64> = causes.iter().filter_map(|cause| cause.bytes).collect();
            let sum = (!known.is_empty()).then(|| known.iter().sum::<u64>() as f64);
            return Some((size(sum), how, format!("{} {}", fact.says, told.join(", "))));
        }
        Value::Record(_) => return None,
        Value::Dirtiers(dirtiers) if dirtiers.is_empty() => return None,
        Value::Dirtiers(dirtiers) => {
            let told = |dirtier: &Dirtier| {
                let path = dirtier.path.as_deref().map_or_else(String::new, |path| format!(" to {path}"));
                format!("{}[{}]{path}", dirtier.process.comm, dirtier.process.pid)
            };
            let most = size(dirtiers.first().map(|dirtier| dirtier.dirtied as f64));
            let names = dirtiers.iter().map(told).collect::<Vec<_>>().join(", ");
            return Some((most, how, format!("{} {names}", fact.says)));
        }
        Value::Containers(rates) if rates.is_empty() => return None,
        Value::Containers(rates) => {
            let told = |rate: &ContainerRate| {
                format!(
                    "{} {}",
                    label(&rate.container),
                    unit::format(Unit::BytesPerSecond, Some(rate.bytes_per_s))
                )
            };
            let names = rates.iter().map(told).collect::<Vec<_>>().join(", ");
            return Some((rates.len().to_string(), how, format!("{} {names}", fact.says)));
        }
    };
    Some((value, how, fact.says.to_owned()))
}
