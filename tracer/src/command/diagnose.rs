//! `memtrace diagnose`: watches for a while, tells what is sure at once, and reports at the end.

use std::{
    cell::RefCell,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Failure, Unserved,
    collect::{self, Unmatched},
    print,
};
use crate::{
    cli::{Diagnose, Watch},
    pipeline::{self, CallWish, DirtyWish, LogWish, Snapshots},
    view::{
        diagnose::{Report, Teller, progress},
        lines,
        select::Filter,
        text::Charset,
    },
};

/// Status of `--exit-code` when a finding is critical.
const CRITICAL: u8 = 10;

pub fn run(options: Diagnose) -> Result<ExitCode, Failure> {
    let facts = collect::usable_facts()?;
    let Diagnose {
        duration,
        interval,
        container,
        watch: watched,
        budget,
        json,
        exit_code,
        attach,
        probe_log,
    } = options;
    let filter = container.clone().unwrap_or_default();
    let watch = Watch { interval, duration: Some(duration), container, rows: None, json, attach, probe_log };
    let charset = Charset::of_environment();
    let course = RefCell::new(None);
    let shared = collect::options(&watch, LogWish::Counts);
    let calls = if shared.calls == CallWish::Off { CallWish::Suspects } else { shared.calls.clone() };
    let collected = pipeline::Options {
        calls,
        dead: true,
        work: true,
        signals: true,
        daemons: Some(watched),
        dirty: DirtyWish::Names,
        stuck: Some(pipeline::STUCK),
        // The report is of the run, not of its last second.
        hold: pipeline::HOLD,
        budget: budget / 100.0,
        ..shared
    };
    let last = collect::run(collected, facts, |snapshots, _| {
        follow(snapshots, &course, Following { filter: &filter, duration, json, charset })
    })?;
    let (Some(last), Some(course)) = (last, course.into_inner()) else {
        return Err(Failure::new(Failure::RUN, "it ended before the first look"));
    };
    let Course { started, began, ended } = course;
    let report = Report { started, duration: ended - began, last: &last, filter: &filter };
    print(&if json { report.json() + "\n" } else { report.text(charset) })?;
    if last.logs.is_none() {
        return Err(anyhow::Error::from(Unserved(lines::missing(&last))).into());
    }
    Ok(if exit_code && report.is_critical() { ExitCode::from(CRITICAL) } else { ExitCode::SUCCESS })
}

/// When it began and how far it came.
struct Course {
    started: SystemTime,
    began: Instant,
    ended: Instant,
}

struct Following<'a> {
    filter: &'a Filter,
    duration: Duration,
    json: bool,
    charset: Charset,
}

/// Tells what is found meanwhile, until there are no more intervals.
async fn follow(
    snapshots: Snapshots,
    course: &RefCell<Option<Course>>,
    with: Following<'_>,
) -> anyhow::Result<()> {
    let mut teller = Teller::default();
    let mut unmatched = Unmatched::default();
    let line = ProgressLine::new();
    collect::each(snapshots, |snapshot| {
        let now = Instant::now();
        let mut course = course.borrow_mut();
        let course = course.get_or_insert(Course { started: snapshot.at, began: now, ended: now });
        course.ended = now;
        unmatched.tell(!snapshot.rows.iter().any(|row| with.filter.matches(&row.container)), with.filter);
        if !with.json {
            let news = teller.news(snapshot, with.filter, with.charset);
            if !news.is_empty() {
                line.clear();
                // Nobody reads any more: that is an ordinary end.
                if !print(&news).map_err(|failure| anyhow::anyhow!(failure.message))? {
                    return Ok(false);
                }
            }
        }
        line.show(|| progress(now - course.began, with.duration, snapshot, with.filter));
        Ok(true)
    })
    .await
}

/// One line that is written over and over, where a person sees standard error. It goes when it is dropped.
struct ProgressLine {
    seen: bool,
}

impl ProgressLine {
    fn new() -> ProgressLine {
        ProgressLine { seen: io::stderr().is_terminal() }
    }

    fn show(&self, line: impl FnOnce() -> String) {
        if self.seen {
            // A closed standard error cannot be told anything.
            let _ = write!(io::stderr(), "\r{}\x1b[K", line());
        }
    }

    fn clear(&self) {
        if self.seen {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}
