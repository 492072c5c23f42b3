//! Requests that pile up: more come than end, each holds memory until it does, and so memory grows with their number.
//!
//! Two signs, each of which is enough for a pile: connections accepted and not closed, and children alive. Both must grow
//! with the anonymous memory, not only beside it: a leak in a busy server does not, nor do connections that hold nothing.

use std::sync::Arc;

use super::{
    Finding, Grown, Kind, Look, Nature, Severity,
    evidence::{Evidence, SlowCall, SlowChild, Value},
    remedy,
    work::{Course, Courses, LEAST, Moment},
};
use crate::{
    aggregator::{
        call::CallReport,
        daemon::{CLIENTS, Daemon, Daemons},
        row::{How, Row},
        stream::Process,
        work::flight::{Child, Flight},
    },
    quantity::{bytes, seconds, share},
    resolve::label::label,
};

const WARNING_SECONDS: f64 = 600.0;
const CRITICAL_SECONDS: f64 = 60.0;
/// Slower is not worth a word, bytes a second.
const SLOW: f64 = 64.0 * 1024.0;
/// Less memory for each more in flight is what any connection costs.
const HELD: f64 = 32.0 * 1024.0;
/// Of as many as arrive at least so many must not end.
const LEFT: f64 = 0.05;
/// System calls that are told.
const CALLS: usize = 5;
/// Calls that wait for somebody else: the time in them is nobody's work.
const WAITING: &[&str] = &[
    "accept",
    "accept4",
    "wait4",
    "waitid",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "futex",
    "futex_wait",
    "futex_waitv",
    "nanosleep",
    "clock_nanosleep",
    "pause",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "restart_syscall",
    "io_getevents",
    "vfork",
];
/// A throttled share worth a word.
const THROTTLED: f64 = 0.1;

pub(super) fn check(look: &Look<'_>, courses: &Courses, calls: Option<&CallReport>) -> Vec<Finding> {
    let case = |row: &Arc<Row>| {
        let course = courses.row(row.container.cgroup.id).filter(|course| course.is_long_enough())?;
        let flight = row.flight.as_deref()?;
        let pile = Pile::of(course)?;
        Some(Case { look, row: Arc::clone(row), course, flight, pile, calls }.finding())
    };
    look.rows.iter().filter_map(case).collect()
}

/// Those piles that are not the callers of a daemon of whom `told` says that it does not come to an end with what they ask:
/// these are told with it.
pub(super) fn but_for_callers(
    mut piles: Vec<Finding>,
    look: &Look<'_>,
    daemons: Option<&Daemons>,
    told: &mut [Finding],
) -> Vec<Finding> {
    let mut is_told = |pile: &Finding| {
        let Some(grown) = pile.grown else { return false };
        let row = look.rows.iter().find(|row| Some(row.container.cgroup.id) == grown.row);
        let Some(flight) = row.and_then(|row| row.flight.as_deref()) else { return false };
        let called = |daemon: &&Arc<Daemon>| calls(flight, grown.row, daemon);
        let called: Vec<&Process> = daemons
            .iter()
            .flat_map(|daemons| &daemons.daemons)
            .filter(called)
            .map(|daemon| &daemon.process)
            .collect();
        let mut is_told = false;
        for finding in
            told.iter_mut().filter(|one| one.daemon.as_ref().is_some_and(|daemon| called.contains(&daemon)))
        {
            is_told = true;
            finding.tells(pile.kind);
            finding.grown = finding.grown.or(Some(grown));
        }
        is_told
    };
    piles.retain(|pile| !is_told(pile));
    piles
}

/// Whether most children of the commonest name in a row are connected to a daemon, as far as its clients are told one by one.
fn calls(flight: &Flight, row: Option<u64>, daemon: &Daemon) -> bool {
    let Some(most) = flight.children.iter().max_by_key(|child| child.running) else { return false };
    let clients = daemon.clients.iter().flatten();
    let connected = clients.filter(|client| client.row == row && client.comm == most.comm).count() as u64;
    connected >= LEAST as u64 && 2 * connected > most.running.min(CLIENTS as u64)
}

/// Whether a row's requests pile up.
pub(super) fn is_pile(course: &Course) -> bool {
    course.is_long_enough() && Pile::of(course).is_some()
}

