//! Colours and signs. Nothing is told by colour alone: each meaning has a word or a mark beside it.

use ratatui::style::{Color, Modifier, Style};

use crate::view::{composition::Kind, severity::Level, text::Charset};

#[derive(Debug, Clone, Copy)]
pub struct Theme {
    pub charset: Charset,
    color: bool,
}

impl Theme {
    pub fn new(charset: Charset, color: bool) -> Theme {
        Theme { charset, color }
    }

    /// `NO_COLOR`, when set to anything, turns colours off.
    pub fn of_environment(charset: Charset) -> Theme {
        Theme::new(charset, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub fn level(self, level: Option<Level>) -> Style {
        match level {
            Some(Level::Critical) => self.colored(Color::Red).add_modifier(Modifier::BOLD),
            Some(Level::Warning) => self.colored(Color::Yellow),
            None => Style::new(),
        }
    }

    /// Losses: whatever is shown may be short of them.
    pub fn lost(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    /// A state that the reader caused and may forget.
    pub fn flag(self) -> Style {
        self.colored(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub fn title(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Signs of the host's bar: in rows, outside every row, free.
    pub fn bar(self) -> [&'static str; 3] {
        match self.charset {
            Charset::Unicode => ["█", "▒", "·"],
            Charset::Ascii => ["#", "=", "."],
        }
    }

    /// Behind a kind's letter, which tells it without colours.
    pub fn kind(self, kind: Kind) -> Style {
        let color = match kind {
            Kind::Anon => Color::Blue,
            Kind::Cache => Color::Green,
            Kind::Shmem => Color::Magenta,
            Kind::Dirty => Color::Yellow,
            Kind::Slab => Color::Cyan,
            Kind::Kernel => Color::Gray,
            Kind::Sock => Color::Red,
        };
        if self.color { Style::new().fg(Color::Black).bg(color) } else { Style::new() }
    }

    /// Below the last line shown: there is more.
    pub fn more(self) -> &'static str {
        match self.charset {
            Charset::Unicode => "↓",
            Charset::Ascii => "v",
        }
    }

    /// Beside the sorted column's title: which way its numbers go.
    pub fn arrow(self, falling: bool) -> &'static str {
        match (self.charset, falling) {
            (Charset::Unicode, true) => "▾",
            (Charset::Unicode, false) => "▴",
            (Charset::Ascii, true) => "v",
            (Charset::Ascii, false) => "^",
        }
    }
}
