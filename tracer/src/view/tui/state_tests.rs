//! Keys and snapshots in, rows and cursor out.

use std::sync::Arc;

use super::*;
use crate::view::{
    example, label,
    tui::tab::{logs, memory::column},
};

fn state() -> State {
    let mut state = State::new(Options::default());
    state.update(Arc::new(example::snapshot()));
    state.fit(Room { page: 5, lines: 0 });
    state
}

fn chosen(state: &State) -> String {
    label::label(&state.rows[state.rows.cursor].container)
}

/// The same picture with the growth of one row changed.
fn with_growth(index: usize, growth: f64) -> Arc<Snapshot> {
    let mut snapshot = example::snapshot();
    let mut row = snapshot.rows[index].as_ref().clone();
    row.growth_ewma_per_s.current = Some(growth);
    snapshot.rows[index] = Arc::new(row);
    Arc::new(snapshot)
}

#[test]
fn without_a_choice_the_top_row_is_chosen_whatever_it_is() {
    let mut state = state();
    assert_eq!(chosen(&state), "production/importer-7d9f8c6b5-x2x4z/importer");
    state.update(with_growth(1, 1e9));
    assert_eq!(chosen(&state), "qemu-img");
}

#[test]
fn the_cursor_follows_its_row() {
    let mut state = state();
    state.apply(Action::Down);
    assert_eq!(chosen(&state), "qemu-img");
    state.update(with_growth(1, -1e9));
    assert_eq!(chosen(&state), "qemu-img");
    assert!(state.rows.cursor > 2);
    state.fit(Room { page: 2, lines: 0 });
    assert!((state.rows.offset..state.rows.offset + 2).contains(&state.rows.cursor));
    state.apply(Action::Reverse);
    assert_eq!(chosen(&state), "qemu-img");
    state.apply(Action::Home);
    state.apply(Action::Reverse);
    assert_eq!(chosen(&state), "production/importer-7d9f8c6b5-x2x4z/importer");
}

#[test]
fn the_cursor_stays_in_its_place_when_its_row_goes() {
    let mut state = state();
    state.apply(Action::End);
    assert_eq!(state.rows.cursor, state.rows.len() - 1);
    let mut snapshot = example::snapshot();
    snapshot.rows.truncate(3);
    state.update(Arc::new(snapshot));
    assert_eq!(state.rows.cursor, 2);
    let mut snapshot = example::snapshot();
    snapshot.rows.clear();
    state.update(Arc::new(snapshot));
    assert_eq!((state.rows.cursor, state.rows.len()), (0, 0));
    for action in [Action::Down, Action::End, Action::PageUp, Action::Open, Action::Home] {
        state.apply(action);
    }
    assert_eq!(state.pane, Pane::Table, "nothing to open");
}

#[test]
fn typing_filters_at_once_and_escape_goes_back() {
    let mut state = state();
    let all = state.rows.len();
    state.apply(Action::Filter);
    for c in "qemu".chars() {
        state.apply(Action::Type(c));
    }
    assert_eq!(state.rows.len(), 1);
    state.apply(Action::Back);
    assert_eq!((state.rows.len(), state.is_typing(), state.quit), (all, false, false));

    state.apply(Action::Filter);
    state.apply(Action::Type('q'));
    state.apply(Action::Type('x'));
    state.apply(Action::Erase);
    state.apply(Action::Open);
    assert_eq!((state.typed.pattern(), state.is_typing(), state.pane), ("q", false, Pane::Table));
    state.apply(Action::Back);
    assert_eq!((state.rows.len(), state.quit), (all, false), "Esc drops the filter");
    state.apply(Action::Back);
    assert!(state.quit);
}

#[test]
fn a_pause_keeps_the_picture_but_tells_losses() {
    let mut state = state();
    state.apply(Action::Pause);
    let mut snapshot = example::snapshot();
    snapshot.rows.clear();
    snapshot.host.lost_events = 99;
    state.update(Arc::new(snapshot));
    assert!(!state.rows.is_empty());
    assert_eq!(state.lost_events(), 99);
    state.apply(Action::Reverse);
    assert!(!state.rows.is_empty(), "sorting works on the frozen picture");
    state.apply(Action::Pause);
    assert!(state.rows.is_empty());
}

#[test]
fn the_detail_outlives_its_row() {
    let mut state = state();
    state.apply(Action::Open);
    assert_eq!(state.pane, Pane::Detail);
    assert!(!state.detail_is_gone());
    let mut snapshot = example::snapshot();
    snapshot.rows.remove(0);
    state.update(Arc::new(snapshot));
    assert!(state.detail_is_gone());
    assert!(state.detail.is_some());
    state.apply(Action::Back);
    assert_eq!((state.pane, state.quit), (Pane::Table, false));
}

#[test]
fn panes_scroll_no_further_than_their_end() {
    let mut state = state();
    state.apply(Action::Help);
    state.fit(Room { page: 10, lines: 25 });
    state.apply(Action::End);
    assert_eq!(state.scroll, 15);
    state.apply(Action::Down);
    assert_eq!(state.scroll, 15);
    state.apply(Action::PageUp);
    assert_eq!(state.scroll, 6);
    state.fit(Room { page: 30, lines: 25 });
    assert_eq!(state.scroll, 0);
    state.apply(Action::Help);
    assert_eq!(state.pane, Pane::Table);
}