/// What piles up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pile {
    Connections,
    Children,
}

impl Pile {
    fn of(course: &Course) -> Option<Pile> {
        let grows = course.per_second(|moment| moment.anon).is_some_and(|rate| rate >= SLOW);
        if !grows || !course.memory_grows_on() {
            return None;
        }
        [Pile::Connections, Pile::Children].into_iter().find(|pile| pile.fits(course))
    }

    fn number(self) -> fn(&Moment) -> Option<f64> {
        match self {
            Pile::Connections => |moment| moment.connections,
            Pile::Children => |moment| Some(moment.children),
        }
    }

    /// With those that nobody has accepted yet: a server that is throttled leaves them in its queue.
    fn waiting(self) -> fn(&Moment) -> Option<f64> {
        match self {
            Pile::Connections => |moment| moment.backlog.or(moment.connections),
            Pile::Children => self.number(),
        }
    }

    fn fits(self, course: &Course) -> bool {
        let number = self.number();
        let each = course.change(|moment| moment.anon).zip(course.change(number));
        let holds = each.is_some_and(|(memory, more)| more >= LEAST && memory / more >= HELD);
        let come = course.change(|moment| moment.arrivals);
        let end = course.change(|moment| moment.completions);
        let more_come = match (self, come.zip(end)) {
            (Pile::Connections, Some((come, end))) => come - end >= (LEFT * come).max(1.0),
            // Children are started without a connection, too; that they grow says it.
            _ => true,
        };
        holds && more_come && course.piles_up(self.waiting()) && course.goes_with_memory(number)
    }
}

struct Case<'a> {
    look: &'a Look<'a>,
    row: Arc<Row>,
    course: &'a Course,
    flight: &'a Flight,
    pile: Pile,
    calls: Option<&'a CallReport>,
}

