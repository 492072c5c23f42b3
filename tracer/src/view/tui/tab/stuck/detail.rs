//! Everything known about one stuck task: for how long, on what it waits, who tries to kill it, its kernel stack, and where
//! each comes from.

use ratatui::text::Line;

use crate::{
    aggregator::{row::How, stuck::StuckTask},
    metric::Unit,
    snapshot::Snapshot,
    view::{
        host, label, severity, stuck, text,
        tui::page::{Page, joined},
        unit,
    },
};

/// What the sections are about, and what they may look at.
pub struct Subject<'a> {
    pub task: &'a StuckTask,
    /// It is no longer stuck, and this is what was last known of it.
    pub gone: bool,
    pub snapshot: &'a Snapshot,
    pub page: Page<'a>,
}

/// The pane's lines.
pub fn lines(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let first = [title(subject), blocked(subject), waits(subject)].concat();
    joined([first, killed(subject), stack(subject), identity(subject), sources(subject)])
}

/// What fits below a table: what is known of it, the most telling first.
pub fn brief(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let frames = task.stack.iter().enumerate().map(|(place, name)| match place {
        0 => name.clone(),
        _ => format!("< {name}"),
    });
    let stack = match task.stack.is_empty() {
        true => page.say("wchan", task.wchan.as_deref().unwrap_or("-")),
        false => page.beside("stack", text::flow(frames, " ", page.room(), page.theme.charset)),
    };
    let waits = page.say("waits on", task.waits_on.as_deref().unwrap_or("-"));
    let call = page.say("in call", task.syscall.as_deref().unwrap_or("-"));
    [title(subject), waits, call, killed(subject), stack, blocked(subject)].concat()
}

fn title(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, gone, page: Page { theme, width }, .. } = *subject;
    let thread = if task.tid == task.pid { String::new() } else { format!(", thread {}", task.tid) };
    let name = format!("{} {}[{}]{thread}", label::label(&task.container), task.comm, task.pid);
    let mut lines = vec![Line::styled(text::fit(&name, width, theme.charset), theme.title())];
    if gone {
        lines.push(Line::styled("NO LONGER STUCK, as last seen", theme.flag()));
    }
    if let Some(severity) = severity::task(task) {
        let why = format!("{} {}", severity.level.mark(), severity.why);
        let why = text::wrap(&why, width, theme.charset).into_iter();
        lines.extend(why.map(|line| Line::styled(line, theme.level(Some(severity.level)))));
    }
    lines
}

fn blocked(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let time = unit::format_marked(Unit::Seconds, Some(task.blocked_s), task.blocked_s_how);
    let how = match task.blocked_s_how {
        None => "seen to fall asleep",
        Some(How::AtLeast) => "at least: it slept when a look found it",
        Some(How::Inferred | How::Sampled) => "inferred: it slept before attach, since it last ran",
    };
    let words = format!("{time}, since {}, {how}", host::timestamp(task.since));
    [page.say("blocked", &words), page.say("state", &state(task))].concat()
}

fn state(task: &StuckTask) -> String {
    let words = match task.state {
        'D' => String::from("D, uninterruptible"),
        'S' => String::from("S, interruptible: it waits for a server; a fatal signal makes it D"),
        other => other.to_string(),
    };
    match task.in_io {
        Some(true) => format!("{words}; for a device, as the kernel counts it"),
        _ => words,
    }
}

fn waits(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let owner = task.owner.as_ref().map(|owner| format!("{}[{}]", owner.comm, owner.tid));
    let said = [
        ("waits on", task.waits_on.as_deref()),
        ("in call", task.syscall.as_deref()),
        ("wchan", task.wchan.as_deref()),
        ("lock owner", owner.as_deref()),
    ];
    said.into_iter().flat_map(|(head, what)| page.say(head, what.unwrap_or("-"))).collect()
}

fn killed(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let pending = match task.sigkill_pending {
        None => "pending: -",
        Some(true) => "pending",
        Some(false) => "not pending",
    };
    let sent = match task.kill_attempts {
        None => String::from("sent: -, `memtrace stuck` counts that"),
        Some(1) => String::from("sent once since attach"),
        Some(count) => format!("sent {count} times since attach"),
    };
    let mut lines = page.say("SIGKILL", &format!("{pending}; {sent}"));
    for (place, one) in task.killers.iter().enumerate() {
        lines.extend(page.say(if place == 0 { "by" } else { "" }, &stuck::killer(one)));
    }
    lines
}

/// One function a line, the innermost first.
fn stack(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let fitted = |name: &String| text::fit(name, page.room(), page.theme.charset);
    match task.stack.is_empty() {
        true => page.say("stack", "-"),
        false => page.beside("stack", task.stack.iter().map(fitted).collect()),
    }
}

fn identity(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let container = &task.container;
    let said = [
        ("container", Some(label::label(container))),
        ("runtime", Some(container.runtime.as_str().to_owned())),
        ("id", Some(container.id.clone()).filter(|id| *id != container.cgroup.path)),
        ("cgroup", Some(container.cgroup.path.clone())),
    ];
    let charset = page.theme.charset;
    // One line each: a name's blanks are not to be taken for ours.
    let line = |(head, what): (&str, Option<String>)| {
        page.beside(head, what.map(|what| text::fit(&what, page.room(), charset)).into_iter().collect())
    };
    let mut lines: Vec<Line<'static>> = said.into_iter().flat_map(line).collect();
    lines.extend(page.say("its sleeps", &slept(subject)));
    lines
}

/// How long the container's tasks slept that have woken.
fn slept(subject: &Subject<'_>) -> String {
    let report = subject.snapshot.stuck.as_deref().filter(|report| report.served);
    let Some(report) = report else { return String::from("-") };
    let id = subject.task.container.cgroup.id;
    let Some(time) = report.blocked_time.iter().find(|time| time.container.cgroup.id == id) else {
        return String::from("none in D has ended since attach");
    };
    let of = |value: Option<f64>| unit::format(Unit::Time, value);
    format!(
        "{} in D ended since attach: {} in all, {} of that for devices; p50 {}, p99 {}, max {}",
        time.count,
        of(Some(time.total_s)),
        of(Some(time.io_total_s)),
        of(time.p50_s),
        of(time.p99_s),
        of(Some(time.max_s))
    )
}

/// Where it comes from.
fn sources(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { snapshot, page, .. } = subject;
    let mut lines = page.say(
        "from",
        "time: the kernel's scheduler; stack, wchan, call and pending signals: /proc/PID/task/TID; what it waits on: \
         told by the stack and the call's file",
    );
    for probe in snapshot.probes.iter().filter(|probe| probe.starts_with("blocked")) {
        // Hooks are joined by `+`, which is a place to break the line at.
        lines.extend(page.say("", &format!("probe {}", probe.replace('+', " + "))));
    }
    lines
}
