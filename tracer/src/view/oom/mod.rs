//! OOM kills: which are shown, as blocks for people and as JSON.
//!
//! - `json` is one object a kill; `text` a block a kill, whose first line is enough to act on.

pub mod json;
pub mod text;

use crate::{aggregator::oom::Kill, view::select::Filter};

/// Whether the kill concerns what the filter names: who was killed, or who asked for the memory.
pub fn concerns(kill: &Kill, filter: &Filter) -> bool {
    let trigger = kill.trigger.as_ref().and_then(|trigger| trigger.container.as_deref());
    let mut of = kill.container.as_deref().into_iter().chain(trigger);
    filter.pattern().is_empty() || of.any(|container| filter.matches(container))
}

#[cfg(test)]
mod tests;
