//! What a daemon's memory grew by, and what each candidate explains of it in bytes: unfinished log lines that it holds, and
//! requests that it keeps (connections, descriptors, threads). What is left when each is given all it may take is
//! unexplained, and said to be.
//!
//! Both bounds are generous on purpose: growth that they do not cover has another cause, and only that is claimed.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

use super::{
    evidence::{Evidence, Value},
    named,
};
use crate::{
    aggregator::{
        daemon::{Daemon, Daemons},
        row::How,
        stream::{Logs, Process},
    },
    quantity::bytes,
    resolve::Container,
};

/// Growth below this is not asked for its cause.
const LITTLE: u64 = 1 << 20;
/// A buffer that grows is copied, and the old one lies there until it is collected.
const COPIES: u64 = 2;
/// What a request takes that is kept: a thread's stack or a coroutine's, buffers, what was parsed. Measured of dockerd with
/// a stop that does not end: 70 to 165 KiB.
const REQUEST: u64 = 512 << 10;
/// Containers that are told one by one.
const TOLD: usize = 4;
/// Less than this unexplained is not worth a word, nor is less than half of the growth.
const NOTABLE: u64 = 16 << 20;

/// A candidate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cause {
    pub cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<Container>>,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What it explains: `None`, nobody counts what a request takes.
    pub bytes: Option<u64>,
    /// and at most.
    pub bytes_at_most: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Account {
    process: Process,
    growth: u64,
    causes: Vec<Cause>,
}

/// Of each daemon and reader of logs that grew.
pub(super) struct Accounts(HashMap<Process, Account>);

impl Accounts {
    pub fn of(logs: Option<&Logs>, daemons: Option<&Daemons>) -> Accounts {
        let mut accounts = HashMap::new();
        let readers = logs.iter().flat_map(|logs| &logs.readers);
        let lines = readers.clone().map(|reader| (&reader.process, reader.explained.as_slice()));
        let lines: HashMap<&Process, &[(u64, Arc<Container>)]> = lines.collect();
        let daemons = daemons.iter().flat_map(|daemons| &daemons.daemons).map(AsRef::as_ref);
        let kept: HashMap<&Process, &Daemon> =
            daemons.clone().map(|daemon| (&daemon.process, daemon)).collect();
        let grown = readers
            .map(|reader| (&reader.process, reader.anon_growth))
            .chain(daemons.map(|daemon| (&daemon.process, daemon.growth.anon)));
        for (process, growth) in grown {
            let Some(growth) =
                growth.and_then(|growth| u64::try_from(growth).ok()).filter(|by| *by >= LITTLE)
            else {
                continue;
            };
            let mut causes: Vec<Cause> = lines
                .get(process)
                .iter()
                .flat_map(|lines| lines.iter())
                .map(|(held, container)| Cause {
                    cause: "unfinished-line",
                    container: Some(Arc::clone(container)),
                    count: None,
                    bytes: Some((*held).min(growth)),
                    bytes_at_most: held.saturating_mul(COPIES).min(growth),
                })
                .collect();
            let requests = kept.get(process).map_or(0, |daemon| requests(daemon));
            if requests > 0 {
                causes.push(Cause {
                    cause: "kept-request",
                    container: None,
                    count: Some(requests),
                    bytes: None,
                    bytes_at_most: requests.saturating_mul(REQUEST).min(growth),
                });
            }
            // What was looked at over the longer time stands.
            let account = Account { process: process.clone(), growth, causes };
            accounts.entry(process.clone()).or_insert(account);
        }
        Accounts(accounts)
    }

    pub fn get(&self, process: &Process) -> Option<&Account> {
        self.0.get(process)
    }
}

/// Requests that it keeps more than at first: each has a connection, or a thread, or other descriptors.
fn requests(daemon: &Daemon) -> u64 {
    let more = [daemon.accepted_growth, daemon.growth.fds, daemon.growth.threads];
    more.into_iter().flatten().max().and_then(|most| u64::try_from(most).ok()).unwrap_or(0)
}

