//! STATE.
pub mod row;