impl Case<'_> {
    fn finding(&self) -> Finding {
        let container = &self.row.container;
        let rate = self.rate();
        Finding {
            id: format!("{}:{}", Kind::RequestPileup.as_str(), container.id),
            kind: Kind::RequestPileup,
            severity: self.severity(),
            container: Some(Arc::clone(container)),
            daemon: None,
            summary: self.summary(),
            advice: self.advice(),
            refuted_by: "Memory that stays when the requests have ended, or that grows on while nobody asks: then it is a leak. \
                         Connections that are kept open on purpose and hold what a session needs: then there are more \
                         clients. Stop who asks for a minute, and watch `in_flight` and `anon`: `memtrace top -c`."
                .to_owned(),
            evidence: self.evidence(),
            also: Vec::new(),
            weight: rate as u64,
            grown: Some(Grown { row: Some(container.cgroup.id), bytes_per_s: rate }),
            nature: Nature::Plain,
        }
    }

    /// Anonymous memory, bytes a second.
    fn rate(&self) -> f64 {
        self.course.per_second(|moment| moment.anon).unwrap_or(0.0)
    }

    /// Until the limit, or until the host has nothing left.
    fn seconds_left(&self) -> f64 {
        let memory = &self.row.memory;
        let room = memory.effective_limit.zip(memory.current).map(|(limit, now)| limit.saturating_sub(now));
        let ends = [room, self.look.host.available].map(|left| left.map(|left| left as f64 / self.rate()));
        ends.into_iter().flatten().chain(self.row.seconds_to_limit).fold(f64::INFINITY, f64::min)
    }

    fn severity(&self) -> Severity {
        match self.seconds_left() {
            left if left < CRITICAL_SECONDS => Severity::Critical,
            left if left < WARNING_SECONDS => Severity::Warning,
            // Not the clients' number: each of them has somebody at work who does not come to an end.
            _ if self.course.piles_up(Pile::Children.number()) => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Of the kind that took most of the time since it is watched: what was there long before is not what piles up.
    fn slow_child(&self) -> Option<&Child> {
        let span = self.course.span().as_secs_f64();
        let taken = |child: &Child| child.alive_s.min(span * child.running as f64);
        let children = self.flight.children.iter().filter(|child| child.running > 0);
        children.max_by(|a, b| taken(a).total_cmp(&taken(b)))
    }

    /// In which most time goes, but for those whose purpose is to wait; `None`: not counted.
    fn top_calls(&self) -> Option<Vec<SlowCall>> {
        let row = self.calls?.of(self.row.container.cgroup.id)?;
        let mut calls: Vec<SlowCall> =
            row.calls.iter().filter(|call| !WAITING.contains(&&*call.name)).map(SlowCall::from).collect();
        calls.sort_by(|a, b| b.total_s.total_cmp(&a.total_s).then_with(|| a.name.cmp(&b.name)));
        calls.truncate(CALLS);
        Some(calls)
    }

    fn evidence(&self) -> Evidence {
        let flight = self.flight;
        let per_second = |of| Value::PerSecond(self.course.per_second(of));
        let slow = self.slow_child();
        Evidence::default()
            .with("anon_growth_per_s", "growth of anonymous memory", Value::Rate(Some(self.rate())))
            .with("in_flight", "connections accepted and still open", Value::Count(flight.connections))
            .with_how(
                "in_flight_growth",
                "more than when it began",
                Value::Change(flight.connections_growth),
                flight.connections_growth_how,
            )
            .with("queued", "wait to be accepted", Value::Count(flight.queued))
            .with("arrivals_per_s", "connections that came", per_second(|moment| moment.arrivals))
            .with("completions_per_s", "connections that ended", per_second(|moment| moment.completions))
            .with("peers", "from", Value::Peers(flight.peers.clone()))
            .with("slow_child", "children at work:", Value::Child(slow.map(SlowChild::from)))
            .with("top_syscalls", "system calls that take most time", Value::Calls(self.top_calls()))
            .with("throttled_share", "CPU periods throttled", Value::Share(self.row.throttled_share))
            .with("current", "what it holds now", Value::Bytes(self.row.memory.current))
            .with("limit", "the least limit around it", Value::Bytes(self.row.memory.effective_limit))
            .with_how(
                "seconds_left",
                "until that, or the host's memory, is used up",
                Value::Seconds(Some(self.seconds_left()).filter(|left| left.is_finite())),
                Some(How::Inferred),
            )
    }

    fn summary(&self) -> String {
        let who = label(&self.row.container);
        let come = self.course.per_second(|moment| moment.arrivals);
        let end = self.course.per_second(|moment| moment.completions);
        let piled = match (self.pile, self.flight.connections) {
            (Pile::Connections, Some(open)) => {
                let growth = self.flight.connections_growth.unwrap_or(0);
                let rates = come.zip(end).map_or_else(String::new, |(come, end)| {
                    format!(", {come:.1} a second come and {end:.1} end")
                });
                format!("{open} connections in flight ({growth:+}{rates})")
            }
            _ => format!("{} children at work at once", self.flight.running()),
        };
        let child = self.slow_child().map_or_else(String::new, |child| {
            let long = child.max_s.map_or_else(String::new, |max| format!(", for up to {}", seconds(max)));
            format!("; {} `{}` run at once{long}", child.running, child.comm)
        });
        let throttled = self.row.throttled_share.filter(|of| *of >= THROTTLED);
        let throttled = throttled
            .map_or_else(String::new, |of| format!("; its CPU is throttled in {} of the periods", share(of)));
        format!(
            "requests of {who} pile up: {piled}, and its anonymous memory grows with them by {}/s{child}{throttled}",
            bytes(self.rate())
        )
    }

    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if let Some(child) = self.slow_child() {
            advice.push(format!(
                "Make what each request waits for (`{}`) faster, rarer or unnecessary: switch that collection off, or \
                 do it at a pace of its own and answer from its last result.",
                child.comm
            ));
        }
        advice.push("Ask less often: at an interval above the time that an answer takes.".to_owned());
        advice.push(
            "Limit the requests in flight in the server (answer 503 beyond that), and give its answers a deadline that \
             ends the work as well."
                .to_owned(),
        );
        if self.row.throttled_share.is_some_and(|of| of >= THROTTLED) {
            advice.push("Give it more CPU: its limit throttles it.".to_owned());
        }
        advice.push("More memory only moves the end, as long as more come than go.".to_owned());
        advice.extend(remedy::view(&self.row.container, "top"));
        advice
    }
}
