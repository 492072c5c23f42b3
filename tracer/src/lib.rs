//! memtrace, user side: `kernel` (facts) -> `probe` (plan, attach) -> `event` (bytes) -> `resolve` (names) ->
//! `aggregator` (state) -> `snapshot` -> `view`. A stage imports only the stages to its left; `pipeline` alone
//! sees them all, and `cargo xtask check` fails on a back arrow.

pub mod aggregator;
pub mod cli;
pub mod command;
pub mod event;
pub mod finding;
pub mod kernel;
pub mod metric;
pub mod pipeline;
pub mod probe;
pub mod quantity;
pub mod resolve;
pub mod snapshot;
pub mod view;
