//! DECISION and ACTION: which hook serves each probe. `registry` lists them, `plan` decides over facts, `attach`
//! alone talks to the loader.

pub mod attach;
pub mod outcome;
pub mod plan;
pub mod registry;
pub mod size;
mod trampoline;
