//! Where things are in this workspace.

use std::path::{Path, PathBuf};

/// The folder that holds the top-level `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The folder of build outputs; what xtask fetches or builds is kept there too.
pub(crate) fn target() -> PathBuf {
    // Cargo reads a relative folder from where it is called; all our calls are made in the root.
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}
