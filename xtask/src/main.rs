//! Everything a developer does, as sub-commands of `cargo xtask`: one file or folder for each.

mod artifact;
mod bench;
mod bless;
mod check;
mod cli;
mod command;
mod docs;
mod hierarchy;
mod install;
mod lab;
mod live;
mod lock;
mod matrix;
mod setup;
mod side_by_side;
mod task;
mod test;
mod top;
mod vm;
mod workspace;

fn main() -> std::process::ExitCode {
    cli::run()
}
