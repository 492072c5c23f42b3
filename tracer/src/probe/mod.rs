//! DECISION and ACTION: which hook serves each probe. `registry` lists them, `plan` decides over facts, `attach`
//! and `trampoline` alone talk to the loader.

pub mod attach;
pub mod outcome;
pub mod plan;
mod refusal;
pub mod registry;
pub mod size;
mod trampoline;
