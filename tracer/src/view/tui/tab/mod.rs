//! What the screen shows one of at a time, each with its table and the detail of an entry.

pub mod calls;
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
    /// Tasks in uninterruptible sleep for too long.
    Stuck,
}

impl Tab {
    /// In the order that the key goes through.
    pub const ALL: [Tab; 4] = [Tab::Memory, Tab::Logs, Tab::Calls, Tab::Stuck];

    pub fn title(self) -> &'static str {
        match self {
            Tab::Memory => "memory",
            Tab::Logs => "logs",
            Tab::Calls => "syscalls",
            Tab::Stuck => "stuck",
        }
    }

    pub fn next(self) -> Tab {
        let place = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(place + 1) % Tab::ALL.len()]
    }
}
