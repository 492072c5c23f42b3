//! bpf-linker, built against the LLVM that the nightly toolchain brings along. One that is on PATH already is taken
//! if it links what this nightly compiles.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};

use super::{Purpose, nightly::Nightly};
use crate::{
    command::{cargo, command, find, output, succeeds},
    task::Task,
    workspace,
};

/// Enough for the linker to show whether it reads this toolchain's bitcode.
const PROBE: &str = r#"#![no_std]
#[unsafe(no_mangle)]
pub extern "C" fn probe(number: u32) -> u32 {
    number + 1
}
"#;

pub(super) fn look(_: Purpose) -> Result<Option<String>> {
    let Some(path) = find("bpf-linker") else { return Ok(None) };
    let dir = scratch()?;
    let (source, bitcode, object) = (dir.join("probe.rs"), dir.join("probe.bc"), dir.join("probe.o"));
    fs::write(&source, PROBE).with_context(|| format!("cannot write {}", source.display()))?;
    // `rustup run` sets the library path under which the toolchain's LLVM is found, as a build does.
    output(
        command("rustup")
            .args(["run", "nightly", "rustc", "--crate-type=lib", "--emit=llvm-bc", "-Cpanic=abort", "-o"])
            .args([&bitcode, &source]),
    )?;
    let mut linker = command("rustup");
    linker.args(["run", "nightly"]).arg(&path).args(["--target=bpfel", "-o"]).args([&object, &bitcode]);
    if !succeeds(&mut linker) {
        eprintln!("bpf-linker: {} does not link what this nightly compiles", path.display());
        return Ok(None);
    }
    let version = output(command("rustup").args(["run", "nightly"]).arg(&path).arg("--version"))?;
    Ok(Some(format!("there ({})", version.trim())))
}

pub(super) fn install(_: Purpose, task: &Task) -> Result<()> {
    let nightly = Nightly::ask()?;
    let prefix = scratch()?.join("llvm");
    lay_out(&nightly.sysroot, &prefix)?;
    let feature = format!("llvm-{}", nightly.llvm_major);
    let mut install = cargo();
    install.args([
        "install",
        "bpf-linker",
        "--locked",
        "--force",
        "--no-default-features",
        "--features",
        &feature,
    ]);
    // Ours may hold flags for the programs in the kernel or for coverage; they are not for a tool.
    install.env("LLVM_PREFIX", &prefix).env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    task.run(&mut install).with_context(|| {
        format!(
            "is the registry reached, and does bpf-linker know LLVM {}? If not, install an older nightly \
             or put a bpf-linker that fits on PATH",
            nightly.llvm_major
        )
    })?;
    look(Purpose::Build)?.map(drop).context(
        "it was built but does not link what the nightly compiles; is cargo's `bin` folder first on PATH?",
    )
}

/// bpf-linker looks for `lib/libLLVM.so`; the toolchain has it under a name with version and channel.
fn lay_out(sysroot: &Path, prefix: &Path) -> Result<()> {
    let lib = sysroot.join("lib");
    let library = fs::read_dir(&lib)
        .with_context(|| format!("cannot read {}", lib.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so.")))
        .with_context(|| format!("{} holds no libLLVM.so; reinstall the nightly toolchain", lib.display()))?;
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("cannot make {}", prefix.display()))?;
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("cannot remove {}", link.display()))?;
    }
    symlink(&library, &link)
        .with_context(|| format!("cannot link {} to {}", link.display(), library.display()))
}

fn scratch() -> Result<std::path::PathBuf> {
    let dir = workspace::target().join("setup");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}
