//! Keys: a thread that waits for the terminal, and the one table of what each key does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use crate::view::tui::{
    state::{Action, State},
    tab::Tab,
};

/// How soon the thread sees that nobody listens any more.
const PATIENCE: Duration = Duration::from_millis(250);
/// More than any held key piles up between two draws.
const WAITING: usize = 256;

/// The terminal's events, read by a thread that ends by itself when this is dropped.
pub struct Keys {
    events: mpsc::Receiver<io::Result<Event>>,
    stop: Arc<AtomicBool>,
}

impl Keys {
    pub fn listen() -> io::Result<Keys> {
        let (sender, events) = mpsc::channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name(String::from("keys")).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let event = match event::poll(PATIENCE) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let failed = match &event {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    event => event.is_err(),
                };
                if sender.blocking_send(event).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Keys { events, stop })
    }

    pub async fn next(&mut self) -> io::Result<Event> {
        self.events.recv().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }

    /// What has come meanwhile.
    pub fn waiting(&mut self) -> Option<io::Result<Event>> {
        self.events.try_recv().ok()
    }

    /// Returns when the thread no longer reads.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.events.recv().await.is_some() {}
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An event's effect. A resize has none of its own: the next draw asks for the size.
pub fn handle(state: &mut State, event: Event) {
    if let Event::Key(key) = event
        && key.kind != KeyEventKind::Release
        && let Some(action) = action(key, state.is_typing())
    {
        state.apply(action);
    }
}

/// The keys, for the help; their meaning is in `action`.
pub const HELP: &[(&str, &str)] = &[
    ("up down, k j, PgUp PgDn, Home End", "move; a row chosen so is followed wherever it goes; Home lets go"),
    (
        "Tab or m l y d f",
        "the next tab; memory of rows, log lines of containers, system calls of the chosen row, stuck tasks (D), findings",
    ),
    ("Enter", "everything known about the chosen row, stream, task or finding; again, or Esc, back"),
    ("> < or s S", "sort by the next or the previous column"),
    ("r", "reverse the order"),
    ("/", "filter: a glob, or a part of a name, an id, a cgroup path, a pod or namespace/pod/container"),
    ("p or space", "pause the picture; counting goes on"),
    ("c", "count charges for 30 s even where that costs every page fault (65-190 ns)"),
    ("w", "in the detail of a row: who charges memory there, and through which kernel functions, for 30 s"),
    ("h or ?", "this help"),
    ("Esc", "close, else drop the filter, else quit"),
    ("q or ctrl-c", "quit"),
];

fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('u') if typing => Some(Action::EraseAll),
            KeyCode::Char('h' | 'w') if typing => Some(Action::Erase),
            _ => None,
        };
    }
    if typing {
        return match key.code {
            KeyCode::Enter => Some(Action::Open),
            KeyCode::Esc => Some(Action::Back),
            KeyCode::Backspace => Some(Action::Erase),
            KeyCode::Char(c) => Some(Action::Type(c)),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Back,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::Home,
        KeyCode::End => Action::End,
        KeyCode::Enter => Action::Open,
        KeyCode::Char('>' | 's') => Action::SortNext,
        KeyCode::Char('<' | 'S') => Action::SortPrevious,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char(' ' | 'p') => Action::Pause,
        KeyCode::Char('c') => Action::CountCharges,
        KeyCode::Char('w') => Action::FollowSites,
        KeyCode::Char('h' | '?') => Action::Help,
        KeyCode::Tab => Action::NextTab,
        KeyCode::Char('m') => Action::Show(Tab::Memory),
        KeyCode::Char('l') => Action::Show(Tab::Logs),
        KeyCode::Char('y') => Action::Show(Tab::Calls),
        KeyCode::Char('d') => Action::Show(Tab::Stuck),
        KeyCode::Char('f') => Action::Show(Tab::Findings),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_text_while_typing() {
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert_eq!(action(key(KeyCode::Char('q')), false), Some(Action::Quit));
        assert_eq!(action(key(KeyCode::Char('q')), true), Some(Action::Type('q')));
        assert_eq!(action(key(KeyCode::Char('S')), false), Some(Action::SortPrevious));
        assert_eq!(action(key(KeyCode::Char('+')), false), None);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(control, true), Some(Action::Quit));
        assert_eq!(action(control, false), Some(Action::Quit));
    }
}
