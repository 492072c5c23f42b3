//! Layouts and lists shared by both sides, a module per subject.

pub mod blocked;
pub mod call;
pub mod counter;
pub mod dead;
pub mod dirty;
pub mod event;
pub mod failure;
pub mod line;
pub mod offsets;
pub mod oom;
pub mod setting;
pub mod signal;
pub mod site;
pub mod work;
