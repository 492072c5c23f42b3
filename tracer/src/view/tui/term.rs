//! Takes the terminal (raw mode, alternate screen, no cursor) and gives it back: on drop, and on a panic before
//! its message is printed. Signals are the caller's, who drops this.

use std::{
    io::{self, BufWriter, Stdout},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
    },
};
use ratatui::{Frame, Terminal, backend::CrosstermBackend, layout::Rect};

/// A screen is written at once: a 250x60 one with colours is below this.
const BUFFER: usize = 64 << 10;

/// Whether there is something to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

pub struct Term {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Term {
    pub fn enter() -> io::Result<Term> {
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                previous(panic);
            }));
        });
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let entered = execute!(io::stdout(), EnterAlternateScreen, Hide).and_then(|()| {
            Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(BUFFER, io::stdout())))
        });
        match entered {
            Ok(terminal) => Ok(Term { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    pub fn area(&self) -> io::Result<Rect> {
        Ok(Rect::from((ratatui::layout::Position::ORIGIN, self.terminal.size()?)))
    }

    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        restore();
    }
}

/// Once, by whoever comes first. A terminal that is gone cannot be restored, and nobody is left to tell.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Emptied first: after a resize tmux leaves lines above the cursor behind on the reader's own screen.
        drop(execute!(io::stdout(), MoveTo(0, 0), Clear(ClearType::All), LeaveAlternateScreen, Show));
        drop(disable_raw_mode());
    }
}
