//! `cargo xtask install`: puts the tool where `sudo memtrace` finds it, with completions where each shell and manual
//! pages where man looks; and takes away again what it put there, by the list that it leaves.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    artifact,
    command::{command, output},
    setup::{Purpose, set_up},
    workspace,
};

/// What was installed, a path below the prefix a line; folders that were made for it end with a slash.
const LIST: &str = "share/memtrace/installed";

/// Build the tool and put it, its completions and manual pages below PREFIX
#[derive(Args)]
pub(crate) struct Install {
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Remove what was installed below PREFIX
    #[arg(long)]
    uninstall: bool,
    /// Install this one instead of building it
    #[arg(long, value_name = "FILE", conflicts_with = "uninstall")]
    binary: Option<PathBuf>,
}

impl Install {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.uninstall {
            let count = Installed::read(&self.prefix)?.remove()?;
            eprintln!("install: {count} files removed below {}", self.prefix.display());
            return Ok(ExitCode::SUCCESS);
        }
        let binary = match self.binary {
            Some(binary) => binary.canonicalize().with_context(|| format!("no {}", binary.display()))?,
            None => {
                set_up(Purpose::Build)?;
                artifact::memtrace()?
            }
        };
        install(&binary, &self.prefix).with_context(|| {
            format!("cannot install below {}; be root or choose another --prefix", self.prefix.display())
        })?;
        eprintln!("install: {}; now run `sudo memtrace top`", self.prefix.join("bin/memtrace").display());
        Ok(ExitCode::SUCCESS)
    }
}

fn install(binary: &Path, prefix: &Path) -> Result<()> {
    let made = workspace::target().join("share");
    // Pages of commands that are no more.
    let _ = fs::remove_dir_all(&made);
    let written = output(command(binary).arg("generate-share").arg(&made))?;
    // An earlier one's folders are ours to remove, too; its files that are no more are removed now.
    let before = Installed::read(prefix).unwrap_or_else(|_| Installed::none(prefix));
    let mut now = Installed { folders: before.folders.clone(), ..Installed::none(prefix) };
    now.put(binary, "bin/memtrace", 0o755)?;
    for path in written.lines() {
        now.put(&made.join(path), &format!("share/{path}"), 0o644)?;
    }
    now.make_folder(&prefix.join(LIST))?;
    for path in before.files.difference(&now.files) {
        remove(&prefix.join(path))?;
    }
    let list = prefix.join(LIST);
    fs::write(&list, now.text()).with_context(|| format!("cannot write {}", list.display()))
}

/// Paths below the prefix.
struct Installed {
    prefix: PathBuf,
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
}

impl Installed {
    fn none(prefix: &Path) -> Self {
        Self { prefix: prefix.to_owned(), files: BTreeSet::new(), folders: BTreeSet::new() }
    }

    fn read(prefix: &Path) -> Result<Self> {
        let list = prefix.join(LIST);
        let text = fs::read_to_string(&list).with_context(|| {
            format!("nothing was installed below {}: no {}", prefix.display(), list.display())
        })?;
        let mut installed = Self::none(prefix);
        for line in text.lines() {
            // Whoever may write the list must not have root remove anything else.
            if !Path::new(line).components().all(|part| matches!(part, Component::Normal(_))) {
                bail!(
                    "{} has `{line}`, which is not below the prefix; remove the files by hand",
                    list.display()
                );
            }
            match line.strip_suffix('/') {
                Some(folder) => installed.folders.insert(folder.to_owned()),
                None => installed.files.insert(line.to_owned()),
            };
        }
        Ok(installed)
    }

    fn text(&self) -> String {
        let folders = self.folders.iter().map(|folder| format!("{folder}/\n"));
        self.files.iter().map(|file| format!("{file}\n")).chain(folders).collect()
    }

    /// A running memtrace keeps its file: the new one is written beside it and takes its name.
    fn put(&mut self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let to = self.prefix.join(path);
        let beside = to.with_extension("new");
        self.make_folder(&to)?;
        fs::copy(from, &beside)
            .and_then(|_| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)))
            .and_then(|()| fs::rename(&beside, &to))
            .with_context(|| format!("cannot write {}", to.display()))?;
        self.files.insert(path.to_owned());
        Ok(())
    }

    /// The folders of a file, and which of them there were not.
    fn make_folder(&mut self, file: &Path) -> Result<()> {
        let folders = file.ancestors().skip(1).take_while(|folder| **folder != *self.prefix);
        for folder in folders.filter(|folder| !folder.exists()) {
            let below = folder.strip_prefix(&self.prefix).unwrap_or(folder);
            self.folders.insert(below.to_string_lossy().into_owned());
        }
        let folder = file.parent().unwrap_or(file);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
    }

    /// Removes all of it, and says how many files there were.
    fn remove(self) -> Result<usize> {
        let mut count = 0;
        for file in &self.files {
            count += usize::from(remove(&self.prefix.join(file))?);
        }
        remove(&self.prefix.join(LIST))?;
        // Inner ones first; one that holds something else by now stays.
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(self.prefix.join(folder));
        }
        Ok(count)
    }
}

/// Whether it was there.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}
