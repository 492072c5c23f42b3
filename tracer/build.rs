//! Builds the programs for the kernel; `main.rs` embeds the object.

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    let package = Package {
        name: "tracer-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-ebpf"),
        features: &["ebpf"],
        ..Package::default()
    };
    build_ebpf([package], Toolchain::default())
        .context("cannot build the kernel programs; `cargo xtask setup` installs what that needs")
}
