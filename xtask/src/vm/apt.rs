//! An apt of our own beside the machine's: other suites from the same mirror, in a state folder below `target/`. The
//! mirror is read from the machine's apt configuration, so that no host is named here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::source::{Source, parse_deb822, parse_one_line};
use crate::command::{command, output};

/// The two archives of Debian: security builds are on a path of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archive {
    Main,
    Security,
}

pub(super) struct Apt {
    dir: PathBuf,
}

/// A package as `apt-cache show` describes it.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) depends: String,
}

impl Apt {
    /// Fetches the lists of the suites; a suite that cannot be had is said and left out.
    pub(super) fn with_suites(dir: PathBuf, suites: &[(&str, Archive)]) -> Result<Self> {
        let apt = Self { dir };
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            let dir = apt.dir.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let sources = machine_sources()?;
        for (suite, archive) in suites {
            let Some(source) = sources.iter().find(|source| source.archive() == Some(*archive)) else {
                eprintln!("vm: apt's sources name no {archive:?} archive of Debian, so {suite} is left out");
                continue;
            };
            if let Err(error) = apt.update(suite, &source.line(suite, false)) {
                let said = format!("{error:#}");
                if !["NO_PUBKEY", "EXPKEYSIG", "is not signed"].iter().any(|sign| said.contains(sign)) {
                    eprintln!("vm: cannot fetch the list of {suite}, so it is left out: {said}");
                    continue;
                }
                // The kernel runs only inside the emulator, without a network.
                eprintln!("vm: this machine lacks the key of {suite}; its packages are taken unchecked");
                apt.update(suite, &source.line(suite, true))?;
            }
        }
        Ok(apt)
    }

    fn update(&self, suite: &str, line: &str) -> Result<()> {
        let parts = self.dir.join("parts");
        fs::create_dir_all(&parts).with_context(|| format!("cannot make {}", parts.display()))?;
        let list = parts.join(format!("{suite}.list"));
        fs::write(&list, format!("{line}\n")).with_context(|| format!("cannot write {}", list.display()))?;
        // A warning of apt-get means that an old list, or none, is used; here that is a failure.
        let updated = output(self.call("apt-get").args(["--error-on=any", "update"]));
        if updated.is_err() {
            fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
        }
        updated.map(drop)
    }

    /// The packages whose name matches.
    pub(super) fn search(&self, name: &str) -> Result<Vec<Package>> {
        let found = output(self.call("apt-cache").args(["--names-only", "search", name]))?;
        let names: Vec<&str> = found.lines().filter_map(|line| line.split(' ').next()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(packages(&output(self.call("apt-cache").arg("show").args(names))?))
    }

    /// Downloads packages into a folder; apt checks their signatures.
    pub(super) fn download(&self, packages: &[Package], into: &Path) -> Result<()> {
        let wanted = packages.iter().map(|package| format!("{}={}", package.name, package.version));
        let mut download = self.call("apt-get");
        download.args(["--quiet", "download"]).args(wanted).current_dir(into);
        output(&mut download).map(drop)
    }

    fn call(&self, program: &str) -> Command {
        let mut call = command(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::State={dir}/state"),
            format!("Dir::State::status={dir}/state/status"),
            format!("Dir::Cache={dir}/cache"),
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={dir}/parts"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The folder may be closed to apt's own user.
            "APT::Sandbox::User=".to_owned() + if crate::command::is_root() { "root" } else { "" },
            // A machine's hooks after an update are about the machine's own lists.
            "APT::Update::Post-Invoke-Success::=true".to_owned(),
        ] {
            call.arg("-o").arg(option);
        }
        // Nothing is installed as far as this apt knows.
        let _ = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("state/status"));
        call
    }
}

fn machine_sources() -> Result<Vec<Source>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(dir.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|end| end.to_str()) {
            Some("list") => sources.extend(parse_one_line(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    ensure!(
        sources.iter().any(|source| source.archive() == Some(Archive::Main)),
        "apt's sources (/etc/apt/sources.list, sources.list.d) name no Debian mirror; kernels are fetched from there"
    );
    Ok(sources)
}

/// The stanzas of `apt-cache show`.
fn packages(text: &str) -> Vec<Package> {
    let field = |stanza: &str, name: &str| {
        let mut lines = stanza.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    text.split("\n\n")
        .filter(|stanza| stanza.contains("Package: "))
        .map(|stanza| Package {
            name: field(stanza, "Package"),
            version: field(stanza, "Version"),
            depends: field(stanza, "Depends"),
        })
        .collect()
}

/// The package with the greatest version, by Debian's own comparison.
pub(super) fn newest(packages: Vec<Package>) -> Result<Package> {
    let mut packages = packages.into_iter();
    let Some(mut best) = packages.next() else { bail!("no such package in the suites that were fetched") };
    for package in packages {
        let mut compare = command("dpkg");
        compare.args(["--compare-versions", &package.version, "gt", &best.version]);
        if crate::command::succeeds(&mut compare) {
            best = package;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_read() {
        let text =
            "Package: a\nVersion: 1\nDepends: b (= 1), c\nDescription: x\n y\n\nPackage: b\nVersion: 2\n\n";
        let found = packages(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].depends.as_str()), ("a", "b (= 1), c"));
        assert_eq!((found[1].version.as_str(), found[1].depends.as_str()), ("2", ""));
    }
}
