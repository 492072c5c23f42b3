//! Screens drawn without a terminal: golden ones, every size, every pane.

use std::sync::Arc;

use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    aggregator::stuck::StuckReport,
    view::{
        example,
        select::Filter,
        text::Charset,
        tui::{Options, state::Action},
    },
};

#[path = "draw_findings_tests.rs"]
mod findings;

/// As the run does it: fit, then draw.
fn draw(state: &mut State, theme: &Theme, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let snapshot = state.shown().unwrap();
    let prepared = Screen::new(Rect::new(0, 0, width, height), state, &snapshot, theme);
    state.fit(prepared.room());
    terminal.draw(|frame| screen(frame, prepared, state, &snapshot, theme)).unwrap();
    terminal
}

/// What a person would see of it.
fn drawn(state: &mut State, theme: &Theme, width: u16, height: u16) -> String {
    let terminal = draw(state, theme, width, height);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(width.into()).map(|cells| {
        let mut line = String::new();
        let mut skip = 0;
        for cell in cells {
            // The cell beside a wide character holds a blank that is not on the screen.
            if skip == 0 {
                line.push_str(cell.symbol());
            }
            skip = if skip == 0 { text::width(cell.symbol()).saturating_sub(1) } else { skip - 1 };
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn state() -> State {
    let mut state = State::new(Options::default());
    let mut before = example::snapshot();
    before.sequence -= 1;
    before.at -= Duration::from_secs(1);
    before.host.used = before.host.used.map(|used| used - (110 << 20));
    before.host.mem_available = before.host.mem_available.map(|available| available + (110 << 20));
    state.update(Arc::new(before));
    state.update(Arc::new(example::snapshot()));
    state
}

/// With the ten minutes before: the first row grows, once it was not read.
fn state_with_a_past() -> State {
    let mut state = State::new(Options::default());
    for back in (0..600).rev() {
        let mut snapshot = example::snapshot();
        snapshot.at -= Duration::from_secs(back);
        let mut row = snapshot.rows[0].as_ref().clone();
        let less = |size: Option<u64>, bytes: u64| size.map(|size| size.saturating_sub(bytes));
        row.memory.anon = less(row.memory.anon, back << 20);
        row.memory.current = less(row.memory.current, back << 20);
        row.memory.dirty = Some((back * 37 % 50) << 16);
        if (300..400).contains(&back) {
            row.memory = crate::aggregator::row::Memory::default();
        }
        snapshot.rows[0] = Arc::new(row);
        state.update(Arc::new(snapshot));
    }
    state
}

/// On the tab of log lines, as `top` counts them: without lengths.
fn state_of_logs() -> State {
    let mut logs = example::logs();
    for stream in &mut logs.streams {
        Arc::make_mut(stream).lengths = None;
    }
    let mut state = State::new(Options::default());
    state.update(Arc::new(Snapshot { logs: Some(Arc::new(logs)), ..example::snapshot() }));
    state.apply(Action::NextTab);
    state
}

/// On the tab of system calls.
fn state_of_calls() -> State {
    let mut report = example::calls();
    let row = report.rows[0].clone();
    let mut state = State::new(Options::default());
    // Many, so that there is something to scroll.
    let mut calls = crate::aggregator::call::RowCalls::clone(&row);
    let more = (0..60).map(|nth| crate::aggregator::call::Call {
        name: Arc::from(format!("syscall_{nth}")),
        total_s: 0.001 * f64::from(nth),
        ..row.calls[3].clone()
    });
    calls.calls.extend(more);
    report.rows = vec![Arc::new(calls)];
    state.update(Arc::new(Snapshot { calls: Some(Arc::new(report)), ..example::snapshot() }));
    let id = row.row;
    while state.rows[state.rows.cursor].container.cgroup.id != id {
        state.apply(Action::Down);
    }
    state.apply(Action::Show(Tab::Calls));
    state
}

#[test]
fn golden_calls() {
    let mut state = state_of_calls();
    example::golden("tui_calls_80x24", &drawn(&mut state, &theme(), 80, 24));
    example::golden("tui_calls_200x50", &drawn(&mut state, &theme(), 200, 50));
    let first = drawn(&mut state, &theme(), 80, 24);
    state.apply(Action::PageDown);
    let next = drawn(&mut state, &theme(), 80, 24);
    assert!(first.contains("newfstatat") && !next.contains("newfstatat"), "{next}");
    state.apply(Action::End);
    assert!(drawn(&mut state, &theme(), 80, 24).contains("syscall_0"), "the last is seen");
    state.apply(Action::Down);
    assert!(drawn(&mut state, &theme(), 80, 24).contains("attaching"), "another row has none yet");
    let ascii = drawn(&mut state_of_calls(), &Theme::new(Charset::Ascii, false), 100, 24);
    assert!(ascii.is_ascii(), "{ascii}");
}

/// On the tab of stuck tasks, as `top` has them: signals are not counted.
fn state_of_stuck() -> State {
    let mut report = example::stuck::report();
    for task in report.tasks.iter_mut().skip(1) {
        Arc::make_mut(task).kill_attempts = None;
    }
    let mut state = State::new(Options::default());
    state.update(Arc::new(Snapshot { stuck: Some(Arc::new(report)), ..example::snapshot() }));
    state.apply(Action::Show(Tab::Stuck));
    state
}

#[test]
fn golden_stuck() {
    let mut state = state_of_stuck();
    example::golden("tui_stuck_80x24", &drawn(&mut state, &theme(), 80, 24));
    example::golden("tui_stuck_200x50", &drawn(&mut state, &theme(), 200, 50));
    state.apply(Action::Open);
    example::golden("tui_stuck_detail", &drawn(&mut state, &theme(), 100, 40));
    example::golden("tui_stuck_detail_80x24", &drawn(&mut state, &theme(), 80, 24));
    // It goes on: what was last seen of it stays.
    state.update(Arc::new(example::snapshot()));
    assert!(drawn(&mut state, &theme(), 100, 40).contains("NO LONGER STUCK"));
    let mut state = state_of_stuck();
    state.apply(Action::Down);
    let ascii = drawn(&mut state, &Theme::new(Charset::Ascii, false), 100, 24);
    assert!(ascii.is_ascii(), "{ascii}");
    example::golden("tui_stuck_ascii", &ascii);
}

#[test]
fn without_a_stuck_task_the_tab_tells_who_slept() {
    let mut state = State::new(Options::default());
    let report = StuckReport { tasks: Vec::new(), ..example::stuck::report() };
    state.update(Arc::new(Snapshot { stuck: Some(Arc::new(report)), ..example::snapshot() }));
    state.apply(Action::Show(Tab::Stuck));
    example::golden("tui_stuck_none_80x24", &drawn(&mut state, &theme(), 80, 24));
    example::golden("tui_stuck_none_200x50", &drawn(&mut state, &theme(), 200, 50));
    state.apply(Action::Open);
    assert_eq!(state.pane, Pane::Table, "nothing to open");
    let report = StuckReport { served: false, threshold_s: 5.0, ..StuckReport::default() };
    state.update(Arc::new(Snapshot { stuck: Some(Arc::new(report)), ..example::snapshot() }));
    let text = drawn(&mut state, &theme(), 80, 24);
    assert!(text.contains("no task is blocked for more than 5 s") && text.contains("not counted"), "{text}");
    state.update(Arc::new(example::snapshot()));
    assert!(drawn(&mut state, &theme(), 80, 24).contains("stuck tasks cannot be told:"));
}

#[test]
fn stuck_tasks_are_filtered_by_container() {
    let mut state = state_of_stuck();
    state.apply(Action::Filter);
    for c in "importer".chars() {
        state.apply(Action::Type(c));
    }
    state.apply(Action::Open);
    let text = drawn(&mut state, &theme(), 100, 24);
    assert!(text.contains("3 of 5 stuck tasks") && !text.contains("vfork"), "{text}");
    state.apply(Action::Filter);
    state.apply(Action::Type('?'));
    let text = drawn(&mut state, &theme(), 100, 24);
    assert!(text.contains("no task passes the filter"), "{text}");
}

fn theme() -> Theme {
    Theme::new(Charset::Unicode, true)
}

#[test]
fn golden_80x24() {
    example::golden("tui_80x24", &drawn(&mut state(), &theme(), 80, 24));
}

#[test]
fn golden_200x50() {
    example::golden("tui_200x50", &drawn(&mut state(), &theme(), 200, 50));
}

#[test]
fn golden_ascii() {
    let screen = drawn(&mut state(), &Theme::new(Charset::Ascii, false), 100, 24);
    assert!(screen.is_ascii(), "{screen}");
    example::golden("tui_ascii", &screen);
}

#[test]
fn golden_detail_with_sites() {
    let mut state = state_with_a_past();
    state.update(Arc::new(Snapshot { sites: Some(Arc::new(example::sites())), ..example::snapshot() }));
    state.apply(Action::Open);
    example::golden("tui_detail_sites", &drawn(&mut state, &theme(), 100, 60));
}

#[test]
fn golden_detail_and_help() {
    let mut state = state_with_a_past();
    state.apply(Action::Open);
    example::golden("tui_detail", &drawn(&mut state, &theme(), 100, 60));
    example::golden("tui_detail_80x24", &drawn(&mut state, &theme(), 80, 24));
    let ascii = drawn(&mut state, &Theme::new(Charset::Ascii, false), 80, 60);
    assert!(ascii.is_ascii(), "{ascii}");
    example::golden("tui_detail_ascii", &ascii);
    state.apply(Action::Help);
    example::golden("tui_help", &drawn(&mut state, &theme(), 100, 122));
}

#[test]
fn golden_logs() {
    let mut state = state_of_logs();
    example::golden("tui_logs_80x24", &drawn(&mut state, &theme(), 80, 24));
    example::golden("tui_logs_200x50", &drawn(&mut state, &theme(), 200, 50));
    state.apply(Action::Open);
    example::golden("tui_logs_detail", &drawn(&mut state, &theme(), 100, 40));
    example::golden("tui_logs_detail_80x24", &drawn(&mut state, &theme(), 80, 24));
    let ascii = drawn(&mut state, &Theme::new(Charset::Ascii, false), 100, 40);
    assert!(ascii.is_ascii(), "{ascii}");
    state.apply(Action::Back);
    let ascii = drawn(&mut state, &Theme::new(Charset::Ascii, false), 100, 24);
    assert!(ascii.is_ascii(), "{ascii}");
    example::golden("tui_logs_ascii", &ascii);
}

#[test]
fn without_the_probe_the_tab_says_why() {
    let mut state = state();
    state.apply(Action::Show(Tab::Logs));
    for width in [40, 80] {
        let text = drawn(&mut state, &theme(), width, 24);
        assert!(text.contains("log lines are not counted:"), "{text}");
        assert!(text.lines().all(|line| text::width(line) <= width.into()), "{text}");
    }
    state.apply(Action::Open);
    assert_eq!(state.pane, Pane::Table, "nothing to open");
}

/// Whatever the width: a line of the pane that is longer than the screen would be cut without a sign.
#[test]
fn no_line_of_a_pane_is_wider_than_the_screen() {
    for mut state in [state(), state_of_logs(), state_of_stuck()] {
        for _ in 0..state.rows.len().max(state.streams.len()).max(state.tasks.len()) {
            state.apply(Action::Open);
            let snapshot = state.shown().unwrap();
            for width in 40..220 {
                let screen = Screen::new(Rect::new(0, 0, width, 24), &state, &snapshot, &theme());
                for line in screen.pane.unwrap() {
                    assert!(line.width() <= width.into(), "{width}: {line}");
                }
            }
            state.apply(Action::Back);
            state.apply(Action::Down);
        }
    }
}

#[test]
fn a_pane_tells_that_there_is_more() {
    let mut state = state();
    state.apply(Action::Open);
    assert!(drawn(&mut state, &theme(), 80, 24).contains("lines 1-20 of"));
    assert!(drawn(&mut state, &theme(), 80, 24).ends_with("more ↓"));
    for _ in 0..9 {
        state.apply(Action::PageDown);
        drawn(&mut state, &theme(), 80, 24);
    }
    assert!(drawn(&mut state, &theme(), 80, 24).ends_with("end"));
    assert!(!drawn(&mut state, &theme(), 80, 200).contains("lines 1-"));
}

/// One state for each pane, the table with rows scrolled away.
fn panes() -> [State; 9] {
    let mut table = state();
    table.apply(Action::End);
    let mut typing = state();
    typing.apply(Action::Filter);
    for c in "漢字 \u{202e}*".chars() {
        typing.apply(Action::Type(c));
    }
    let mut detail = state();
    detail.apply(Action::Open);
    let mut help = state();
    help.apply(Action::Help);
    let mut streams = state_of_logs();
    streams.apply(Action::End);
    let mut stream = state_of_logs();
    stream.apply(Action::Open);
    let mut task = state_of_stuck();
    task.apply(Action::Open);
    [table, typing, detail, help, streams, stream, state_of_calls(), state_of_stuck(), task]
}

fn draw_all(sizes: impl Iterator<Item = (u16, u16)>) {
    let mut panes = panes();
    for (width, height) in sizes {
        for state in &mut panes {
            draw(state, &theme(), width, height);
        }
    }
}

#[test]
fn every_width_is_drawn() {
    draw_all((1..=250).flat_map(|width| [1, 10, 24].map(|height| (width, height))));
}

#[test]
fn every_height_is_drawn() {
    draw_all((1..=60).flat_map(|height| [1, 20, 39, 40, 41, 80, 200, 250].map(|width| (width, height))));
}

#[test]
fn nothing_hostile_reaches_the_screen() {
    let text = drawn(&mut state(), &theme(), 200, 50);
    assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)));
    assert!(text.contains(r"\x1b[31mweb\u{202e}gpj.exe"));
    for mut state in [state_of_logs(), state_of_stuck()] {
        for _ in 0..2 {
            for place in 0..state.streams.len().max(state.tasks.len()) {
                let text = drawn(&mut state, &theme(), 200, 50);
                assert!(!text.chars().any(|c| c != '\n' && text::is_hostile(c)), "{place}: {text}");
                state.apply(Action::Down);
            }
            state.apply(Action::Home);
            state.apply(Action::Open);
        }
    }
    let text = drawn(&mut state_of_logs(), &theme(), 200, 50);
    assert!(text.contains(r"\x1b]0;owned\x07[31]"), "{text}");
}

#[test]
fn a_small_terminal_is_told() {
    let text = drawn(&mut state(), &theme(), 20, 5).replace('\n', " ");
    assert_eq!(text.trim_end(), "memtrace needs 40x10: this is 20x5");
    assert!(drawn(&mut state(), &theme(), 40, 10).contains("GROWTH/s"));
}

#[test]
fn losses_pause_and_filters_are_told_in_words_at_any_size() {
    let filter = Filter::new("*").unwrap();
    let mut state = State::new(Options { filter, ..Options::default() });
    state.update(Arc::new(example::snapshot()));
    state.apply(Action::Pause);
    state.apply(Action::Filter);
    state.apply(Action::Type('q'));
    state.apply(Action::Open);
    for (width, height) in [(40, 10), (80, 24), (200, 50)] {
        let text = drawn(&mut state, &theme(), width, height);
        for word in ["LOST 12", "PAUSED", "-c *", "filter q"] {
            assert!(text.contains(word), "{word} at {width}x{height}:\n{text}");
        }
    }
    state.apply(Action::Type('x'));
    let mut empty = State::new(Options::default());
    let mut snapshot = example::snapshot();
    snapshot.rows.clear();
    snapshot.host = crate::snapshot::Host::default();
    empty.update(Arc::new(snapshot));
    let text = drawn(&mut empty, &theme(), 80, 24);
    assert!(text.contains("no rows yet") && text.contains("lost 0"), "{text}");
}

#[test]
fn attaching_tells_the_time() {
    for (width, height) in [(1, 1), (20, 5), (80, 24)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| attaching(frame, Duration::from_secs(7))).unwrap();
        let text: String = terminal.backend().buffer().content.iter().map(|cell| cell.symbol()).collect();
        assert!(width < 80 || text.contains("attaching... 7.0 s"), "{text}");
    }
}