impl Account {
    /// At least.
    fn unexplained(&self) -> u64 {
        let most = self.causes.iter().fold(0_u64, |sum, cause| sum.saturating_add(cause.bytes_at_most));
        self.growth.saturating_sub(most)
    }

    fn is_unexplained(&self) -> bool {
        self.unexplained() >= NOTABLE.max(self.growth / 2)
    }

    /// With what each candidate explains, and what none does.
    pub fn tell(account: Option<&Account>, evidence: Evidence) -> Evidence {
        let Some(account) = account else { return evidence };
        let causes: Vec<Cause> = account.causes.iter().take(TOLD + 1).cloned().collect();
        evidence.with_how("growth_causes", "of it", Value::Causes(causes), Some(How::Inferred)).with_how(
            "unexplained",
            "of the growth has another cause",
            Value::Bytes(Some(account.unexplained())),
            Some(How::AtLeast),
        )
    }

    /// What is to be said where the candidates do not explain it.
    pub fn doubt(account: Option<&Account>) -> Option<String> {
        let account = account.filter(|account| account.is_unexplained())?;
        Some(format!(
            "At least {} of what {} grew by is explained by nothing that was seen. Take a heap profile of it, twice, a \
             minute apart, and compare: a daemon written in Go gives it at /debug/pprof/heap of its debug or API address \
             (`ctr pprof heap`, `kubectl get --raw /api/v1/nodes/NODE/proxy/debug/pprof/heap`).",
            bytes(account.unexplained() as f64),
            named(&account.process)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            daemon_tests::{all, leaking},
            example::{MIB, container, logs, reader},
        },
        *,
    };
    use crate::aggregator::{
        daemon::{Growth, Role},
        stream::Reader,
    };

    fn held(bytes: u64, growth: u64) -> Logs {
        let explained = vec![(bytes, Arc::new(container("shop", "web-7", "web")))];
        logs([], [Reader { anon_growth: Some(growth as i64), explained, ..reader(growth) }])
    }

    fn account(logs: &Logs, daemons: Option<&Daemons>) -> Account {
        let accounts = Accounts::of(Some(logs), daemons);
        accounts.get(&reader(0).process).expect("it grew").clone()
    }

    #[test]
    fn lines_that_are_held_explain_growth() {
        let account = account(&held(400 * MIB, 700 * MIB), None);
        assert_eq!(account.unexplained(), 0);
        assert_eq!((account.causes[0].bytes, account.causes[0].bytes_at_most), (Some(400 * MIB), 700 * MIB));
        assert_eq!(Account::doubt(Some(&account)), None);
    }

    #[test]
    fn growth_that_no_candidate_covers_is_said_to_be_unexplained() {
        let account = account(&held(10 * MIB, 700 * MIB), None);
        assert_eq!(account.unexplained(), 680 * MIB);
        let says = Account::doubt(Some(&account)).expect("it is much");
        assert!(
            says.contains("680 MiB") && says.contains("containerd[812]") && says.contains("heap"),
            "{says}"
        );
    }

    #[test]
    fn requests_that_are_kept_explain_a_bounded_part() {
        let reader = reader(0).process;
        let leaking = leaking(812, "containerd", Role::Server);
        let daemon = |fds, anon| Daemon {
            process: reader.clone(),
            growth: Growth { fds: Some(fds), anon: Some(anon), ..leaking.growth },
            accepted_growth: Some(20),
            ..leaking.clone()
        };
        let of = |fds, anon| account(&logs([], []), Some(&all([daemon(fds, anon)])));
        assert_eq!(of(40, 3 << 20).unexplained(), 0);
        let much = of(40, 200 << 20);
        assert_eq!((much.causes[0].count, much.causes[0].bytes), (Some(40), None));
        assert_eq!(much.unexplained(), 180 << 20);
        assert!(Account::doubt(Some(&much)).is_some());
        let accounts = Accounts::of(None, Some(&all([daemon(0, -5)])));
        assert!(accounts.get(&reader).is_none(), "it does not grow");
    }
}