#[test]
fn sorting_goes_round_all_columns() {
    let mut state = state();
    let first = state.order.key.word();
    let mut seen = vec![];
    loop {
        state.apply(Action::SortNext);
        seen.push(state.order.key.word());
        if state.order.key.word() == first {
            break;
        }
    }
    assert_eq!(seen.len(), column::SORTED.len());
    state.apply(Action::SortPrevious);
    assert_eq!(state.order.key.word(), seen[seen.len() - 2]);
}

#[test]
fn charges_are_followed_for_the_row_of_the_detail() {
    let (sender, mut demands) = tokio::sync::mpsc::unbounded_channel();
    let mut state = State::new(Options { demands: Some(sender), ..Options::default() });
    state.update(Arc::new(example::snapshot()));
    state.apply(Action::FollowSites);
    assert!(demands.try_recv().is_err(), "a table of rows asks for none of them");
    state.apply(Action::Down);
    state.apply(Action::Open);
    let id = state.rows[state.rows.cursor].container.cgroup.id;
    state.apply(Action::FollowSites);
    assert_eq!(demands.try_recv(), Ok(Demand::Sites(id, SITES)));
}

#[test]
fn each_tab_has_its_own_order_and_cursor() {
    let mut state = State::new(Options::default());
    let snapshot = || Snapshot { logs: Some(Arc::new(example::logs())), ..example::snapshot() };
    state.update(Arc::new(snapshot()));
    state.apply(Action::Down);
    state.apply(Action::NextTab);
    assert_eq!((state.tab, state.streams.len(), state.streams.cursor), (Tab::Logs, 9, 0));
    for _ in 1..logs::SORTED.len() {
        state.apply(Action::SortNext);
    }
    assert_eq!((state.stream_order.key.word(), state.order.key.word()), ("name", "growth"));
    state.apply(Action::SortNext);
    state.apply(Action::Down);
    let id = state.streams[state.streams.cursor].id;
    state.apply(Action::Reverse);
    assert_eq!(state.streams[state.streams.cursor].id, id, "the cursor follows its stream");
    state.apply(Action::Open);
    assert!(!state.detail_is_gone());
    state.update(Arc::new(Snapshot { logs: None, ..snapshot() }));
    assert!(state.detail_is_gone() && state.stream.is_some());
    state.apply(Action::Show(Tab::Memory));
    assert_eq!((state.pane, chosen(&state)), (Pane::Table, String::from("qemu-img")));
}

#[test]
fn calls_are_counted_of_the_row_that_is_shown_and_of_no_other() {
    let (sender, mut demands) = tokio::sync::mpsc::unbounded_channel();
    let mut state = State::new(Options { demands: Some(sender), ..Options::default() });
    state.update(Arc::new(example::snapshot()));
    state.apply(Action::Down);
    assert!(demands.try_recv().is_err(), "nobody has asked yet");
    state.apply(Action::Show(Tab::Calls));
    let id = |state: &State, place: usize| state.rows[place].container.cgroup.id;
    assert_eq!(demands.try_recv(), Ok(Demand::Calls(Some(id(&state, 1)))));
    state.update(Arc::new(example::snapshot()));
    state.apply(Action::SortNext);
    assert!(demands.try_recv().is_err(), "once is enough");
    assert_eq!((state.call_order.key.word(), state.order.key.word()), (calls::SORTED[1], "growth"));
    state.apply(Action::Down);
    assert_eq!(demands.try_recv(), Ok(Demand::Calls(Some(id(&state, 2)))));
    state.apply(Action::NextTab);
    assert_eq!((state.tab, demands.try_recv()), (Tab::Stuck, Ok(Demand::Calls(None))));
}

#[test]
fn stuck_tasks_are_sorted_and_followed() {
    let mut state = state();
    state.update(Arc::new(Snapshot {
        stuck: Some(Arc::new(example::stuck::report())),
        ..example::snapshot()
    }));
    state.apply(Action::Show(Tab::Stuck));
    let tids = |state: &State| state.tasks.iter().map(|task| task.tid).collect::<Vec<_>>();
    assert_eq!(tids(&state), [4711, 2_104_711, 4731, 17102, 88], "longest first");
    state.apply(Action::Down);
    state.apply(Action::Reverse);
    assert_eq!((state.tasks[state.tasks.cursor].tid, state.tasks.cursor), (2_104_711, 3));
    state.apply(Action::SortPrevious);
    assert_eq!(tids(&state), [2_104_711, 17102, 4731, 4711, 88], "by number, the greatest first");
    state.apply(Action::Open);
    assert!(!state.detail_is_gone());
    state.update(Arc::new(example::snapshot()));
    assert!(state.detail_is_gone() && state.task.is_some());
    assert_eq!(state.alarms(Level::Critical), 0);
}
