//! What is made of the command line's own definitions: shell completions and manual pages, in the folders below a
//! prefix's `share` where shells and man look for them.

mod man;

use std::{fs, path::Path};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Failure, print};
use crate::cli::Cli;

const NAME: &str = "memtrace";

/// Where each shell looks below `share`.
const COMPLETIONS: &[(Shell, &str)] = &[
    (Shell::Bash, "bash-completion/completions/memtrace"),
    (Shell::Zsh, "zsh/site-functions/_memtrace"),
    (Shell::Fish, "fish/vendor_completions.d/memtrace.fish"),
];

/// Writes every file below `share`, and prints their paths.
pub fn share(share: &Path) -> Result<(), Failure> {
    let mut said = String::new();
    for (path, text) in files() {
        let to = share.join(&path);
        let folder = to.parent().unwrap_or(share);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&to, text))
            .map_err(|error| Failure::new(Failure::RUN, format!("cannot write {}: {error}", to.display())))?;
        said.push_str(&path);
        said.push('\n');
    }
    print(&said).map(drop)
}

fn files() -> Vec<(String, Vec<u8>)> {
    let command = visible(&Cli::command());
    let completions = COMPLETIONS.iter().map(|(shell, path)| {
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut command.clone(), NAME, &mut text);
        ((*path).to_owned(), text)
    });
    let pages = man::pages(&command).into_iter().map(|(name, text)| (format!("man/man1/{name}"), text));
    completions.chain(pages).collect()
}

/// The same command line without what is hidden: generators of completions do not ask.
fn visible(command: &Command) -> Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    let mut shown = Command::new(command.get_name().to_owned())
        .args(args)
        .subcommands(commands)
        .subcommand_required(command.is_subcommand_required_set());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word of its own: `--ascii` is not in `--ascii-art`.
    fn has(text: &str, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        text.match_indices(word).any(|(at, _)| {
            !text[at + word.len()..].starts_with(part) && !text[..at].ends_with(|c: char| c.is_alphanumeric())
        })
    }

    fn options(of: &Command, hidden: bool) -> Vec<String> {
        let args = of.get_arguments().filter(|arg| arg.is_hide_set() == hidden);
        args.filter_map(|arg| arg.get_long()).map(str::to_owned).collect()
    }

    #[test]
    fn every_option_is_everywhere_and_no_hidden_one_anywhere() {
        let mut whole = Cli::command();
        whole.build();
        // Without the escapes of a manual page.
        let plain = |text: Vec<u8>| {
            let escapes = [(r"\-", "-"), (r"\fB", ""), (r"\fI", ""), (r"\fR", "")];
            let text = String::from_utf8(text).unwrap();
            escapes.iter().fold(text, |text, (from, to)| text.replace(from, to))
        };
        let files: Vec<(String, String)> =
            files().into_iter().map(|(path, text)| (path, plain(text))).collect();
        for command in whole.get_subcommands() {
            let name = command.get_name();
            let page = files.iter().find(|(path, _)| *path == format!("man/man1/memtrace-{name}.1"));
            if command.is_hide_set() || name == "help" {
                assert!(page.is_none(), "{name}");
                assert!(name == "help" || files.iter().all(|(_, text)| !has(text, name)), "{name}");
                continue;
            }
            let completions = files.iter().filter(|(path, _)| !path.starts_with("man"));
            for (path, text) in completions.chain(page) {
                for option in options(command, false) {
                    // fish has them without the dashes.
                    let word = if path.ends_with(".fish") { option.clone() } else { format!("--{option}") };
                    assert!(has(text, &word), "{option} of {name} in {path}");
                }
                for option in options(command, true) {
                    assert!(!has(text, &format!("--{option}")), "{option} of {name} in {path}");
                }
            }
            assert!(page.is_some(), "{name} has no page");
        }
    }
}
