//! The tab of findings, and what other tabs show of them.

use super::*;
use crate::finding::{Finding, Standing, example};

/// The incident of an endless line, in a row of the picture, for some seconds; then it is not found any more.
fn snapshots() -> Vec<Arc<Snapshot>> {
    let picture = crate::view::example::snapshot();
    let row = picture.rows.iter().find(|row| row.container.pod.is_some()).unwrap();
    let mut standing = Standing::new(Duration::from_secs(5));
    let info = |finding: &Finding| {
        let mut other = finding.clone();
        other.id = String::from("log-flood:1");
        other.severity = crate::finding::Severity::Info;
        other.container = None;
        Arc::new(other)
    };
    let seconds = (0..20).map(|second| {
        let found = match second {
            0..=15 => example::incident(second),
            _ => Vec::new(),
        };
        let mut found: Vec<Arc<Finding>> = found
            .into_iter()
            .map(|mut finding| {
                Arc::make_mut(&mut finding).container = Some(Arc::clone(&row.container));
                finding
            })
            .collect();
        found.extend(found.first().map(|finding| info(finding)));
        let findings = standing.tick(Duration::from_secs(second), found);
        let finding_events = Arc::clone(standing.changes());
        Arc::new(Snapshot { findings, finding_events, ..crate::view::example::snapshot() })
    });
    seconds.collect()
}

fn state(second: usize) -> State {
    let mut state = State::new(Options::default());
    for snapshot in &snapshots()[..=second] {
        state.update(Arc::clone(snapshot));
    }
    state
}

#[test]
fn golden_findings() {
    let golden = crate::view::example::golden;
    let mut state = state(15);
    golden("tui_found_80x24", &drawn(&mut state, &theme(), 80, 24));
    golden("tui_found_detail", &{
        state.apply(Action::Filter);
        for c in "importer".chars() {
            state.apply(Action::Type(c));
        }
        state.apply(Action::Open);
        state.apply(Action::Open);
        drawn(&mut state, &theme(), 100, 30)
    });
    state.apply(Action::Show(Tab::Findings));
    golden("tui_findings_80x24", &drawn(&mut state, &theme(), 80, 24));
    golden("tui_findings_200x50", &drawn(&mut state, &theme(), 200, 50));
    state.apply(Action::Open);
    golden("tui_findings_whole", &drawn(&mut state, &theme(), 100, 50));
    let ascii = drawn(&mut state, &Theme::new(Charset::Ascii, false), 100, 24);
    assert!(ascii.is_ascii(), "{ascii}");
}

#[test]
fn what_is_not_found_any_more_stays_a_while_and_says_so() {
    let mut state = state(17);
    state.apply(Action::Show(Tab::Findings));
    let screen = drawn(&mut state, &theme(), 100, 34);
    assert!(screen.contains("? shop/web-7/app") && screen.contains("not found any more"), "{screen}");
    state.apply(Action::Open);
    state.update(Arc::new(crate::view::example::snapshot()));
    assert!(drawn(&mut state, &theme(), 100, 30).contains("CLOSED, as last seen"));
    state.apply(Action::Back);
    assert!(drawn(&mut state, &theme(), 100, 30).contains("nothing is wrong that memtrace can see"));
    state.apply(Action::Open);
    assert_eq!(state.pane, Pane::Table, "nothing to open");
}

#[test]
fn findings_fit_every_screen() {
    let mut state = state(15);
    for (width, height) in [(40, 10), (60, 12), (80, 24), (120, 30), (300, 80)] {
        for tab in [Tab::Findings, Tab::Memory] {
            state.apply(Action::Show(tab));
            let screen = drawn(&mut state, &theme(), width, height);
            assert!(screen.contains("!!"), "{width}x{height}: {screen}");
        }
    }
}
