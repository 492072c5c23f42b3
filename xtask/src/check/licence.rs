//! The licences of everything that is linked into the tool, against a list of those that ask for no more than notice.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command::{cargo, output};

/// Each lets a binary be given away under our own terms.
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

/// Packages with another licence, and why each may be linked all the same.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("btf-rs", "LGPL-2.1-or-later", LGPL), ("btf-rs-derive", "LGPL-2.1-or-later", LGPL)];
const LGPL: &str =
    "asks that whoever gets the tool can build it with a changed library: our sources are public";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

pub(super) fn check() -> Result<()> {
    let printed =
        output(cargo().args(["metadata", "--locked", "--format-version=1", "--filter-platform"]).arg(
            // What is linked elsewhere (Windows, macOS) is not linked into a tool for Linux.
            "x86_64-unknown-linux-gnu",
        ))?;
    let metadata: Metadata =
        serde_json::from_str(&printed).context("cannot read what `cargo metadata` printed")?;
    let linked = linked(&metadata);
    let mut refused = Vec::new();
    for package in metadata.packages.iter().filter(|package| linked.contains(package.id.as_str())) {
        let licence = package.license.as_deref().unwrap_or("(none)");
        let exception = EXCEPTIONS.iter().find(|(name, known, _)| *name == package.name && *known == licence);
        if let Some((name, known, reason)) = exception {
            eprintln!("check: {name} is under {known}, which {reason}");
        } else if !is_allowed(licence) {
            refused.push(format!("{} {}: {licence}", package.name, package.version));
        }
    }
    if !refused.is_empty() {
        bail!(
            "these dependencies have a licence that is not on the list in {}; choose another one or add it with a \
             reason:\n{}",
            file!(),
            refused.join("\n")
        );
    }
    Ok(())
}

/// Everything reached from the workspace through normal dependencies, build and test tools left out.
fn linked(metadata: &Metadata) -> HashSet<&str> {
    let nodes: HashMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut linked = HashSet::new();
    let mut left: Vec<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    while let Some(id) = left.pop() {
        if linked.insert(id)
            && let Some(node) = nodes.get(id)
        {
            let normal =
                |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            left.extend(node.deps.iter().filter(normal).map(|dependency| dependency.pkg.as_str()));
        }
    }
    linked
}

/// An expression such as `MIT OR (Apache-2.0 AND ISC)`: one of the alternatives, all of its parts. `/` is an old `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    any_of(&mut words) && words.is_empty()
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut allowed = all_of(words);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut allowed = one(words);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut &[&str]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any_of(words);
            if let [")", rest @ ..] = *words {
                *words = rest;
            }
            allowed
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            ALLOWED.contains(&format!("{name} WITH {exception}").as_str())
        }
        [name, rest @ ..] => {
            *words = rest;
            ALLOWED.contains(name)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in [
            "GPL-2.0-only",
            "MIT AND GPL-2.0-only",
            "(none)",
            "",
            "(MIT OR ISC) AND AGPL-3.0-only",
            "MIT ISC",
        ] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
