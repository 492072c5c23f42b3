//! What a row is called; findings say it too, so it is told where names are.

pub use crate::resolve::label::{label, names, short, short_id};
