//! What the screen shows one of at a time, each with its table and the detail of an entry.

pub mod calls;
pub mod findings;
pub mod logs;
pub mod memory;
pub mod stuck;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tab {
    /// Rows by what they hold.
    #[default]
    Memory,
    /// Streams of log lines.
    Logs,
    /// System calls of the chosen row.
    Calls,
    /// Tasks that have been blocked for too long.
    Stuck,
    /// What is wrong.
    Findings,
}

impl Tab {
    /// In the order that the key goes through.
    pub const ALL: [Tab; 5] = [Tab::Memory, Tab::Logs, Tab::Calls, Tab::Stuck, Tab::Findings];

    pub fn title(self) -> &'static str {
        match self {
            Tab::Memory => "memory",
            Tab::Logs => "logs",
            Tab::Calls => "syscalls",
            Tab::Stuck => "stuck",
            Tab::Findings => "findings",
        }
    }

    pub fn next(self) -> Tab {
        let place = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(place + 1) % Tab::ALL.len()]
    }
}
