//! Everything known about one stuck task: for how long, on what it waits, who tries to kill it, its kernel stack, and where
//! each comes from.

use ratatui::text::Line;

use crate::{
    aggregator::{row::How, stuck::StuckTask},
    metric::Unit,
    resolve::label::label,
    snapshot::Snapshot,
    view::{
        host, stuck, text,
        tui::{
            page::{Page, joined},
            tab::stuck::{level, who},
        },
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

fn title(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, gone, page: Page { theme, width }, .. } = *subject;
    let name = format!("{} {}", label(&task.container), who(task));
    let mut lines = vec![Line::styled(text::fit(&name, width, theme.charset), theme.title())];
    if gone {
        lines.push(Line::styled("GONE ON, as last seen", theme.flag()));
    }
    let level = level(task);
    let why = match task.sigkill_pending {
        Some(true) => "SIGKILL is pending, and it sleeps on: nothing ends it but what it waits on",
        _ => "in uninterruptible sleep for too long",
    };
    let why = text::wrap(&format!("{} {why}", level.mark()), width, theme.charset);
    lines.extend(why.into_iter().map(|line| Line::styled(line, theme.level(Some(level)))));
    lines
}

fn blocked(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let time = unit::format_marked(Unit::Seconds, Some(task.blocked_s), task.blocked_s_how);
    let how = match task.blocked_s_how {
        None => "seen to fall asleep",
        Some(How::AtLeast) => "at least: it slept when it was first seen",
        Some(_) => "inferred: it slept before attach, since it last ran",
    };
    let words = format!("{time} since {}, {how}", host::timestamp(task.since));
    [page.say("blocked", &words), page.say("state", &state(task))].concat()
}

fn state(task: &StuckTask) -> String {
    let mut words = match task.state {
        'D' => String::from("D, uninterruptible: no signal wakes it"),
        'S' => String::from("S, interruptible: only a signal that ends it would wake it"),
        other => other.to_string(),
    };
    match task.in_io {
        Some(true) => words.push_str("; counted as waiting for a disk"),
        Some(false) => words.push_str("; not counted as waiting for a disk"),
        None => {}
    }
    words
}

fn waits(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let owner = task.owner.as_ref().map(|owner| format!("{}[{}]", owner.comm, owner.tid));
    [
        page.say("waits on", task.waits_on.as_deref().unwrap_or("not known")),
        page.say("in call", task.syscall.as_deref().unwrap_or("none, as in a page fault; or not known")),
        page.say("sleeps in", task.wchan.as_deref().unwrap_or("-")),
        owner.map_or_else(Vec::new, |owner| page.say("lock of", &owner)),
    ]
    .concat()
}

fn killed(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let attempts = match task.kill_attempts {
        None => String::from("not counted"),
        Some(count) => format!("{count} since attach, also those that found one pending"),
    };
    let mut lines = page.say("SIGKILLs", &attempts);
    let pending = task.sigkill_pending.map_or("not known", |pending| if pending { "yes" } else { "no" });
    lines.extend(page.say("pending", pending));
    for killer in &task.killers {
        lines.extend(page.say("", &stuck::killer(killer)));
    }
    lines
}

/// One function a line, the innermost first.
fn stack(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let fitted = |name: &String| text::fit(name, page.room(), page.theme.charset);
    match task.stack.is_empty() {
        true => page.say("stack", "not known"),
        false => page.beside("stack", task.stack.iter().map(fitted).collect()),
    }
}

fn identity(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { task, page, .. } = subject;
    let container = &task.container;
    let said = [
        ("container", Some(label(container))),
        ("runtime", Some(container.runtime.as_str().to_owned())),
        ("id", Some(container.id.clone()).filter(|id| *id != container.cgroup.path)),
        ("cgroup", Some(container.cgroup.path.clone())),
    ];
    let charset = page.theme.charset;
    let line = |(head, what): (&str, Option<String>)| {
        page.beside(head, what.map(|what| text::fit(&what, page.room(), charset)).into_iter().collect())
    };
    said.into_iter().flat_map(line).collect()
}

/// Where it comes from.
fn sources(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let Subject { snapshot, page, .. } = subject;
    let mut lines = page.say(
        "from",
        "time: the kernel's scheduler; stack, system call, file, mount and pending signals: /proc; what it waits on: inferred \
         from the stack",
    );
    for probe in snapshot.probes.iter().filter(|probe| probe.starts_with("blocked")) {
        lines.extend(page.say("", &format!("probe {}", probe.replace('+', " + "))));
    }
    lines
}
